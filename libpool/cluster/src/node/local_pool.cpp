#include "node/local_pool.hpp"

#include <algorithm>

#include "kindred/error.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/task_error.hpp"

namespace kindred::internal {
namespace {

using namespace cluster;
using std::chrono::nanoseconds;

constexpr std::size_t max_record_bytes = 16U << 20U;  ///< that wait for the node's thread
constexpr auto idle_time = std::chrono::seconds{30};

RemoteCall call_of(const CallCode& code, const Bytes& arguments, bool load_libraries) {
  RemoteCall call;
  call.entry = code.entry;
  call.function = code.function;
  for (const ModuleName& module : code.modules)
    call.modules.push_back({module.index, module.path, module.build_id});
  call.load_libraries = load_libraries;
  call.arguments = arguments;
  return call;
}

/// How a task of the local pool ended, in the words of the wire.
Result result_of(std::uint64_t task, std::uint32_t attempts_before, const Future<RemoteEnd>& future,
                 std::string& broken) {
  Result result;
  result.task = task;
  const auto about = [&](const AboutTask& error) {
    result.worker = error.worker();
    result.pid = error.pid();
    result.incarnation = error.incarnation();
    result.attempt = attempts_before + error.attempt();
  };
  try {
    RemoteEnd end = future.get();
    result.kind = end.threw ? EndKind::threw : EndKind::value;
    result.bytes = std::move(end.bytes);
    result.ran_ns = end.ran_ns;
    result.worker = end.worker;
    result.pid = end.pid;
    result.incarnation = end.incarnation;
    result.attempt = attempts_before + end.attempt;
  } catch (const WorkerLost& lost) {
    about(lost);
    result.kind = EndKind::lost;
    result.exit_kind = static_cast<std::uint8_t>(lost.exit_reason().kind);
    result.exit_code = lost.exit_reason().code;
    result.exit_signal = lost.exit_reason().signal;
    result.core_dumped = lost.exit_reason().core_dumped;
    result.lines = lost.last_log_lines();
    result.backtrace = lost.backtrace();
  } catch (const TaskTimeout& timeout) {
    about(timeout);
    result.kind = EndKind::timeout;
    result.limit_ns = timeout.limit().count();
    result.ran_ns = timeout.ran_for().count();
  } catch (const Cancelled& cancelled) {
    about(cancelled);
    result.kind = EndKind::cancelled;
    result.text = "while it ran: its worker was killed";
  } catch (const BrokenProcessPool& error) {
    broken = error.what();
  } catch (const std::exception& error) {
    result.kind = EndKind::refused;
    result.text = error.what();
  }
  return result;
}

}  // namespace

ExecutorOptions LocalPool::pool_options(const NodeOptions& options, std::size_t workers,
                                        const Manifest& manifest) {
  ExecutorOptions made;
  made.start_method = options.start_method;
  made.max_workers = static_cast<std::int64_t>(workers);
  made.worker = options.worker;
  made.idle_timeout = idle_time;
  made.max_tasks_per_worker = manifest.max_tasks_per_worker;
  made.max_rss_per_worker = manifest.max_rss_per_worker;
  made.restart_limit = {.count = manifest.restart_count, .period = nanoseconds{manifest.restart_period_ns}};
  if (manifest.initializer_timeout_ns > 0)
    made.initializer_timeout = nanoseconds{manifest.initializer_timeout_ns};
  const bool load = options.worker.load_libraries;
  if (manifest.finalizer.code.entry != 0)
    made.finalizer = {run_remote_finalizer,
                      call_of(manifest.finalizer.code, manifest.finalizer.arguments, load)};
  made.log.level =
      static_cast<Level>(std::min<std::uint8_t>(manifest.level, static_cast<std::uint8_t>(Level::off)));
  return made;
}

LocalPool::LocalPool(Entry& entry, const NodeOptions& options, std::size_t workers, std::uint64_t life,
                     const Manifest& manifest, const LocalPoolEvents& events)
    : load_libraries_{options.worker.load_libraries},
      shared_{std::make_shared<Shared>()},
      pool_{entry, pool_options(options, workers, manifest)} {
  shared_->life = life;
  shared_->events = events;
  shared_->ready = pool_.make_array<std::uint8_t>(1, ArrayAccess::all_write);
  pool_.set_initializer({run_remote_initializer,
                         call_of(manifest.initializer.code, manifest.initializer.arguments, load_libraries_),
                         shared_->ready});
  pool_.logger().add_sink([shared = shared_](const LogRecord& record) { take_record(*shared, record); });
}

LocalPool::~LocalPool() {
  {
    const std::scoped_lock lock{shared_->mutex};
    shared_->open = false;
  }
  pool_.kill_workers();
}

void LocalPool::take_record(Shared& shared, const LogRecord& record) {
  {
    const std::scoped_lock lock{shared.mutex};
    if (!shared.open) return;
    if (shared.bytes > max_record_bytes) {
      ++shared.lost;
      return;
    }
    WireRecord wire = to_wire(record);
    if (wire.task != 0) {
      const auto task = shared.tasks.find(wire.task);
      wire.task = task == shared.tasks.end() ? 0 : task->second.first;
      if (task != shared.tasks.end()) wire.attempt += task->second.second;
    }
    shared.bytes += sizeof wire + wire.message.size();
    shared.records.push_back(std::move(wire));
    if (shared.records.size() > 1) return;  // the first one has told
  }
  shared.events.logged(shared.life);
}

LogBatch LocalPool::take_records() {
  LogBatch batch;
  const std::scoped_lock lock{shared_->mutex};
  batch.records.swap(shared_->records);
  batch.lost = std::exchange(shared_->lost, 0);
  shared_->bytes = 0;
  return batch;
}

void LocalPool::start(const Grant& grant) {
  TaskOptions options;
  options.name = grant.name.substr(0, 4096);
  if (grant.timeout_ns > 0) options.timeout = nanoseconds{grant.timeout_ns};
  if (grant.soft_timeout_ns > 0) options.soft_timeout = nanoseconds{grant.soft_timeout_ns};
  options.retries = std::clamp(grant.retries, 0, 60'000);
  options.priority = grant.priority;
  const std::uint32_t before = grant.attempt - 1;
  try {
    // Under the lock, so that no record of the task comes before its number is known.
    std::unique_lock lock{shared_->mutex};
    RemoteCall call = call_of(grant.code, grant.arguments, load_libraries_);
    call.job = grant.job;
    call.task = grant.task;
    call.attempts_before = before;
    auto future = pool_.submit(options, run_remote, std::move(call));
    const std::uint64_t local = future.task_id();
    shared_->tasks[local] = {grant.task, before};
    lock.unlock();
    auto& kept = tasks_[grant.task];
    kept = {std::move(future), grant.attempt, false};
    kept.future.on_done([shared = shared_, task = grant.task, before, local](Future<RemoteEnd>& done) {
      std::string broken;
      Result result = result_of(task, before, done, broken);
      {
        const std::scoped_lock hold{shared->mutex};
        if (!shared->open) return;
        if (shared->tasks.size() > 4096) shared->tasks.erase(local);  // late records still find theirs
      }
      if (broken.empty())
        shared->events.ended(shared->life, std::move(result));
      else
        tell_broken(*shared, std::move(broken));
    });
  } catch (const BrokenProcessPool& error) {
    tell_broken(*shared_, error.what());
  } catch (const std::exception& error) {
    Result result;
    result.task = grant.task;
    result.kind = EndKind::refused;
    result.text = error.what();
    shared_->events.ended(shared_->life, std::move(result));
  }
}

// No worker has come up: then no task can have begun.
void LocalPool::tell_broken(Shared& shared, std::string why) {
  shared.events.broken(shared.life, std::move(why), shared.ready.at(0) != 0);
}

CancelAnswer LocalPool::cancel(std::uint64_t task, Running how) {
  const auto found = tasks_.find(task);
  if (found == tasks_.end() || found->second.future.done()) return CancelAnswer::unknown;
  const bool running = found->second.future.running();
  const bool cancelled = found->second.future.cancel(how);
  if (cancelled && !running && how == Running::leave) return CancelAnswer::dropped;
  return CancelAnswer::begun;
}

std::vector<std::uint64_t> LocalPool::newly_begun() {
  std::vector<std::uint64_t> begun;
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    Held& each = task->second;
    if (each.future.done()) {
      task = tasks_.erase(task);
      continue;
    }
    if (!each.told_begun && each.future.running()) {
      each.told_begun = true;
      begun.push_back(task->first);
    }
    ++task;
  }
  return begun;
}

}  // namespace kindred::internal
