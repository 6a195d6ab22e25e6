#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kindred/internal/sink.hpp"
#include "kindred/log_stats.hpp"
#include "kindred/sink_options.hpp"

namespace kindred::internal {

/// The sinks of a log. A sink that throws is reported on stderr at most once a second, and after `failures`
/// in a row is not called any more. While none was ever added, records of level warn and above go to stderr.
///
/// Threads: the collector's, but for `stats`.
class SinkSet {
 public:
  explicit SinkSet(unsigned failures) noexcept : most_failures_{failures} {}

  void add(SinkId id, std::unique_ptr<Sink> sink, SinkOptions options);
  /// Flushes and destroys it. Returns whether it was there.
  bool remove(SinkId id);
  void remove_all();
  /// From within a sink: it (or all) takes no further record; `remove` follows when nobody is in it.
  void retire(SinkId id) noexcept;
  void retire_all() noexcept;
  void write(const LogRecord& record);
  void flush();
  [[nodiscard]] bool dirty() const noexcept { return dirty_; }  ///< written to since the last flush
  /// Messages about sinks that were taken out of service since the last call.
  [[nodiscard]] std::vector<std::string> take_notes() { return std::exchange(notes_, {}); }
  void append_stats(std::vector<LogStats::Sink>& out) const;

 private:
  struct Slot {
    SinkId id{};
    std::unique_ptr<Sink> sink;
    SinkOptions options;
    std::atomic<std::uint64_t> written{0};
    std::atomic<std::uint64_t> failed{0};
    std::atomic<bool> disabled{false};
    bool retired = false;
    unsigned failures = 0;  ///< in a row
    std::chrono::steady_clock::time_point reported{};
  };
  /// `call` returns whether the sink was really used: then its row of failures ends.
  template <class F>
  void guard(Slot& slot, const char* doing, F&& call) noexcept;

  unsigned most_failures_;
  bool ever_added_ = false;
  bool dirty_ = false;
  std::vector<std::string> notes_;
  mutable std::mutex lock_;  ///< the list changes, and `stats` reads it, under it
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace kindred::internal
