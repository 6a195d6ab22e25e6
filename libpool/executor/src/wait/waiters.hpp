#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "dispatch/dispatcher.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/shared_bell.hpp"
#include "link/bells.hpp"
#include "link/worker_control.hpp"
#include "spin_permit.hpp"
#include "task/completion.hpp"
#include "task/pool_guard.hpp"
#include "trial.hpp"
#include "wait/cores.hpp"

namespace kindred::internal {

/// A thread that waits for results, on its own stack. `signal` is raised to wake it.
struct Waiter {
  std::atomic<std::uint32_t> signal{0};
  FutureState* target = nullptr;  ///< null: several futures
};

/// The threads that wait for results. They help: one of them, the leader, takes results in and dispatches
/// calls itself, so that no hop through another thread is needed; the others, its followers, sleep until
/// their futures are finished, or one of them has to lead.
class Waiters {
 public:
  struct Parts {
    PoolMutex& mutex;
    const WorkerSlots& slots;
    WorkerControl& control;
    Bells& bells;
    Dispatcher& dispatcher;
    Completion& completion;
    Cores& cores;
    std::function<const SharedBell&()> bell;  ///< what the leader sleeps on; the first call makes it
    bool spin = true;                         ///< may the leader spin?
    void (*yield)() noexcept = yield_cpu;     ///< lets other threads have the core, if the kernel agrees
  };
  explicit Waiters(Parts parts) : parts_{std::move(parts)} {}

  /// Blocks until the future is finished or the deadline passes; true: it is finished.
  bool wait(FutureState& state, Deadline deadline);
  /// Blocks until `ready()`, which is called while the lock is held, or the deadline passes; true: it is
  /// ready. `waiter.signal` must be raised, by `wake`, whenever it may have become true.
  bool wait_until(const std::function<bool()>& ready, Waiter& waiter, Deadline deadline);

  [[nodiscard]] bool has_leader(Locked) const noexcept { return leader_ != nullptr; }
  void wake(Locked, Waiter& waiter) noexcept;
  void wake_leader(Locked locked) noexcept {
    if (leader_ != nullptr) wake(locked, *leader_);
  }
  /// Wakes the followers that wait for this future.
  void wake_followers(Locked locked, const FutureState& state) noexcept;

 private:
  using Ready = std::function<bool()>;
  [[nodiscard]] bool lead(PoolGuard& guard, const Ready& ready, Waiter& waiter, Deadline deadline);
  [[nodiscard]] bool look_for_results(PoolGuard& guard, const Ready& ready);
  void stop_leading(Locked locked);
  void pass_lead(Locked locked);
  [[nodiscard]] bool follow(PoolGuard& guard, const Ready& ready, Waiter& waiter, Deadline deadline);
  [[nodiscard]] bool may_spin(Locked) const noexcept;
  [[nodiscard]] bool give_way(PoolGuard& guard, unsigned round);
  void nap(PoolGuard& guard, Deadline deadline);
  void sleep(PoolGuard& guard, const Ready& ready, Deadline deadline);
  [[nodiscard]] Deadline next_look(Locked locked, Deadline deadline);

  const Parts parts_;
  SpinPermit spin_permit_;  // under the lock
  Trial spinning_on_;       // where no yield lets the worker in; under the lock
  Waiter* leader_ = nullptr;
  std::vector<Waiter*> followers_;
};

}  // namespace kindred::internal
