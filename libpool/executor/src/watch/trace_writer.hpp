#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kindred/internal/collector.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/internal/wakeup.hpp"
#include "watch/pool_view.hpp"
#include "watch/trace_feed.hpp"

namespace kindred::internal {

/// Writes a trace file in the JSON array form of the Trace Event Format, which Perfetto and chrome://tracing
/// open, also where the process was killed and the closing bracket is missing. libpool/doc/trace.md says what
/// stands in it.
///
/// A thread of nice 19 takes events from the feed and records from the log, some twenty times a second. What
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
  void put_run(const TraceEvent& event);
  void put_flow(const char* phase, const char* category, const TraceEvent& event, std::int32_t track,
                std::int64_t at);
  void put_caused(const TraceEvent& event);
  void put_worker(const TraceEvent& event);
  void put_counters(const TraceEvent& event);
  void put_record(const LogRecord& record);
  void put_track(std::int32_t track);
  void put_head(const char* phase, std::int32_t track, std::int64_t at);
  void put_name(const TaskNameEntry* name);
  void put_time(std::int64_t nanoseconds);
  void finish_event();
  void write_out(bool end_of_file = false);
  [[nodiscard]] std::int64_t since_begin(std::uint64_t at_ticks) const noexcept;

  Setup setup_;
  Descriptor file_;
  const std::uint64_t begin_ticks_;
  const SystemTime begin_time_;
  TextBuffer out_;
  std::uint64_t written_ = 0;
  std::uint64_t not_written_ = 0;  // for want of room in the file, or because the disk is full
  bool full_ = false;
  std::vector<TraceEvent> events_;
  std::unordered_map<const TaskNameEntry*, std::string> names_;  // as JSON strings
  std::unordered_set<std::int32_t> tracks_;
  struct EndedRun {
    std::uint64_t task_id = 0;
    std::int32_t worker = -1;
    std::int64_t ended = 0;
  };
  static constexpr std::size_t ended_runs = 1 << 14;  // a callback that comes later than so many others, and
                                                      // submits, gets no arrow
  std::vector<EndedRun> ended_{ended_runs};           // by task id

  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace kindred::internal
