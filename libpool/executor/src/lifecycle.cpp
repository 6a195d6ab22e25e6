#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>

#include "kindred/error.hpp"
#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/log.hpp"
#include "nesting.hpp"
#include "output_capture.hpp"
#include "pool_core.hpp"
#include "pool_part.hpp"
#include "worker_process.hpp"

// The pool's birth, end, and what it tells of itself.
namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

ExecutorOptions checked(ExecutorOptions options) {
  options.validate();
  // The program's own stdout and stderr are files and terminals of the program's.
  if (options.worker.sandbox) options.worker.capture_output = true;
  for (auto* const limit : {&options.idle_timeout, &options.initializer_timeout, &options.terminate_grace,
                            &options.stopped_limit, &options.preload_timeout}) {
    if (*limit) *limit = within_longest_wait(**limit);
  }
  for (auto* const limit :
       {&options.shutdown_grace, &options.restart_limit.period, &options.metrics_interval})
    *limit = within_longest_wait(*limit);
  return options;
}

}  // namespace

PoolCore::PoolCore(ExecutorOptions options, CollectorKey key)
    : options_{checked(std::move(options))},
      owner_pid_{process_id()},
      initializer_{options_.initializer},
      context_{{}, options_.start_method},
      collector_{key,
                 context_.life(),
                 options_.log,
                 {.task_name = [this](std::uint64_t reference) { return name_of_reported_code(reference); },
                  .corrupt =
                      [this](SourceId source, std::string_view what) {
                        const std::scoped_lock lock{mutex_};
                        for (const auto& slot : slots_) {
                          if (slot->segment && slot->log_source == source) condemn(*slot, std::string{what});
                        }
                      }}},
      shared_objects_{std::make_unique<SharedObjectRegistry>(context_.life())},
      usable_cpus_{usable_cpus()} {
  if (const unsigned depth = nesting_depth();
      depth + 1 > static_cast<std::uint64_t>(options_.max_depth.value())) {
    throw UsageError{"a pool in a worker of a pool: this one would be at depth " + std::to_string(depth + 1) +
                     ", and ExecutorOptions::max_depth is " + std::to_string(options_.max_depth.value()) +
                     ". Raise max_depth if so many processes are meant."};
  }
  max_workers_ = options_.max_workers.value() == 0 ? usable_cpus_
                                                   : static_cast<std::size_t>(options_.max_workers.value());
  shared_objects_->make_room_for(2 * max_workers_ +
                                 2);  // a worker that leaves may still hold what its successor has
  worker_main_ = context_.code().reference(reinterpret_cast<const void*>(&worker_main));
  const unsigned threads = thread_count();
  context_.begin(options_.worker, encode_pool_part(),
                 options_.preload.empty()
                     ? 0
                     : context_.code().reference(reinterpret_cast<const void*>(&prepare_fork_server)),
                 with_spdlog_registry_held);
  if (const auto& sandbox = context_.sandbox()) note(Level::info, describe(*sandbox));
  if (options_.start_method == StartMethod::fork && threads > 1) {
    note(
        Level::warn,
        "start method fork: the program has " + std::to_string(threads) +
            " threads at the executor's construction. The workers are copies of the constructing thread alone: a lock that another "
            "thread holds now stays locked in them. Make the executor before other threads, or use forkserver.");
  }
  begin_watching();
  if (options_.handle_interrupt) {
    interrupt_ = std::make_unique<InterruptWatch>();
    Lock lock{mutex_};
    start_supervisor();
    flush_afterwards(lock);
  }
  if (options_.start_all) {
    Lock lock{mutex_};
    start_supervisor();
    want_workers_now();
    flush_afterwards(lock);
  }
}

PoolCore::~PoolCore() = default;

void PoolCore::release_by_executor() noexcept {
  // Before the store is closed: a room that comes back after that counts its reference down, though nobody
  // has counted the rooms yet.
  constexpr std::size_t more_than_rooms = std::size_t{1} << 48U;
  std::size_t references = 1 + more_than_rooms;
  references_.fetch_add(more_than_rooms, std::memory_order_relaxed);
  {
    const std::scoped_lock lock{mutex_};
    executor_gone_ = true;
    references -= tasks_.close();
  }
  release(references);
}

bool PoolCore::drop_last_of_open(TaskState& task) noexcept {
  if (!here()) return false;  // a copy in the child of a fork, where somebody may hold the lock for ever
  retain();                   // once the reference is dropped, the task's room does not keep the pool for us
  bool ours = false;
  {
    KINDRED_INJECTION_POINT("parent.forget.before_lock");
    const std::scoped_lock lock{mutex_};
    if (task.drop_reference()) {  // else a timer has it by now, and its unpin does the rest: the task is not
                                  // ours to look at
      ours = task.finished();
      if (!ours) task.forget();
    }
  }
  release();
  return ours;
}

std::vector<std::byte> PoolCore::encode_pool_part() {
  start_attachments_.clear();
  return write_pool_part(context_.code(), context_.id(), initializer_, options_, start_attachments_);
}

TaskFacts PoolCore::facts_of(const TaskState& task) const {
  if (task.finished()) return facts(task, nullptr);  // nothing changes any more
  const std::scoped_lock lock{mutex_};
  return facts(task, nullptr);
}

SharedObjectRegistry& PoolCore::shared_objects() {
  require_here("executor");
  return *shared_objects_;
}

std::vector<LogRecord> PoolCore::log_of(std::uint64_t task_id) {
  require_here("future");
  return collector_.records_of_task(task_id);
}

std::size_t PoolCore::live_workers() const noexcept {
  std::size_t live = 0;
  for (const auto& slot : slots_) live += slot->state != WorkerSlot::State::empty ? 1U : 0U;
  return live;
}

void PoolCore::shutdown(bool wait, bool cancel_pending) {
  require_here("executor");
  Lock lock{mutex_};
  (void)pump();
  closed_ = true;
  if (cancel_pending) {
    finishes_chains_ = false;
    cancel_waiting();
  }
  room_.notify_all();
  if (supervisor_runs_) kick();
  if (leader_ != nullptr) wake(*leader_);
  flush_afterwards(lock);
  // From one of our own threads it would wait for itself.
  if (!wait || callbacks_.on_its_thread() || supervisor_.get_id() == std::this_thread::get_id()) return;
  lock.lock();
  changed_.wait(lock, [&] { return !supervisor_runs_ || stop_supervisor_ || ended_; });
  flush_afterwards(lock);
  (void)collector_.flush(steady_clock::now() + options_.log.flush_limit);
}

void PoolCore::end_workers(bool kill) {
  require_here("executor");
  Lock lock{mutex_};
  (void)pump();
  closed_ = true;
  finishes_chains_ = false;
  kill_all_ = kill ? SIGKILL : SIGTERM;
  wanted_ = 0;
  const auto failure = [kill] {
    return std::make_unique<StoredFailure<BrokenProcessPool>>(
        BrokenProcessPool{std::string{"the workers were ended by "} +
                          (kill ? "kill_workers" : "terminate_workers") + " before this task began"});
  };
  if (!broken_) broken_ = failure();
  for (const auto& slot : slots_) {
    if (!slot->segment) continue;
    take_back_all(*slot);
    kill_slot_with(*slot, kill_all_);
  }
  fail_waiting(failure);
  room_.notify_all();
  if (supervisor_runs_) kick();
  const auto until = steady_clock::now() + options_.shutdown_grace;
  flush_afterwards(lock);
  if (callbacks_.on_its_thread() || supervisor_.get_id() == std::this_thread::get_id()) return;
  lock.lock();
  const auto gone = [&] { return live_workers() == 0; };
  if (!changed_.wait_until(lock, until, gone)) {
    kill_all_ = SIGKILL;
    for (const auto& slot : slots_) kill_slot_with(*slot, SIGKILL);
    changed_.wait(lock, gone);
  }
  flush_afterwards(lock);
}

void PoolCore::resize(std::size_t workers) {
  require_here("executor");
  Lock lock{mutex_};
  max_workers_ = workers;
  shared_objects_->make_room_for(2 * max_workers_ + 2);
  if (supervisor_runs_) kick();
  flush_afterwards(lock);
}

void PoolCore::close() {
  shutdown(true, false);
  callbacks_.finish();  // its last callbacks may still have finished continuations
  Lock lock{mutex_};
  stop_supervisor_ = true;
  ended_ = true;
  if (supervisor_runs_) kick();
  flush_afterwards(lock);
  if (supervisor_.joinable()) supervisor_.join();
  poll_.reset();
  {
    const std::scoped_lock pins{mutex_};
    timers_ = {};  // their tasks keep the pool, and would for ever
  }
  interrupt_.reset();
  end_watching();
  context_.end_launcher();
  shared_objects_->close();
  (void)collector_.shutdown(steady_clock::now() + options_.log.flush_limit);
  context_.life()->open.store(false, std::memory_order_relaxed);
}

void PoolCore::forsake() {
  if (supervisor_.joinable()) supervisor_.detach();
  (void)poll_.release();  // its thread is the parent's
  callbacks_.forsake();
  (void)interrupt_.release();
  context_.forsake();
}

PoolStats PoolCore::count_all(std::vector<std::optional<SourceId>>& sources) const {
  PoolStats all = totals_;
  all.pending = waiting_.size();
  const auto nanoseconds = [](std::uint64_t count) {
    return std::chrono::nanoseconds{
        static_cast<std::int64_t>(static_cast<double>(count) / ticks_per_nanosecond())};
  };
  for (const auto& slot : slots_) {
    WorkerStats one = slot->stats;
    one.incarnation = slot->incarnation;
    one.pid = slot->worker.process.pid();
    one.run_time = nanoseconds(slot->run_ticks);
    one.queue_time = nanoseconds(slot->queue_ticks);
    sources.push_back(slot->segment ? std::optional{slot->log_source} : std::nullopt);
    for (std::size_t i = 0; slot->segment && i < slot->in_flight.size(); ++i) {
      const bool queued =
          slot->in_flight[i].header->state.load(std::memory_order_relaxed) == call_state::queued;
      (queued ? all.pending : all.running) += 1;
      if (!queued) one.running_task = slot->in_flight[i].task->id;
    }
    all.per_worker.push_back(one);
  }
  all.failed = all.submitted - all.done - all.lost - all.cancelled - outstanding_;
  all.workers = live_workers();
  all.run_time = nanoseconds(total_ticks_.run);
  all.queue_time = nanoseconds(total_ticks_.queue);
  all.supervisor_wakeups = supervisor_wakeups_;
  return all;
}

void PoolCore::add_log_and_memory(PoolStats& all, const std::vector<std::optional<SourceId>>& sources) const {
  for (std::size_t i = 0; i < all.per_worker.size(); ++i) {
    WorkerStats& one = all.per_worker[i];
    if (one.pid != 0) all.rss_bytes += one.rss_bytes = resident_bytes(one.pid);
    if (!sources[i]) continue;
    const LogSourceStats log = collector_.source_stats(*sources[i]);
    one.records += log.records;
    one.dropped_records += log.dropped;
  }
  all.log = collector_.stats();
}

PoolStats PoolCore::stats() {
  require_here("executor");
  PoolStats all;
  std::vector<std::optional<SourceId>> sources;
  {
    Lock lock{mutex_};
    (void)pump();
    all = count_all(sources);
    flush_afterwards(lock);
  }
  add_log_and_memory(all, sources);
  return all;
}

std::vector<std::uint32_t> PoolCore::worker_pids() {
  require_here("executor");
  const std::scoped_lock lock{mutex_};
  std::vector<std::uint32_t> pids;
  for (const auto& slot : slots_) {
    if (slot->state == WorkerSlot::State::alive || slot->state == WorkerSlot::State::leaving)
      pids.push_back(slot->worker.process.pid());
  }
  return pids;
}

void PoolCore::drain_captured(WorkerSlot& slot, const TaskFacts& task) {
  for (const auto* end : {&slot.captured.out, &slot.captured.error}) {
    if (!*end) continue;
    const auto& printed =
        *reinterpret_cast<const PrintedTexts*>(slot.segment->crash_page().data() + printed_texts_offset);
    const std::string text = take_untold(end == &slot.captured.out ? printed.out : printed.error,
                                         slot.segment->log_area(), end->get());
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t line = std::min(text.find('\n', at), text.size());
      LogRecord record;
      record.origin = end == &slot.captured.out ? Origin::stdout : Origin::stderr;
      record.level = end == &slot.captured.out ? Level::info : Level::warn;
      record.message = text.substr(at, line - at);
      record.worker = slot.index;
      record.incarnation = slot.incarnation;
      record.pid = record.tid = slot.worker.process.pid();
      record.task_id = task.task_id;
      record.task_name = task.task_name;
      record.attempt = task.attempt;
      collector_.emit(std::move(record));
      at = line + 1;
    }
  }
}

}  // namespace kindred::internal
