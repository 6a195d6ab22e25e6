// When a thread that waits may spin, on a played clock of one tick a nanosecond.
#include "spin_permit.hpp"

#include <algorithm>
#include <cstdint>

#include "support/test.hpp"

using kindred::internal::SpinPermit;

namespace {

constexpr std::uint64_t microsecond = 1'000;
constexpr std::uint64_t millisecond = 1'000 * microsecond;

/// Lets `permit` meet a step that took 3 ms, ending at `now`, and returns how long it refuses from then on.
std::uint64_t refused_after_loss(SpinPermit& permit, std::uint64_t now) {
  CHECK_FALSE(permit.note_step(now - 3 * millisecond, now));
  CHECK_FALSE(permit.holds(now));
  std::uint64_t until = now;
  while (!permit.holds(until)) until += millisecond;
  CHECK_FALSE(permit.holds(until - millisecond));
  return until - now;
}

}  // namespace

TEST_CASE("a thread spins as long as each step is short") {
  SpinPermit permit{1.0};
  CHECK(permit.holds(0));
  std::uint64_t now = 0;
  for (int i = 0; i < 1'000; ++i) {
    CHECK(permit.note_step(now, now + 100 * microsecond));
    now += 100 * microsecond;
    CHECK(permit.holds(now));
  }
}

TEST_CASE("a step in which another program had the core ends the spinning for a while") {
  SpinPermit permit{1.0};
  CHECK(refused_after_loss(permit, 100 * millisecond) == 10 * millisecond);
}

TEST_CASE("the while doubles where the next spins end the same way, to a second at most") {
  SpinPermit permit{1.0};
  std::uint64_t now = 100 * millisecond;
  std::uint64_t expected = 10 * millisecond;
  for (int i = 0; i < 12; ++i) {
    const auto refused = refused_after_loss(permit, now);
    CHECK(refused == expected);
    now += refused + 4 * millisecond;
    expected = std::min<std::uint64_t>(2 * expected, 1'000 * millisecond);
  }
}

TEST_CASE("where spinning went well for longer than the last pause, the next loss is the first again") {
  SpinPermit permit{1.0};
  std::uint64_t now = 100 * millisecond;
  for (int i = 0; i < 4; ++i) now += refused_after_loss(permit, now) + 4 * millisecond;
  CHECK(refused_after_loss(permit, now + 200 * millisecond) == 10 * millisecond);
}
