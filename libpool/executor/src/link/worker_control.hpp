#pragma once

#include <chrono>
#include <string>
#include <utility>

#include "kindred/internal/injection.hpp"
#include "link/worker_slots.hpp"
#include "task/pool_clock.hpp"

namespace kindred::internal {

/// What the parent does to one worker: wakes it, asks it to stop or to leave, kills it.
class WorkerControl {
 public:
  /// `light_side`: what `register_light_side` said. Without it, each look at `sleeps` makes the fence.
  WorkerControl(bool light_side, std::chrono::nanoseconds shutdown_grace, const PoolClock& clock,
                WorkerSlots& slots) noexcept
      : light_side_{light_side}, shutdown_grace_{shutdown_grace}, clock_{clock}, slots_{slots} {}

  /// Wakes the worker if it sleeps: it has a call, a command or mail to look at, or room for its results.
  void wake(Locked locked, WorkerSlot& slot) noexcept {
    // Order: the published cursor before the look at `sleeps`; pairs with the heavy barrier in the worker's
    // announce_sleep. One of the two sees the other: either we see that it sleeps, or it sees the call. A
    // full fence here would wait for the line of the cursor, which the worker is reading: a fifth of what a
    // short task costs.
    if (light_side_) [[likely]]
      std::atomic_signal_fence(std::memory_order_seq_cst);
    else
      std::atomic_thread_fence(std::memory_order_seq_cst);
    if (slot.header().sleeps.load(std::memory_order_relaxed) != 0) wake_sleeper(locked, slot);
  }
  static void raise_wake(Locked, WorkerSlot& slot) noexcept;
  /// Was a worker woken since the last call of this?
  [[nodiscard]] bool take_woke_a_worker(Locked) noexcept { return std::exchange(woke_a_worker_, false); }

  /// Tells the workers on which core this thread runs, and returns it: they yield to the thread only if they
  /// run there.
  int publish_cpu(Locked locked) noexcept;

  /// Has the worker finish what it has, and exit.
  void ask_to_leave(Locked locked, WorkerSlot& slot);

  static void ask_to_stop(Locked, WorkerSlot& slot, InFlight& attempt) noexcept;
  /// Sends the signal to a worker that is alive or leaves, and to its process group.
  static void signal(Locked, WorkerSlot& slot, int signal) noexcept;
  static void kill(Locked, WorkerSlot& slot, KillReason reason) noexcept;
  /// Kills a worker that has corrupted its memory or its socket.
  static void kill_corrupted(Locked locked, WorkerSlot& slot, std::string why);
  /// Kills the worker for this attempt, unless the worker has finished the attempt: then returns false.
  static bool condemn(Locked, WorkerSlot& slot, InFlight& attempt, InFlight::Condemned why, int signal);

 private:
  void wake_sleeper(Locked locked, WorkerSlot& slot) noexcept;

  const bool light_side_;
  const std::chrono::nanoseconds shutdown_grace_;
  const PoolClock& clock_;
  WorkerSlots& slots_;
  int published_cpu_ = -1;
  bool woke_a_worker_ = false;
};

}  // namespace kindred::internal
