#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "kindred/internal/clock.hpp"

namespace bench {

/// How an end waits for the other. `pause` keeps the core; `yield` gives it up where the other end is queued
/// behind it.
enum class Wait { pause, yield };

inline void step(Wait wait) noexcept {
  if (wait == Wait::pause) {
    kindred::internal::cpu_relax();
  } else {
    sched_yield();
  }
}

/// The plainest ring between two processes that is still fast: one producer, one consumer, a release store
/// each, and each side keeps a copy of the other's cursor. What kindred's ring does beyond this (calls of any
/// size, crash states, waking) is its cost.
///
///     | tail (producer) | head cache | pad | head (consumer) | tail cache | pad | slots ... |
template <class Item, std::size_t capacity>
class SpscRing {
  static_assert((capacity & (capacity - 1)) == 0, "a power of two");

 public:
  bool try_push(const Item& item) noexcept {
    const auto tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == capacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == capacity) return false;
    }
    slots_[tail & (capacity - 1)] = item;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool try_pop(Item& item) noexcept {
    const auto head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return false;
    }
    item = slots_[head & (capacity - 1)];
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  void push(const Item& item, Wait wait) noexcept {
    for (unsigned tries = 0; !try_push(item); ++tries) step(tries < 64 ? Wait::pause : wait);
  }
  Item pop(Wait wait) noexcept {
    Item item;
    for (unsigned tries = 0; !try_pop(item); ++tries) step(tries < 64 ? Wait::pause : wait);
    return item;
  }

 private:
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  std::uint64_t head_seen_ = 0;
  alignas(128) std::atomic<std::uint64_t> head_{0};
  std::uint64_t tail_seen_ = 0;
  alignas(128) std::array<Item, capacity> slots_{};
};

}  // namespace bench
