#include "kindred/executor.hpp"

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/process.hpp"
#include "pool/pool_core.hpp"

namespace kindred {

ProcessPoolExecutor::ProcessPoolExecutor(Entry&, ExecutorOptions options)
    : core_{new internal::PoolCore{std::move(options),
                                   internal::CollectorKey{internal::Passkey<ProcessPoolExecutor>{}}}},
      logger_{internal::CollectorKey{internal::Passkey<ProcessPoolExecutor>{}}, core_->collector()} {}

ProcessPoolExecutor::~ProcessPoolExecutor() {
  if (!core_->here()) {
    core_->abandon_after_fork();  // the child of a fork: all of it is the parent's
    return;
  }
  core_->close();
  core_->release_by_executor();
}

void ProcessPoolExecutor::check(const TaskOptions& options) {
  const auto positive = [](const std::optional<std::chrono::nanoseconds>& time, const char* name) {
    if (time && time->count() <= 0) {
      throw UsageError{std::string{"TaskOptions::"} + name + " is " + std::to_string(time->count()) +
                       " ns. Use a time greater than 0, or none."};
    }
  };
  positive(options.timeout, "timeout");
  positive(options.soft_timeout, "soft_timeout");
  positive(options.queue_timeout, "queue_timeout");
  if (options.retries < 0 || options.retries > 60000) {
    throw UsageError{"TaskOptions::retries is " + std::to_string(options.retries) + ". Use 0 to 60000."};
  }
  if (options.name.size() > 4096) {
    throw UsageError{"TaskOptions::name has " + std::to_string(options.name.size()) +
                     " bytes. Use 4096 or less."};
  }
}

void ProcessPoolExecutor::shutdown(ShutdownOptions options) {
  core_->shutdown(options.wait, options.cancel_pending);
}
void ProcessPoolExecutor::terminate_workers() { core_->end_workers(false); }
void ProcessPoolExecutor::kill_workers() { core_->end_workers(true); }

void ProcessPoolExecutor::resize(Count max_workers) {
  if (max_workers.value() < 1 || max_workers.value() > 4096) {
    throw UsageError{"resize to " + std::to_string(max_workers.value()) + " workers. Use 1 to 4096."};
  }
  core_->resize(static_cast<std::size_t>(max_workers.value()));
}

ExecutorLogger& ProcessPoolExecutor::logger() noexcept { return logger_; }
PoolStats ProcessPoolExecutor::stats() const { return core_->stats(); }
void ProcessPoolExecutor::trace(const std::string& path, Count max_bytes) {
  if (max_bytes.value() < 1 << 16) {
    throw UsageError{"a trace of at most " + std::to_string(max_bytes.value()) +
                     " bytes. Use 65536 or more."};
  }
  core_->trace(path, static_cast<std::uint64_t>(max_bytes.value()));
}
StartMethod ProcessPoolExecutor::start_method() const noexcept { return core_->options().start_method; }
std::size_t ProcessPoolExecutor::max_workers() const noexcept { return core_->max_workers(); }
std::vector<std::uint32_t> ProcessPoolExecutor::worker_pids() const { return core_->worker_pids(); }
void ProcessPoolExecutor::set_initializer(Call initializer) {
  core_->set_initializer(std::move(initializer));
}
internal::SharedObjectRegistry& ProcessPoolExecutor::shared() { return core_->shared_objects(); }

std::vector<LogRecord> FutureBase::log() const { return state().log(); }

namespace internal {

TaskFacts facts_of_task(FutureState& state) {
  return pool_of(state)->facts_of(static_cast<TaskState&>(state));
}
double run_seconds(FutureState& state) noexcept {
  return static_cast<double>(static_cast<TaskState&>(state).ran_ticks) / ticks_per_nanosecond() / 1e9;
}
std::size_t pool_workers(PoolCore& pool) noexcept { return pool.max_workers(); }
std::size_t pool_workers_beside_caller(PoolCore& pool) noexcept { return pool.workers_beside_caller(); }
void require_open(PoolCore& pool) { pool.require_open(); }
PoolReference::PoolReference(PoolCore& pool) noexcept : pool_{&pool} { pool.retain(); }
PoolReference::~PoolReference() {
  if (pool_ != nullptr) pool_->release();
}

void check_map_options(const MapOptions& options, bool keeps) {
  if (options.chunk_size.value() < 0) {
    throw UsageError{"MapOptions::chunk_size is " + std::to_string(options.chunk_size.value()) +
                     ". Use 1 or more, or 0 for a size that adapts."};
  }
  if (options.buffer_size.value() < 0) {
    throw UsageError{"MapOptions::buffer_size is " + std::to_string(options.buffer_size.value()) +
                     ". Use 1 or more, or 0 for one that suits the pool."};
  }
  if (options.timeout && options.timeout->count() < 0) {
    throw UsageError{"MapOptions::timeout is " + std::to_string(options.timeout->count()) +
                     " ns. Use 0 or more, or none."};
  }
  if (options.item_timeout && options.item_timeout->count() <= 0) {
    throw UsageError{"MapOptions::item_timeout is " + std::to_string(options.item_timeout->count()) +
                     " ns. Use a time greater than 0, or none."};
  }
  if (options.retries < 0 || options.retries > 60000) {
    throw UsageError{"MapOptions::retries is " + std::to_string(options.retries) + ". Use 0 to 60000."};
  }
  if (options.name.size() > 4096) {
    throw UsageError{"MapOptions::name has " + std::to_string(options.name.size()) +
                     " bytes. Use 4096 or less."};
  }
  if (!keeps && options.on_error == OnItemError::keep) {
    throw UsageError{
        "MapOptions::on_error is OnItemError::keep in a variable that was passed to map, whose range has the results "
        "themselves for elements. Call map_outcomes with these options, or write {.on_error = OnItemError::keep} in the "
        "call of map: then the elements are Outcomes."};
  }
}

bool ends_map(const std::exception_ptr& error) noexcept {
  try {
    std::rethrow_exception(error);
  } catch (const BrokenProcessPool&) {
    return true;
  } catch (const Cancelled&) {
    return true;
  } catch (...) {
    return false;
  }
}

std::unique_ptr<TaskOptions> options_of_items(const MapOptions& options) {
  if (options.name.empty() && !options.item_timeout && options.retries == 0) return nullptr;
  return std::make_unique<TaskOptions>(
      TaskOptions{.name = options.name, .timeout = options.item_timeout, .retries = options.retries});
}
std::unique_ptr<TaskOptions> options_of_chunks(const MapOptions& options) {
  return options.name.empty() ? nullptr : std::make_unique<TaskOptions>(TaskOptions{.name = options.name});
}

}  // namespace internal
}  // namespace kindred
