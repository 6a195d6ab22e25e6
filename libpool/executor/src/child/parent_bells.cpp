#include "child/parent_bells.hpp"

#include <atomic>

#include "kindred/internal/injection.hpp"

namespace kindred::internal {

bool ParentBells::ring_if_armed(std::uint64_t position) noexcept {
  // Order: the published cursor (or the position) before the look at what is armed; pairs with the fence in
  // Dispatcher::arm_all.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint64_t armed = header_.armed.load(std::memory_order_relaxed);
  const std::uint64_t epoch = armed >> Armed::epoch_shift;
  if (epoch == last_rung_) return false;
  if ((armed & Armed::waiter) != 0) {
    last_rung_ = epoch;
    KINDRED_INJECTION_POINT("worker.bell.before_waiter");
    waiter_.ring();
    return true;
  }
  if ((armed & Armed::service) == 0) {
    if ((armed & Armed::dry) == 0) return false;
    const std::uint64_t low_water = (armed >> Armed::low_water_shift) & Armed::low_water_mask;
    if (header_.calls.published.load(std::memory_order_relaxed) - position > low_water) return false;
  }
  last_rung_ = epoch;
  service_.ring();
  return false;
}

}  // namespace kindred::internal
