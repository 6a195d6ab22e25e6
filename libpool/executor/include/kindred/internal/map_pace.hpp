#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

namespace kindred::internal {

/// How many items of a map travel in one chunk, and how many are open at most. It follows what recent chunks
/// took.
class MapPace {
 public:
  struct Aims {
    double chunk_seconds = 0;  ///< how long a chunk is to run
    double chunk_bytes = 0;    ///< the most that its arguments are to take
  };
  /// `chunk`: how many items a chunk has; 0: as many as the aims say.
  constexpr MapPace(const Aims& aims, std::size_t chunk) noexcept
      : aims_{aims}, adapts_{chunk == 0}, chunk_{adapts_ ? 1 : chunk} {}

  [[nodiscard]] constexpr std::size_t chunk() const noexcept { return chunk_; }
  /// The most that an item of the last chunk took, in bytes.
  [[nodiscard]] constexpr std::size_t item_bytes() const noexcept { return item_bytes_; }

  /// Returns how many items are open at most: four chunks for each worker, or as many items as keep a worker
  /// busy for 10 ms, so that a long item holds no other worker up; these only once the chunks have their
  /// size, else most items would travel in the small chunks of the beginning. Short chunks keep the thread
  /// that fills and empties them as busy as a worker, so they are opened for no more workers than have a core
  /// beside it (`beside`).
  [[nodiscard]] constexpr std::size_t window(std::size_t workers, std::size_t beside) const noexcept {
    constexpr double busy_seconds = 0.01;
    constexpr double most = 1024;
    constexpr double short_seconds = 0.00002;
    const bool is_known = item_seconds_ > 0;
    const double items = is_known && !grows_ ? std::min(busy_seconds / item_seconds_, most) : 0;
    const bool is_short = is_known && item_seconds_ * static_cast<double>(chunk_) < short_seconds;
    return std::max((is_short ? beside : workers) * 4 * chunk_,
                    workers * std::max(static_cast<std::size_t>(items), std::size_t{4}));
  }

  /// A chunk was sent whose arguments took that much.
  constexpr void note_sent(std::size_t items, std::size_t bytes) noexcept { item_bytes_ = bytes / items + 1; }
  /// A chunk was run. Where the kernel has interrupted its worker, it looks long: what two in a row took
  /// counts.
  constexpr void note_run(std::size_t items, double seconds) noexcept {
    const double took = seconds / static_cast<double>(items);
    const double each = std::min(took, std::exchange(last_item_seconds_, took));
    item_seconds_ += (each - item_seconds_) / (item_seconds_ == 0 ? 1 : 8);
    if (adapts_) adapt(each);
  }

 private:
  static constexpr std::size_t most_items = 65536;

  constexpr void adapt(double each) noexcept {
    const double most = static_cast<double>(most_items);
    const double in_time = each <= 0 ? most : aims_.chunk_seconds / each;
    const double in_bytes = aims_.chunk_bytes / static_cast<double>(std::max<std::size_t>(item_bytes_, 1));
    const double growth = 8 * static_cast<double>(chunk_);
    const auto next =
        static_cast<std::size_t>(std::clamp(std::min(in_time, in_bytes), 1.0, std::min(most, growth)));
    grows_ = next > chunk_;
    chunk_ = next;
  }

  Aims aims_;
  bool adapts_;
  bool grows_ = false;
  std::size_t chunk_;
  std::size_t item_bytes_ = 0;
  double item_seconds_ = 0;  // how long recent items ran on the average; 0: not known
  double last_item_seconds_ = std::numeric_limits<double>::infinity();  // those of the last chunk
};

}  // namespace kindred::internal
