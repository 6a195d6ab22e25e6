#include "kindred/cluster.hpp"

#include <algorithm>

#include "executor_access.hpp"
#include "head/cluster_core.hpp"
#include "kindred/internal/exception_codec.hpp"

namespace kindred {

ClusterExecutor::ClusterExecutor(ClusterEntry& entry, ClusterOptions options)
    : core_{std::make_shared<internal::ClusterCore>(entry, std::move(options))} {}

ClusterExecutor::~ClusterExecutor() {
  core_->shutdown({.wait = true});
  core_->stop();
}

void ClusterExecutor::shutdown(ShutdownOptions options) { core_->shutdown(options); }
ExecutorLogger& ClusterExecutor::logger() noexcept { return core_->pool().logger(); }
ClusterStats ClusterExecutor::stats() const { return core_->stats(); }
std::vector<NodeInfo> ClusterExecutor::nodes() const { return core_->nodes(); }
void ClusterExecutor::on_node(std::function<void(const NodeEvent&)> callback) {
  core_->on_node(std::move(callback));
}

std::vector<ClusterTaskInfo> ClusterExecutor::tasks() const { return core_->tasks(); }
void ClusterExecutor::drop(std::uint64_t task_id) { core_->drop(task_id); }

namespace internal {

void adopt_task(ClusterCore& core, std::uint64_t id, const StateHandle& state, RemoteTask& task) {
  core.adopt(id, state, task);
}

PoolCore* pool_of(ClusterCore& core) noexcept { return ExecutorAccess::core(core.pool()); }
void check_cluster_options(const TaskOptions& options) { ExecutorAccess::check(options); }

// --- maps

void require_open(ClusterCore& core) { core.require_open(); }
ClusterMapHome::Reference::Reference(ClusterCore& core) : core_{core.shared_from_this()} {}
std::size_t ClusterMapHome::workers(ClusterCore& core) { return std::max<std::size_t>(core.workers(), 2); }

std::unique_ptr<TaskOptions> ClusterMapHome::options_of_chunks(const MapOptions& options) {
  // Where items have a time limit, each chunk is one item.
  if (options.name.empty() && !options.item_timeout && options.retries == 0) return nullptr;
  return std::make_unique<TaskOptions>(
      TaskOptions{.name = options.name, .timeout = options.item_timeout, .retries = options.retries});
}

TaskFacts ClusterMapHome::facts(FutureState& state) {
  TaskFacts facts;
  facts.task_id = state.task_id();
  facts.task_name = "map";
  return facts;
}

StateHandle ClusterMapHome::Submission::submit(const EntryInfo& entry, const void* function,
                                               const TaskOptions* options) {
  auto* const bytes = new RemoteBytes{core_.shared_from_this()};
  StateHandle state{bytes};
  (void)submission_.submit(entry, function, options, state, *bytes, false);
  return state;
}

// --- what futures ask

bool RemoteTask::ask_running() const { return core_->running(id_); }
bool RemoteTask::ask_cancel(Running how) {
  return core_->cancel(id_, how) || state().outcome() == Outcome::cancelled;
}
void RemoteTask::ask_cancel_pending() { core_->cancel_pending(id_); }

std::vector<LogRecord> RemoteTask::ask_log() const {
  std::vector<LogRecord> records;
  for (const LogRecord& record : core_->pool().logger().kept_records()) {
    if (record.task_id == id_) records.push_back(record);
  }
  return records;
}

void RemoteTask::fail_unreadable() noexcept {
  TaskFacts facts;
  facts.task_id = id_;
  state().fail(make_task_error(std::current_exception(), TaskPhase::reading_result, facts, ContextId{}));
}

// --- submission

ClusterSubmission::ClusterSubmission(ClusterCore& core)
    : core_{core}, bytes_(256), encoder_{ContextId{}, bytes_, &grow, this} {
  core.require_open();
}

std::span<std::byte> ClusterSubmission::grow(void* self, std::span<const std::byte> written,
                                             std::size_t more) {
  auto& bytes = static_cast<ClusterSubmission*>(self)->bytes_;
  bytes.resize(std::max(2 * written.size(), written.size() + more));
  return bytes;
}

void ClusterSubmission::arguments_failed() {
  try {
    throw;
  } catch (const UsageError&) {
    throw;
  } catch (...) {
    argument_error_ = std::current_exception();
  }
}

bool ClusterSubmission::submit(const EntryInfo& entry, const void* function, const TaskOptions* options,
                               const StateHandle& state, RemoteTask& task, bool try_only) {
  if (argument_error_) {
    TaskFacts facts;
    if (options != nullptr) facts.task_name = options->name;
    task.state().fail(make_task_error(argument_error_, TaskPhase::writing_arguments, facts, ContextId{}));
    return true;
  }
  const std::size_t size = encoder_.size();
  bytes_.resize(size);
  return core_.submit(entry, function, options, std::move(bytes_), state, task, try_only);
}

}  // namespace internal
}  // namespace kindred
