#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace bench {

/// The plainest lane of log records: {time, site, sizes, int, double, text} copied into a byte ring, one
/// producer, one consumer. A record never wraps: where it would, the producer skips to the ring's begin.
class Lane {
 public:
  static constexpr std::size_t capacity = 1U << 20U;

  struct Head {
    std::uint32_t size;  ///< 0: go on at the ring's begin
    std::uint32_t site;
    std::uint64_t ticks;
    std::int64_t number;
    double real;
    std::uint32_t text_bytes;
  };

  bool try_log(std::uint64_t ticks, std::uint32_t site, std::string_view text, std::int64_t number,
               double real) noexcept {
    const auto size = (sizeof(Head) + text.size() + 7) & ~std::size_t{7};
    auto tail = tail_.load(std::memory_order_relaxed);
    const auto at = tail & (capacity - 1);
    const auto skip = at + size + sizeof(Head) > capacity ? capacity - at : 0;
    if (tail + skip + size - head_seen_ > capacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail + skip + size - head_seen_ > capacity) return false;
    }
    if (skip != 0) {
      constexpr std::uint32_t turn = 0;
      std::memcpy(bytes_.data() + at, &turn, sizeof turn);
      tail += skip;
    }
    std::byte* to = bytes_.data() + (tail & (capacity - 1));
    const Head head{static_cast<std::uint32_t>(size),       site, ticks, number, real,
                    static_cast<std::uint32_t>(text.size())};
    std::memcpy(to, &head, sizeof head);
    std::memcpy(to + sizeof head, text.data(), text.size());
    tail_.store(tail + size, std::memory_order_release);
    return true;
  }

  /// The producer, before the first record: no log call is to wait for the kernel to map a page.
  void touch() noexcept {
    volatile std::byte* const bytes = bytes_.data();
    for (std::size_t at = 0; at < capacity; at += 4096) bytes[at] = std::byte{0};
  }

  /// Calls `take(head, text)` for each record that is there; returns how many there were.
  template <class Take>
  std::size_t drain(Take&& take) {
    auto head = head_.load(std::memory_order_relaxed);
    const auto tail = tail_.load(std::memory_order_acquire);
    std::size_t taken = 0;
    while (head != tail) {
      const std::byte* from = bytes_.data() + (head & (capacity - 1));
      Head record;
      std::memcpy(&record, from, sizeof record);
      if (record.size == 0) {
        head += capacity - (head & (capacity - 1));
        continue;
      }
      take(record, std::string_view{reinterpret_cast<const char*>(from + sizeof record), record.text_bytes});
      head += record.size;
      ++taken;
    }
    head_.store(head, std::memory_order_release);
    return taken;
  }

 private:
  alignas(128) std::atomic<std::uint64_t> tail_{0};
  std::uint64_t head_seen_ = 0;
  alignas(128) std::atomic<std::uint64_t> head_{0};
  alignas(128) std::array<std::byte, capacity> bytes_{};
};

}  // namespace bench
