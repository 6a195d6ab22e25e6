#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/futex.hpp"

namespace kindred::internal {

[[nodiscard]] inline bool is_past(const Deadline& deadline) noexcept {
  return deadline && *deadline <= std::chrono::steady_clock::now();
}

/// Waits while the word holds `ticket`: briefly awake, because a wake-up costs tens of microseconds, and
/// yielding once, because the other side may be queued behind us on this core. (Not more often: on a busy
/// machine each yield can cost time slices, and a sleeper is preferred when it wakes.) Returns false where
/// the deadline passed.
inline bool spin_then_sleep(const std::atomic<std::uint32_t>& word, std::uint32_t ticket,
                            Deadline deadline) noexcept {
  constexpr int spins = 64;
  for (int tries = 0; tries <= spins; ++tries) {
    if (word.load(std::memory_order_acquire) != ticket) return true;
    if (tries < spins)
      cpu_relax();
    else
      yield_cpu();
  }
  return futex_wait(word, ticket, deadline);
}

}  // namespace kindred::internal
