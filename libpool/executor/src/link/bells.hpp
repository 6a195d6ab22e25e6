#pragma once

#include <cstdint>
#include <utility>

#include "kindred/internal/locked.hpp"
#include "link/worker_slot.hpp"

namespace kindred::internal {

/// Which bell the workers ring, and when: see `Armed`. Knows what the leading thread does, because that
/// decides. Guarded by the pool's lock.
class Bells {
 public:
  /// The thread that takes in results while it waits for one.
  enum class Leader : std::uint8_t {
    none,   ///< there is none: the supervisor takes results in
    looks,  ///< it spins: no bell is needed
    naps,   ///< it sleeps for a moment; it is rung only if its own wait is over
    sleeps  ///< until it is rung for a result
  };

  [[nodiscard]] Leader leader(Locked) const noexcept { return leader_; }
  void set_leader(Locked, Leader leader) noexcept { leader_ = leader; }
  /// What is armed may have been rung for: the next arming is done anew.
  void make_stale(Locked) noexcept { stale_ = true; }
  [[nodiscard]] bool take_stale(Locked) noexcept { return std::exchange(stale_, false); }

  static void arm(Locked, WorkerSlot& slot, std::uint64_t bits, bool anew) noexcept {
    if (bits == slot.arming.bits && !anew) return;
    slot.arming.bits = bits;
    ++slot.arming.epoch;
    slot.header().armed.store(bits | (slot.arming.epoch << Armed::epoch_shift), std::memory_order_relaxed);
  }

 private:
  Leader leader_ = Leader::none;
  bool stale_ = false;
};

}  // namespace kindred::internal
