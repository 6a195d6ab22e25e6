#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kindred/internal/tail_client.hpp"
#include "kindred/level.hpp"

namespace kindred::view {

/// Follows the log of one pool on a thread of its own, and keeps its last lines.
class LogFollower {
 public:
  LogFollower(internal::DoorPool pool, Level level);
  LogFollower(const LogFollower&) = delete;
  LogFollower& operator=(const LogFollower&) = delete;
  ~LogFollower();

  /// Returns the latest lines of the log, the oldest first, escaped for a terminal.
  [[nodiscard]] std::vector<std::string> lines() const;

 private:
  void run();
  void keep(std::string line);

  internal::DoorPool pool_;
  mutable std::mutex lock_;
  std::deque<std::string> lines_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// The last records that the pool keeps, each as JSON (what sinks::json writes). Blocks: for some seconds at
/// most, where the pool does not answer.
[[nodiscard]] std::vector<std::string> kept_records(const internal::DoorPool& pool, std::uint64_t count);
/// Returns a record, given as JSON, as a line: "14:05:40.113 warn w2 frame#991  retry 2".
[[nodiscard]] std::string record_as_line(std::string_view json);

}  // namespace kindred::view
