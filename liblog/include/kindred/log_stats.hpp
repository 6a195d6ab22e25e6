#pragma once

#include <cstdint>
#include <vector>

namespace kindred {

/// Names a sink of one executor.
enum class SinkId : std::uint64_t {};

/// What a log has done so far. `committed == delivered + held back + unreadable` at any quiet moment: nothing
/// is lost without a count.
struct LogStats {
  std::uint64_t committed =
      0;  ///< records of loggers, in all processes, that the collector has seen complete
  std::uint64_t delivered =
      0;  ///< of these, handed to the sinks (or, while there was none yet, looked at for stderr)
  std::uint64_t held_back = 0;  ///< of these, records that went to the flight recorder and to no sink
  std::uint64_t emitted =
      0;  ///< made by the parent itself: lifecycle, crash, captured output, notes on drops
  std::uint64_t dropped = 0;          ///< never committed, because a lane was full
  std::uint64_t torn = 0;             ///< begun by a process that died before it committed them
  std::uint64_t late = 0;             ///< delivered after records that are younger
  std::uint64_t corrupt_sources = 0;  ///< workers that corrupted their log: it was read only up to there
  std::uint64_t unreadable = 0;       ///< records of the parent that could not be read: each lost alone
  std::uint64_t bytes = 0;            ///< taken out of lanes
  std::uint64_t wakeups = 0;          ///< of the collector's thread
  struct Sink {
    SinkId id{};
    std::uint64_t written = 0;
    std::uint64_t failed = 0;  ///< calls that threw
    std::uint64_t lost = 0;    ///< taken, and could not be kept (full disk, reader gone)
    bool disabled = false;     ///< threw too often in a row
  };
  std::vector<Sink> sinks;
};

/// The part of one process. Counts as in `LogStats`.
struct LogSourceStats {
  std::uint64_t records = 0;
  std::uint64_t dropped = 0;
  std::uint64_t torn = 0;
  std::uint64_t late = 0;
  std::uint64_t bytes = 0;
};

}  // namespace kindred
