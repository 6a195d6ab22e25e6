#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace kindred::internal {

/// Counts durations by size, in buckets that grow with the duration: four for each power of two, so that a
/// percentile read from it is off by at most an eighth. Fixed memory (1 KiB), some ten instructions to count
/// one.
///
/// Bucket 0 holds what is under 1024 ns, the last one all of 2^41 ns (37 minutes) and more.
class TimeHistogram {
 public:
  static constexpr unsigned first_power = 10;
  static constexpr unsigned powers = 31;
  static constexpr std::size_t buckets = 1 + powers * 4 + 1;

  void add(std::uint64_t nanoseconds) noexcept {
    ++counts_[bucket_of(nanoseconds)];
    ++count_;
    sum_ += nanoseconds;
  }
  [[nodiscard]] static constexpr std::size_t bucket_of(std::uint64_t nanoseconds) noexcept {
    const auto power = static_cast<unsigned>(std::bit_width(nanoseconds | 1U)) - 1;
    if (power < first_power) return 0;
    if (power >= first_power + powers) return buckets - 1;
    return 1 + std::size_t{power - first_power} * 4 + ((nanoseconds >> (power - 2)) & 3U);
  }
  /// What all durations of the bucket are shorter than. Not for the last bucket, which has no end.
  [[nodiscard]] static constexpr std::uint64_t end_of(std::size_t bucket) noexcept {
    if (bucket == 0) return std::uint64_t{1} << first_power;
    const auto power = first_power + static_cast<unsigned>((bucket - 1) / 4);
    return (std::uint64_t{1} << power) + ((bucket - 1) % 4 + 1) * (std::uint64_t{1} << (power - 2));
  }
  [[nodiscard]] std::uint64_t in_bucket(std::size_t bucket) const noexcept { return counts_[bucket]; }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t sum_nanoseconds() const noexcept { return sum_; }

 private:
  std::array<std::uint64_t, buckets> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
};

}  // namespace kindred::internal
