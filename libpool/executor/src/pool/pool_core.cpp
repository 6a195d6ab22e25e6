#include "pool/pool_core.hpp"

#include <chrono>
#include <csignal>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/internal/pool_log.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/log.hpp"
#include "nesting.hpp"
#include "pool_setup.hpp"
#include "worker_process.hpp"

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

std::size_t workers_of(const ExecutorOptions& options, unsigned usable_cpus) {
  return options.max_workers.value() == 0 ? usable_cpus
                                          : static_cast<std::size_t>(options.max_workers.value());
}

}  // namespace

Ground PoolCore::ground() noexcept {
  return {options_,     surroundings_,          initializer_, owner_pid_, light_side_,
          usable_cpus_, ticks_per_nanosecond(), context_,     collector_, shared_objects_};
}

PoolCore::PoolCore(ExecutorOptions options, CollectorKey key, Surroundings surroundings)
    : options_{checked(std::move(options))},
      surroundings_{std::move(surroundings)},
      owner_pid_{process_id()},
      usable_cpus_{internal::usable_cpus()},
      initializer_{options_.initializer},
      context_{{}, options_.start_method, surroundings_.make_launcher},
      collector_{
          key,
          context_.life(),
          options_.log,
          {.task_name = [this](std::uint64_t reference) { return name_for_log(reference); },
           .corrupt = [this](SourceId source, std::string_view what) { kill_corrupted(source, what); }}},
      shared_objects_{context_.life()},
      tasks_{ground(), *this},
      links_{ground(), tasks_, *this,
             [this] {
               if (here()) supervise_.supervisor.wake_if_begun();
             }},
      dispatch_{ground(), tasks_, links_, *this},
      wait_{ground(), tasks_, links_, dispatch_},
      supervise_{ground(), tasks_, links_, dispatch_, wait_},
      window_{{options_, owner_pid_, context_, collector_, tasks_.mutex, tasks_.phase, tasks_.pending,
               tasks_.completion, links_.slots, dispatch_.load, dispatch_.dispatcher, dispatch_.watch,
               dispatch_.notes, supervise_.supervisor}} {
  check_depth();
  resize(workers_of(options_, usable_cpus_));
  begin();
}

PoolCore::~PoolCore() { KINDRED_ASSERT(references_.load(std::memory_order_relaxed) == 0U); }

void PoolCore::check_depth() const {
  const unsigned depth = nesting_depth();
  if (depth + 1 <= static_cast<std::uint64_t>(options_.max_depth.value())) return;
  throw UsageError{"a pool in a worker of a pool: this one would be at depth " + std::to_string(depth + 1) +
                   ", and ExecutorOptions::max_depth is " + std::to_string(options_.max_depth.value()) +
                   ". Raise max_depth if that many nested processes are meant."};
}

void PoolCore::begin() {
  supervise_.starter.set_worker_main(context_.code().reference(reinterpret_cast<const void*>(&worker_main)));
  const unsigned threads = thread_count();
  context_.begin(options_.worker, encode_setup(),
                 options_.preload.empty()
                     ? 0
                     : context_.code().reference(reinterpret_cast<const void*>(&prepare_fork_server)),
                 with_spdlog_registry_held);
  if (const auto& sandbox = context_.sandbox()) links_.log.note(Level::info, describe(*sandbox));
  if (options_.start_method == StartMethod::fork && threads > 1) {
    links_.log.note(
        Level::warn,
        "start method fork: the program has " + std::to_string(threads) +
            " threads at the executor's construction. The workers are copies of the constructing thread alone: a lock "
            "that another thread holds now stays locked in them. Make the executor before other threads, or use "
            "forkserver.");
  }
  window_.begin();
  if (options_.handle_interrupt) supervise_.supervisor.handle_interrupts();
  if (!options_.handle_interrupt && !options_.start_all) return;
  PoolGuard guard{tasks_.mutex};
  supervise_.supervisor.start(guard);
  if (options_.start_all) dispatch_.dispatcher.want_all_workers(guard);
}

void PoolCore::release_by_executor() noexcept {
  // Before the store is closed: a cell that comes back after that counts its reference down, though the cells
  // have not been counted yet.
  constexpr std::size_t more_than_cells = std::size_t{1} << 48U;
  std::size_t references = 1 + more_than_cells;
  references_.fetch_add(more_than_cells, std::memory_order_relaxed);
  {
    PoolGuard guard{tasks_.mutex};
    executor_gone_ = true;
    references -= tasks_.cells.close(guard);
  }
  release(references);
}

std::vector<std::byte> PoolCore::encode_setup() {
  auto& attachments = supervise_.starter.start_attachments();
  attachments.clear();
  return write_pool_setup(context_.code(), context_.id(), initializer_, options_, attachments);
}

std::string PoolCore::name_for_log(std::uint64_t reported_code) const {
  return name_of_reported_code(context_.code(), reported_code);
}

// The log found that a worker has corrupted its records.
void PoolCore::kill_corrupted(SourceId source, std::string_view what) {
  PoolGuard guard{tasks_.mutex};
  for (WorkerSlot& slot : links_.slots.all(guard)) {
    if (slot.segment && slot.log_source == source)
      WorkerControl::kill_corrupted(guard, slot, std::string{what});
  }
}

SharedObjectRegistry& PoolCore::shared_objects() {
  require_here("executor");
  return shared_objects_;
}

// --- what the rooms set going

void PoolCore::wake_leader(Locked locked) noexcept { wait_.waiters.wake_leader(locked); }
void PoolCore::wake_followers(Locked locked, const FutureState& state) noexcept {
  wait_.waiters.wake_followers(locked, state);
}
void PoolCore::all_ended(Locked locked) noexcept {
  supervise_.ending.notify_changed();
  supervise_.supervisor.wake(locked);
}
void PoolCore::wake_supervisor(Locked locked) { supervise_.supervisor.wake(locked); }
void PoolCore::wake_supervisor_at(Locked locked, Time at) { supervise_.supervisor.wake_at(locked, at); }
void PoolCore::end_queue_limit(Locked locked, TaskState& task) noexcept {
  supervise_.limits.forget(locked, task);
}
void PoolCore::look_at_log(Locked) noexcept { collector_.look_again(); }

// --- the pool as a whole

// One of our own threads would wait for itself.
bool PoolCore::on_own_thread() const noexcept {
  return tasks_.callbacks.on_its_thread() || supervise_.supervisor.on_its_thread();
}

void PoolCore::shutdown(bool wait, bool cancel_pending) {
  require_here("executor");
  PoolGuard guard{tasks_.mutex};
  (void)dispatch_.dispatcher.collect_results(guard);
  supervise_.ending.close(guard, cancel_pending);
  supervise_.supervisor.wake(guard);
  wait_.waiters.wake_leader(guard);
  guard.unlock();
  if (!wait || on_own_thread()) return;
  guard.lock();
  supervise_.ending.changed().wait(guard, [&] { return supervise_.supervisor.is_over(guard); });
  guard.unlock();
  (void)collector_.flush(steady_clock::now() + options_.log.flush_limit);
}

void PoolCore::end_workers(bool kill) {
  require_here("executor");
  PoolGuard guard{tasks_.mutex};
  (void)dispatch_.dispatcher.collect_results(guard);
  supervise_.ending.end_workers(guard, kill ? SIGKILL : SIGTERM);
  supervise_.supervisor.wake(guard);
  const auto until = steady_clock::now() + options_.shutdown_grace;
  guard.unlock();
  if (on_own_thread()) return;
  guard.lock();
  const auto gone = [&] { return links_.slots.live(guard) == 0; };
  if (supervise_.ending.changed().wait_until(guard, until, gone)) return;
  tasks_.phase.kill_signal = SIGKILL;
  for (WorkerSlot& slot : links_.slots.all(guard)) WorkerControl::signal(guard, slot, SIGKILL);
  supervise_.ending.changed().wait(guard, gone);
}

void PoolCore::resize(std::size_t workers) {
  require_here("executor");
  PoolGuard guard{tasks_.mutex};
  links_.slots.set_max(workers);
  // A worker that leaves may still hold what its successor has.
  shared_objects_.make_room_for(2 * workers + 2);
  supervise_.supervisor.wake(guard);
}

void PoolCore::close() {
  shutdown(true, false);
  tasks_.callbacks.finish();  // its last callbacks may still have finished continuations
  if (!on_own_thread()) check_all_gone();
  supervise_.supervisor.end();
  window_.end();
  context_.end_launcher();
  shared_objects_.close();
  (void)collector_.shutdown(steady_clock::now() + options_.log.flush_limit);
  context_.life()->open.store(false, std::memory_order_relaxed);
}

// What the rooms count, each by itself, agrees when the pool has ended.
void PoolCore::check_all_gone() {
  PoolGuard guard{tasks_.mutex};
  KINDRED_ASSERT(links_.slots.live(guard) == 0U);
  KINDRED_ASSERT(links_.slots.in_flight(guard) == 0U);
  KINDRED_ASSERT(tasks_.pending.size() == 0U);
  KINDRED_ASSERT(tasks_.completion.outstanding(guard) == 0U);
}

void PoolCore::abandon_after_fork() {
  supervise_.supervisor.abandon_after_fork();
  tasks_.callbacks.abandon_after_fork();
  context_.abandon_after_fork();
}

PoolStats PoolCore::stats() {
  require_here("executor");
  return window_.stats();
}

void PoolCore::trace(const std::string& path, std::uint64_t max_bytes) {
  require_here("executor");
  window_.trace(path, max_bytes);
}

std::vector<LogRecord> PoolCore::log_of(std::uint64_t task_id) {
  require_here("future");
  return collector_.records_of_task(task_id);
}

std::vector<std::uint32_t> PoolCore::worker_pids() {
  require_here("executor");
  PoolGuard guard{tasks_.mutex};
  std::vector<std::uint32_t> pids;
  for (const WorkerSlot& slot : links_.slots.all(guard)) {
    if (slot.state == WorkerSlot::State::alive || slot.state == WorkerSlot::State::leaving)
      pids.push_back(slot.worker.process.pid());
  }
  return pids;
}

Collector& log_of(PoolCore& pool) noexcept { return pool.collector(); }
ContextId id_of(PoolCore& pool) noexcept { return pool.context().id(); }

}  // namespace kindred::internal
