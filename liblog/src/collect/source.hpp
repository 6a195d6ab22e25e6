#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "collect/lane_input.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/log_area.hpp"
#include "record/site.hpp"

namespace kindred::internal {

/// Counts of one source, for any thread to read.
struct SourceCounters {
  std::atomic<std::uint64_t> records{0};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> torn{0};
  std::atomic<std::uint64_t> late{0};
  std::atomic<std::uint64_t> bytes{0};

  /// Only the collector's thread adds.
  static void add(std::atomic<std::uint64_t>& counter, std::uint64_t count) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }
};

/// A process whose records are collected. Threads: the collector's.
class Source {
 public:
  Source(SourceId its_id, const SourceIdentity& its_identity, std::span<std::byte> area,
         const LogAreaShape& shape, std::shared_ptr<const void> keep_alive,
         std::shared_ptr<SourceCounters> its_counters)
      : id{its_id},
        identity{its_identity},
        counters{std::move(its_counters)},
        area_{area},
        shape_{shape},
        keep_alive_{std::move(keep_alive)} {
    lanes.resize(shape.lanes);
  }

  [[nodiscard]] LogControl& control() const noexcept { return *reinterpret_cast<LogControl*>(area_.data()); }
  /// Makes the input of a lane that the process has begun to use.
  LaneInput& open_lane(std::uint32_t index, bool from_now_on);
  /// The site of a record; null: the process never wrote it.
  [[nodiscard]] const Site* site(std::uint32_t index, SiteTable& all) {
    return index < sites_.size() ? sites_[index] : read_site(index, all);
  }
  /// Notes which process the source is, once that is known.
  void set_pid(std::uint32_t pid) noexcept;
  [[nodiscard]] std::string name() const {
    return identity.worker < 0 ? "the parent" : "worker " + std::to_string(identity.worker);
  }

  const SourceId id;
  SourceIdentity identity;
  const std::shared_ptr<SourceCounters> counters;
  std::vector<std::unique_ptr<LaneInput>> lanes;  ///< by index; null: not in use yet
  bool ended = false;                             ///< its process is dead
  bool corrupt = false;
  std::uint64_t added_at = 0;  ///< ticks
  std::uint64_t raw_lost_told = 0;
  /// Is it this process? Then nothing that it wrote ends its log.
  [[nodiscard]] bool is_trusted() const noexcept { return identity.worker < 0; }
  std::uint64_t unreadable = 0;          ///< of a trusted source
  std::uint64_t unreadable_told = 0;     ///< of these, reported
  std::uint64_t unreadable_told_at = 0;  ///< ticks
  const char* unreadable_why = "";
  /// The record at that place in the history is this source's latest.
  void note_recent(std::uint64_t position) noexcept { recent[recent_next++ % recent.size()] = position + 1; }
  static constexpr std::size_t recent_told = 10;  ///< the latest of these are told when the process is dead
  std::array<std::uint64_t, 16> recent{};         ///< positions in the history, +1; 0: none yet
  std::size_t recent_next = 0;                    ///< how many there were

 private:
  const Site* read_site(std::uint32_t index, SiteTable& all);

  std::span<std::byte> area_;
  LogAreaShape shape_;
  std::shared_ptr<const void> keep_alive_;
  std::vector<const Site*> sites_;
  std::uint64_t site_bytes_read_ = 0;
  std::vector<std::byte> scratch_;
};

}  // namespace kindred::internal
