#pragma once

#include <atomic>
#include <cstdint>

#include "kindred/internal/deadline.hpp"

namespace kindred::internal {

/// Sleeps on a 32-bit word that any process may share (never FUTEX_PRIVATE, never `std::atomic::wait`) while
/// it holds `expected`. Returns false where the deadline passed; true otherwise, also spuriously.
bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                Deadline deadline = {}) noexcept;
/// Wakes up to `count` sleepers on the word.
void futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept;

}  // namespace kindred::internal
