#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>

#include "dispatch/dispatcher.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "link/lifecycle_log.hpp"
#include "supervise/death_verdict.hpp"
#include "supervise/ending.hpp"
#include "supervise/restart_policy.hpp"
#include "supervise/supervisor_poll.hpp"
#include "task/pool_clock.hpp"
#include "task/pool_guard.hpp"
#include "watch/watch_notes.hpp"

namespace kindred::internal {

/// Buries dead workers, on the supervisor's thread: the worker's last words are taken in, its obituary is
/// gathered, a verdict is reached (`judge`), and what follows from the verdict is done. While the process is
/// reaped and its log is drained, the lock is given away.
class Burial {
 public:
  struct Parts {
    const ExecutorOptions& options;
    const PoolClock& clock;
    const Call& initializer;
    Context& context;
    Collector& collector;
    SharedObjectRegistry& shared_objects;
    PoolPhase& phase;
    WorkerSlots& slots;
    Dispatcher& dispatcher;
    ResultIntake& intake;
    PendingTasks& pending;
    Completion& completion;
    LifecycleLog& log;
    WatchNotes& notes;
    SupervisorPoll& poll;
    Ending& ending;
  };
  explicit Burial(const Parts& parts)
      : parts_{parts},
        crashes_{parts.options.restart_limit.count.value(), parts.options.restart_limit.period} {}

  /// Where the fork server has not said yet how the worker ended, the burial is begun, and ended by a later
  /// call.
  void bury(PoolGuard& guard, WorkerSlot& slot);
  /// Ends what dead workers have left behind, where that is due.
  void tidy_up(Locked, std::chrono::steady_clock::time_point now) noexcept {
    if (!tidy_at_ || *tidy_at_ > now) return;
    tidy_at_ = parts_.context.has_launcher() ? parts_.context.launcher().tidy_up() : Deadline{};
  }
  /// When to call `tidy_up` again.
  [[nodiscard]] Deadline next(Locked) const noexcept { return tidy_at_; }
  /// Notes how many processes the kernel has killed for want of memory so far, so that only later kills
  /// explain a worker's death. Reads a file: call this where no start of a worker waits for it.
  void note_earlier_oom_kills();

 private:
  struct Obituary;  // what the system and the worker's memory say of its death
  struct StartFailure {
    std::exception_ptr cause;  // null: the start has not failed
    std::string text;
  };

  [[nodiscard]] bool begin(PoolGuard& guard, WorkerSlot& slot);
  [[nodiscard]] bool died_by_our_kill(const WorkerSlot& slot) const noexcept;
  [[nodiscard]] Obituary take_obituary(PoolGuard& guard, WorkerSlot& slot);
  void take_last_words(Locked locked, WorkerSlot& slot);
  void gather(const WorkerSlot& slot, Obituary& obituary);
  void emit_captured(const WorkerSlot& slot, const TaskFacts& task);
  [[nodiscard]] DeathVerdict judge_death(WorkerSlot& slot, const Obituary& obituary);
  [[nodiscard]] std::optional<InFlight> sort_out_calls(Locked locked, WorkerSlot& slot, bool own_doing);
  [[nodiscard]] bool is_first_lost(const WorkerSlot& slot, const InFlight& first, bool own_doing) const;
  void note_death(Locked locked, WorkerSlot& slot, const Obituary& obituary, const DeathVerdict& verdict,
                  const TaskState* lost);
  void tell_death(PoolGuard& guard, WorkerSlot& slot, const Obituary& obituary, const DeathVerdict& verdict,
                  const InFlight* lost);
  [[nodiscard]] std::string text_of_death(const WorkerSlot& slot, const Obituary& obituary,
                                          const DeathVerdict& verdict, const TaskState* lost) const;
  [[nodiscard]] StartFailure start_failure_of(const WorkerSlot& slot, const Obituary& obituary,
                                              const DeathVerdict& verdict) const;
  [[nodiscard]] StartFailure breaking_of(const WorkerSlot& slot, const Obituary& obituary,
                                         const DeathVerdict& verdict, std::uint64_t runs_ended);
  void lose(Locked locked, const InFlight& attempt, const WorkerSlot& slot, const Obituary& obituary,
            const DeathVerdict& verdict);

  const Parts parts_;
  RestartLimiter crashes_;
  Deadline tidy_at_;
  std::uint64_t runs_ended_seen_ = 0;            // results that had come when the last crash was counted
  std::optional<std::uint64_t> oom_kills_seen_;  // none: not read yet
};

}  // namespace kindred::internal
