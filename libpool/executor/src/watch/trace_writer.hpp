#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/descriptor.hpp"
#include "watch/pool_view.hpp"
#include "watch/trace_feed.hpp"
#include "watch/trace_text.hpp"

namespace kindred::internal {

/// Writes a trace file in the JSON array form of the Trace Event Format, which Perfetto and chrome://tracing
/// open, also where the process was killed and the closing bracket is missing. libpool/doc/trace.md says what
/// stands in it.
///
/// A thread of nice 10 takes events from the feed and records from the log, some twenty times a second. What
/// it has no time for is lost and counted; the pool never waits for it.
class TraceWriter {
 public:
  struct Setup {
    std::string path;
    std::uint64_t max_bytes = 0;  ///< what would make the file larger is counted and not written
    std::uint32_t pid = 0;
    std::string program;
    double ticks_a_nanosecond = 1;
    std::shared_ptr<TraceFeed> feed;
    std::unique_ptr<RecordSource> records;
    std::function<std::string(CodeReference)> name_of_code;
  };
  /// Begins the file, in the place of one that is there. Errors: `SystemError`, `UsageError` (no regular
  /// file).
  explicit TraceWriter(Setup setup);
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;
  ~TraceWriter() { end(); }

  /// Writes what there is, and ends the file. Returns how many events were lost. Blocks: for the disk.
  std::uint64_t end() noexcept;

 private:
  void run() noexcept;
  void round();
  template <class Event>  // a `TraceEvent` or a `LogRecord`
  void put(const Event& event);
  /// Counts what was put and is not in the file.
  void drop() noexcept;
  void write_out(bool end_of_file = false);

  Setup setup_;
  Descriptor file_;
  TraceText text_;
  std::uint64_t written_ = 0;
  std::uint64_t unwritten_ = 0;    // events in `text_`
  std::uint64_t not_written_ = 0;  // events, for want of room in the file, or because the disk is full
  bool full_ = false;
  std::chrono::steady_clock::time_point round_begun_ = std::chrono::steady_clock::now();

  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace kindred::internal
