#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "dispatch/dispatcher.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "kindred/internal/interrupt.hpp"
#include "link/idle_memory.hpp"
#include "supervise/burial.hpp"
#include "supervise/ending.hpp"
#include "supervise/limit_keeper.hpp"
#include "supervise/starter.hpp"
#include "supervise/supervisor_poll.hpp"
#include "supervise/worker_health.hpp"
#include "task/pool_clock.hpp"
#include "task/pool_guard.hpp"
#include "wait/waiters.hpp"

namespace kindred::internal {

/// The thread that looks after the pool while no other thread does: it starts and buries workers, hears their
/// bells and messages, and keeps time. It decides nothing itself: its rooms do.
class Supervisor {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Parts {
    const ExecutorOptions& options;
    const PoolClock& clock;
    bool has_thread;
    PoolMutex& mutex;
    Context& context;
    Collector& collector;
    PoolPhase& phase;
    WorkerSlots& slots;
    WorkerControl& control;
    Bells& bells;
    Dispatcher& dispatcher;
    PendingTasks& pending;
    Completion& completion;
    Backpressure& backpressure;
    const Waiters& waiters;
    IdleMemory& idle_memory;
    SupervisorPoll& poll;
    LimitKeeper& limits;
    WorkerHealth& health;
    Starter& starter;
    Burial& burial;
    Ending& ending;
  };
  explicit Supervisor(const Parts& parts) noexcept : parts_{parts} {}

  /// Has Ctrl-C end the pool: `start` is to follow. Errors: `SystemError`.
  void handle_interrupts() { interrupt_ = std::make_unique<InterruptWatch>(); }
  /// Starts the thread, unless it runs. Errors: `SystemError`; all of it is undone then, and the caller may
  /// try again.
  void start(Locked);
  /// What the thread does again and again: looks after everything, sleeps until something happens, and hears
  /// what it was. False: the work is over. A test whose pool has no such thread calls it, and it does not
  /// sleep.
  bool round(PoolGuard& guard);
  [[nodiscard]] bool runs(Locked) const noexcept { return runs_; }
  /// Has the work of the thread ended, or did it never begin?
  [[nodiscard]] bool is_over(Locked) const noexcept { return !runs_ || stop_ || parts_.phase.ended; }
  [[nodiscard]] bool on_its_thread() const noexcept { return thread_.get_id() == std::this_thread::get_id(); }

  void wake(Locked) {
    if (runs_) wake();
  }
  void wake() { parts_.context.service_bell().ring(); }
  /// The same for a thread that knows neither the lock nor whether there is a supervisor. Where its bell
  /// cannot be made, there is none yet: it looks round when it starts.
  void wake_if_begun() noexcept;
  void wake_at(Locked, Time at) {
    if (runs_ && sleeps_until_ > at) wake();
  }
  /// A task was submitted: a supervisor that sleeps for ever is woken, since it looks after the workers'
  /// health from now on. One ring is enough: it says anew when it sleeps again.
  void note_submit(Locked) {
    if (sleeps_until_ != Time::max()) [[likely]]
      return;
    wake();
    sleeps_until_ = Time::min();
  }
  /// Does it look again soon by itself, so that it need not be rung for results?
  [[nodiscard]] bool looks_by_itself(Locked) const noexcept { return looks_by_itself_; }
  [[nodiscard]] std::uint64_t wakeups(Locked) const noexcept { return wakeups_; }

  /// Ends the thread, and waits for it.
  void end();
  /// In the child of a fork: the thread does not exist here.
  void abandon_after_fork();

 private:
  void run();
  void sleep(PoolGuard& guard);
  void handle_events(PoolGuard& guard);
  void handle_worker_event(Locked locked, const SupervisorPoll::Event& event);
  void answer_tail();
  void handle_interrupt(PoolGuard& guard);
  void check_workers(PoolGuard& guard);
  void hear_launcher(Locked locked);
  void check_deferred(Locked locked, Time now);
  void end_when_all_left(PoolGuard& guard);
  [[nodiscard]] bool arm(Locked locked);
  [[nodiscard]] Deadline next_deadline(Locked locked);

  const Parts parts_;
  std::unique_ptr<InterruptWatch> interrupt_;
  std::thread thread_;
  bool runs_ = false;
  bool stop_ = false;
  bool looks_by_itself_ = false;
  std::uint64_t submitted_seen_ = 0;
  std::uint64_t submitted_at_last_look_ = 0;
  std::uint64_t wakeups_ = 0;
  Time sleeps_until_ = Time::min();
  Deadline tail_again_;  // when the next visitor of the log is looked at
};

}  // namespace kindred::internal
