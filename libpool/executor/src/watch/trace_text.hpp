#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"
#include "watch/pool_view.hpp"
#include "watch/task_names.hpp"
#include "watch/trace_feed.hpp"

namespace kindred::internal {

/// Events as text in the JSON array form of the Trace Event Format: one event a line. libpool/doc/trace.md
/// says what stands in it.
///
/// A run is two lines: the submission on the pool's track, which the arrow of the queue leaves (`flow_out`),
/// and the slice on the worker's track, where it ends (`flow_in`). All that repeats (the beginning of a
/// track's lines, a name) is kept as text: a task of ten microseconds can be traced for some hundred
/// instructions only.
///
/// Threads: one.
class TraceText {
 public:
  struct Setup {
    std::uint32_t pid = 0;
    std::string program;
    std::uint64_t begin_ticks = 0;
    SystemTime begin_time{};
    double ticks_a_nanosecond = 1;
    std::function<std::string(CodeReference)> name_of_code;
  };
  explicit TraceText(Setup setup);

  void put(const TraceEvent& event);
  void put(const LogRecord& record);
  /// The last line, and the closing bracket.
  void put_end(std::uint64_t at_ticks, std::uint64_t lost_events);
  /// What was put since it was last cleared.
  [[nodiscard]] TextBuffer& text() noexcept { return out_; }

 private:
  struct EndedRun {
    std::uint64_t task_id = 0;
    std::int32_t worker = -1;
    std::int64_t ended = 0;
  };
  void put_run(const TraceEvent& event);
  void put_caused(const TraceEvent& event);
  void put_arrow_end(const char* phase, std::int32_t track, std::int64_t at, std::uint64_t task_id);
  void put_worker(const TraceEvent& event);
  void put_counters(const TraceEvent& event);
  void put_head(const char* phase, std::int32_t track, std::int64_t at);
  /// `"pid":P,"tid":T,"ts":`; the first time, the lines that name the track come before it.
  const std::string& head_of(std::int32_t track);
  /// As a JSON string.
  const std::string& name_of(const TaskNameEntry* name);
  /// In nanoseconds; what was before the trace began is 0.
  [[nodiscard]] std::int64_t since_begin(std::uint64_t at_ticks) const noexcept;

  const Setup setup_;
  const double nanoseconds_a_tick_;
  TextBuffer out_;
  std::vector<std::string> heads_;  // by track
  std::unordered_map<const TaskNameEntry*, std::string> names_;
  const TaskNameEntry* latest_ = nullptr;
  const std::string* latest_name_ = nullptr;
  std::vector<EndedRun> ended_;  // by task id
};

}  // namespace kindred::internal
