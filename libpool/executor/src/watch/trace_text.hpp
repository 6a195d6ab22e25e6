#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

/// Writes numbers in decimal that are mostly near the number before: all digits but the last four are kept as
/// text, and are written anew only where they changed.
class LeadingDigits {
 public:
  static constexpr std::size_t room = 24;

  /// At most `room` bytes are touched. Returns the end of the number.
  char* write(char* at, std::uint64_t number) noexcept {
    const std::uint64_t leading = number / 10'000;
    if (leading != leading_) [[unlikely]] {
      leading_ = leading;
      // Nothing precedes the last four digits where these are all: those have no leading zeros.
      size_ = leading == 0 ? 0 : static_cast<std::size_t>(write_decimal(text_, leading) - text_);
    }
    if (size_ == 0) return write_decimal(at, number);
    std::memcpy(at, text_, sizeof text_);  // a known size is faster than the right one
    at += size_;
    const auto last = static_cast<std::uint32_t>(number - leading * 10'000);
    return write_pair(write_pair(at, last / 100), last % 100);
  }

 private:
  std::uint64_t leading_ = 0;
  std::size_t size_ = 0;
  char text_[20]{};
};

/// Events as text in the JSON array form of the Trace Event Format: one event a line. libpool/doc/trace.md
/// says what stands in it.
///
/// A run is a slice on the worker's track. An arrow to it leaves (`flow_out`, `flow_in`) a second line, the
/// submission on the pool's track. An arrow doubles what a run costs, and no reader follows a hundred
/// thousand arrows a second: runs of less than a millisecond have one only while `allow_arrows` has left
/// some. All that repeats (the beginning of a track's lines, a name) is kept as text.
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

  /// Arrows for short runs at the beginning, and as many as are left at most.
  static constexpr std::uint64_t max_arrows = 10'000;

  void put(const TraceEvent& event);
  void put(const LogRecord& record);
  /// Lets that many more short runs have an arrow.
  void allow_arrows(std::uint64_t count) noexcept {
    arrows_left_ = std::min(arrows_left_ + count, max_arrows);
  }
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
  [[nodiscard]] bool takes_arrow(TraceEvent::Outcome outcome, std::int64_t ran) noexcept;
  /// The submission's line; what follows it is written at what it returns.
  char* write_submission(char* at, const TraceEvent& event, const std::string& name,
                         std::int64_t submitted) const;
  void put_caused(const TraceEvent& event);
  void put_arrow_end(const char* phase, std::int32_t track, std::int64_t at, std::uint64_t task_id);
  void put_worker(const TraceEvent& event);
  void put_counters(const TraceEvent& event);
  void put_head(const char* phase, std::int32_t track, std::int64_t at);
  /// `{"pid":P,"tid":T,"ts":`; the first time, the lines that name the track come before it.
  const std::string& head_of(std::int32_t track) {
    const auto place = static_cast<std::size_t>(track);
    return place < heads_.size() && !heads_[place].empty() ? heads_[place] : begin_track(track);
  }
  const std::string& begin_track(std::int32_t track);
  /// `,"name":"NAME","args":{"task":`.
  const std::string& name_of(const TaskNameEntry* name) {
    return name == latest_ ? *latest_name_ : look_up_name(name);
  }
  const std::string& look_up_name(const TaskNameEntry* name);
  /// In nanoseconds; what was before the trace began is 0.
  [[nodiscard]] std::int64_t since_begin(std::uint64_t at_ticks) const noexcept;

  const Setup setup_;
  const double nanoseconds_a_tick_;
  TextBuffer out_;
  LeadingDigits begun_digits_, queued_digits_, id_digits_;
  std::vector<std::string> heads_;  // by track
  std::unordered_map<const TaskNameEntry*, std::string> names_;
  const TaskNameEntry* latest_ = nullptr;
  const std::string* latest_name_ = nullptr;
  std::vector<EndedRun> ended_;  // by task id
  std::uint64_t arrows_left_ = max_arrows;
  std::uint64_t runs_without_arrow_ = 0;
};

}  // namespace kindred::internal
