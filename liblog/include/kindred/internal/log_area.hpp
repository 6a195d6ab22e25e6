#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kindred/internal/lane.hpp"
#include "kindred/log_options.hpp"

namespace kindred::internal {

struct LogControl;

/// What a process logs through: a part of its worker segment, or private memory for the parent's own records.
///
///     +------------------------+ 0
///     | LogControl             |  shape, levels (the parent writes), what is in use (the process writes)
///     +------------------------+ 512
///     | LaneLines x lanes      |  256 bytes each; the first ones in the page of the words that each log call
///     reads, see below
///     +------------------------+
///     | NamedLevels            |  the parent writes
///     +------------------------+ rounded up to a page
///     | site dictionary        |  site_bytes; append-only, the process writes
///     +------------------------+
///     | lane 0                 |  lane_bytes: the thread that runs tasks (the parent's first thread that
///     logs) | lane 1 ... n-1         |  thread_lane_bytes: a thread each | lane n                 |
///     thread_lane_bytes: all further threads, one at a time | lane n+1               |  raw_lane_bytes:
///     signal handlers
///     +------------------------+
///
/// A log call after a pause pays for each page that it touches (a walk through two page tables, in a virtual
/// machine), so of the area it touches one beside that of its record. What else it needs is in one page of
/// the process's own: see `ProcessLog`.
///
/// The collector never reads the shape back: it computes it from the same `LogOptions`.
struct LogAreaShape {
  explicit LogAreaShape(const LogOptions& options) noexcept;
  explicit LogAreaShape(
      const LogControl& control) noexcept;  ///< for the process that attaches: it trusts its parent

  static constexpr std::size_t lines_offset = 512;
  static constexpr std::size_t raw_lane_bytes = 16 * 1024;

  std::uint32_t lanes;  ///< the shared and the raw one included
  std::size_t lane_bytes;
  std::size_t thread_lane_bytes;
  std::size_t site_bytes;
  WhenFull when_full;

  [[nodiscard]] std::uint32_t shared_lane() const noexcept { return lanes - 2; }
  [[nodiscard]] std::uint32_t raw_lane() const noexcept { return lanes - 1; }
  [[nodiscard]] std::size_t named_offset() const noexcept {
    return lines_offset + lanes * sizeof(LaneLines<>);
  }
  [[nodiscard]] std::size_t sites_offset() const noexcept;
  [[nodiscard]] std::size_t room_bytes(std::uint32_t lane) const noexcept {
    return lane == 0 ? lane_bytes : lane == raw_lane() ? raw_lane_bytes : thread_lane_bytes;
  }
  [[nodiscard]] std::size_t room_offset(std::uint32_t lane) const noexcept {
    const auto first = sites_offset() + site_bytes;
    return lane == 0 ? first : first + lane_bytes + (lane - 1) * thread_lane_bytes;
  }
  [[nodiscard]] std::size_t total_bytes() const noexcept { return room_offset(raw_lane()) + raw_lane_bytes; }
  friend bool operator==(const LogAreaShape&, const LogAreaShape&) = default;
  /// Does the lane overwrite its oldest records?
  [[nodiscard]] bool overwrites(std::uint32_t lane) const noexcept {
    return when_full == WhenFull::drop_oldest && lane != raw_lane();
  }
  [[nodiscard]] static LaneLines<>& lines(std::span<std::byte> area, std::uint32_t lane) noexcept {
    return reinterpret_cast<LaneLines<>*>(area.data() + lines_offset)[lane];
  }
};

/// A level for the loggers below a name.
///
///     word 0, byte 0: bytes of the name; byte 1: level; the name in the rest
inline constexpr std::uint32_t levels_busy = 0x100;  ///< in `LogControl::levels`
inline constexpr unsigned levels_generation_shift = 9;
struct NamedLevel {
  static constexpr std::size_t longest_name = 62;
  std::atomic<std::uint64_t> words[8];
};
struct NamedLevels {
  static constexpr std::size_t max_names = 40;
  alignas(64) std::atomic<std::uint32_t> count;
  alignas(64) NamedLevel each[max_names];
};
inline std::size_t LogAreaShape::sites_offset() const noexcept {
  return (named_offset() + sizeof(NamedLevels) + 4095) / 4096 * 4096;
}

/// What the collector's thread does, for producers: from `napping` on it wants to be rung when a lane is half
/// full, from `sleeping` on at every record. `absent`: the parent's, before its thread was started.
enum class CollectorState : std::uint32_t { awake = 0, napping = 1, sleeping = 2, absent = 3 };

/// The begin of a log area. Its shape is for the process that attaches.
struct LogControl {
  static constexpr std::uint64_t magic_value = 0x6b6e'6472'6c6f'6731;  // "kndrlog1"

  // Written by the parent before the process starts.
  std::uint64_t magic;
  std::uint64_t area_bytes;
  std::uint64_t lane_bytes;
  std::uint64_t thread_lane_bytes;
  std::uint64_t site_bytes;
  std::uint32_t lanes;
  std::uint32_t block_limit_ms;
  WhenFull when_full;

  /// Written by the parent at any time, read by each log call.
  ///
  ///     31                  9    8     7      0
  ///    +---------------------+------+---------+
  ///    | generation          | busy | level   |    busy: `NamedLevels` is being written
  ///    +---------------------+------+---------+
  alignas(64) std::atomic<std::uint32_t> levels;
  std::atomic<std::uint32_t> collector;  ///< a `CollectorState`

  /// Written by the process.
  alignas(64)
      std::atomic<std::uint64_t> lanes_in_use;  ///< a bit a lane; set before its first record, never cleared
  std::atomic<std::uint64_t> site_bytes_used;   ///< the dictionary is complete up to here
  std::atomic<std::uint64_t> raw_lost;          ///< of signal handlers that interrupted one another
};
static_assert(sizeof(LogControl) <= LogAreaShape::lines_offset);

/// Returns the bytes of a log area, a multiple of a page.
[[nodiscard]] std::size_t log_area_bytes(const LogOptions& options) noexcept;
/// Writes the control words and the lanes' lines into zeroed memory. The parent, before the process starts.
/// Levels are set by `Collector::add_source`; until then nothing is logged below `options.level`.
void format_log_area(std::span<std::byte> area, const LogOptions& options) noexcept;

}  // namespace kindred::internal
