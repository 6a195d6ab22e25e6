#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <vector>

#include "dispatch/dispatcher.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "link/lifecycle_log.hpp"
#include "link/worker_slots.hpp"
#include "supervise/ending.hpp"
#include "supervise/restart_policy.hpp"
#include "supervise/start_plan.hpp"
#include "supervise/supervisor_poll.hpp"
#include "task/pool_clock.hpp"
#include "task/pool_guard.hpp"
#include "watch/watch_notes.hpp"

namespace kindred::internal {

/// Starts workers, on the supervisor's thread. While a process is made and the fork server preloads, the lock
/// is given away. Never waits for a fork server that does not answer: a start stays in hand meanwhile.
class Starter {
 public:
  using Time = std::chrono::steady_clock::time_point;
  struct Parts {
    const ExecutorOptions& options;
    const PoolClock& clock;
    Context& context;
    Collector& collector;
    PoolPhase& phase;
    WorkerSlots& slots;
    Dispatcher& dispatcher;
    Completion& completion;
    LifecycleLog& log;
    WatchNotes& notes;
    SupervisorPoll& poll;
    Ending& ending;
    unsigned usable_cpus;
    BlockFreed block_freed;
    std::function<void()> wake_supervisor;
  };
  explicit Starter(Parts parts);
  ~Starter();

  /// What each worker is given at its start: the function that it runs, and the shared memories that
  /// initializer and finalizer need.
  void set_worker_main(CodeReference main) noexcept { worker_main_ = main; }
  [[nodiscard]] Attachments& start_attachments() noexcept { return start_attachments_; }

  /// Goes on with the start in hand, and begins those that are wanted, as far as that is possible now.
  void check(PoolGuard& guard, Time now);
  /// Would a start be tried now, if a worker were wanted?
  [[nodiscard]] bool may_start(Locked, Time now) const noexcept { return backoff_.may_start(now); }
  /// Is news of the fork server awaited: does it preload, or has it not answered a start yet?
  [[nodiscard]] bool waits_for_launcher(Locked) const noexcept { return preparing_since_ || start_; }
  /// When to look again, if nothing is heard before.
  [[nodiscard]] Deadline next(Locked locked) const;

 private:
  struct StartInHand;  // a worker on its way, and what it was greeted with

  void check_start_in_hand(PoolGuard& guard);
  [[nodiscard]] StartFacts facts(Locked locked) const;
  [[nodiscard]] bool has_use(Locked locked) const;
  /// False: a worker cannot be started yet, or never.
  [[nodiscard]] bool prepare_launcher(PoolGuard& guard);
  void end_slow_launcher(Locked locked);
  void begin_start(PoolGuard& guard, WorkerSlot& slot);
  void go_on(PoolGuard& guard, std::exception_ptr failure);
  void fail(Locked locked, const std::exception_ptr& failure);
  void adopt(Locked locked, StartInHand& start, StartedWorker worker);
  void listen_to(Locked locked, WorkerSlot& slot);

  // Without the lock.
  void ask_and_greet(StartInHand& start);
  [[nodiscard]] std::vector<int> open_captures(StartInHand& start) const;
  void begin_work(StartInHand& start, const StartedWorker& worker);
  void drop_start();

  const Parts parts_;
  CodeReference worker_main_ = 0;
  Attachments start_attachments_;
  std::uint32_t next_owner_ = 2;
  Deadline preparing_since_;  // since when the fork server preloads
  std::unique_ptr<StartInHand> start_;
  StartBackoff backoff_;
};

}  // namespace kindred::internal
