#include "kindred/internal/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

namespace kindred::internal {
namespace {

// steady_clock is CLOCK_MONOTONIC in libstdc++, and FUTEX_WAIT_BITSET reads an absolute time by that clock.
timespec to_timespec(std::chrono::steady_clock::time_point time) noexcept {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  if (since < 0) return {};
  return {.tv_sec = static_cast<time_t>(since / 1'000'000'000),
          .tv_nsec = static_cast<long>(since % 1'000'000'000)};
}

long futex(const std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
           const timespec* timeout) noexcept {
  // The kernel only reads the word, whatever the signature of the call says.
  return ::syscall(SYS_futex, const_cast<std::atomic<std::uint32_t>*>(&word), operation, value, timeout,
                   nullptr, FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline) noexcept {
  timespec until{};
  if (deadline) until = to_timespec(*deadline);
  const long result = futex(word, FUTEX_WAIT_BITSET, expected, deadline ? &until : nullptr);
  return !(result != 0 && errno == ETIMEDOUT);
}

void futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept {
  futex(word, FUTEX_WAKE, static_cast<std::uint32_t>(count), nullptr);
}

}  // namespace kindred::internal
