#pragma once

#include "kindred/internal/clock.hpp"

namespace kindred::internal {

/// Yields the core. Returns whether another thread got it. The kernel may give a thread that yields its core
/// back at once although another one waits there: by how much time it owes each of them, and always where
/// the two are in different sessions and it groups threads by session (`sched_autogroup_enabled`), since a
/// yield is to threads of the same group. To a thread that sleeps it does not.
///
/// A yield that took no longer than `refused_nanoseconds` has let nobody in: the call alone takes 0.5 to 1.1
/// us on a slow virtual machine, where it takes 2.8 with two switches. Where nobody waits for the core it is
/// the same, so a refusal alone says nothing.
[[nodiscard]] inline bool try_yield(void (*yield)() noexcept) noexcept {
  constexpr double refused_nanoseconds = 1'500;
  const auto before = ticks();
  yield();
  return ticks() - before > static_cast<std::uint64_t>(refused_nanoseconds * ticks_per_nanosecond());
}

}  // namespace kindred::internal
