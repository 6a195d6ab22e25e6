#include "watch/trace_text.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/level.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t longest_message = 400;
constexpr std::int32_t pool_track = 0;
// A callback that comes later than this many other runs, and submits, gets no arrow. They fit into the second
// cache of a core, beside what is written.
constexpr std::size_t ended_runs = 1 << 12;
// In nanoseconds: a run of this length always has its arrow.
constexpr std::int64_t long_run = 1'000'000;
// What the two lines of a run take at most, beside the beginnings of both and the name in each.
constexpr std::size_t run_bytes = 512;

constexpr std::int32_t track_of(int worker) noexcept { return worker + 1; }  // the parent is worker -1

std::string json_string(std::string_view text) {
  TextBuffer out;
  out.push_back('"');
  static_cast<void>(append_json_escaped(out, text));
  out.push_back('"');
  return std::string{out.view()};
}

std::string_view words_of(TraceEvent::Outcome outcome) noexcept {
  switch (outcome) {
    case TraceEvent::Outcome::value: return "value";
    case TraceEvent::Outcome::failure: return "failure";
    case TraceEvent::Outcome::lost: return "lost";
    case TraceEvent::Outcome::running: return "running";
  }
  return "";
}

/// Cut so that no character of UTF-8 is cut.
std::string_view beginning_of(std::string_view text) {
  if (text.size() <= longest_message) return text;
  std::size_t end = longest_message;
  while (end > longest_message - 4 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) --end;
  return text.substr(0, end);
}

char* write_text(char* at, std::string_view text) noexcept {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}
template <std::size_t Size>
char* write_text(char* at, const char (&literal)[Size]) noexcept {
  std::memcpy(at, literal, Size - 1);
  return at + Size - 1;
}

/// A point, and `thousandths` with three digits.
char* write_fraction(char* at, std::uint32_t thousandths) noexcept {
  at[0] = '.';
  at[1] = static_cast<char>('0' + thousandths / 100);
  return write_pair(at + 2, thousandths % 100);
}

/// In microseconds, as the format has it, with the nanoseconds behind the point.
char* write_time(char* at, std::int64_t nanoseconds) noexcept {
  const auto count = static_cast<std::uint64_t>(nanoseconds);
  return write_fraction(write_decimal(at, count / 1000), static_cast<std::uint32_t>(count % 1000));
}

/// The same for times that follow each other.
char* write_time(char* at, std::int64_t nanoseconds, LeadingDigits& before) noexcept {
  const auto count = static_cast<std::uint64_t>(nanoseconds);
  return write_fraction(before.write(at, count / 1000), static_cast<std::uint32_t>(count % 1000));
}

/// The number of a run's arrow: the viewers read it as hexadecimal, so that decimal digits, the last five of
/// which are the attempt, are a number of its own for each run.
char* write_arrow(char* at, const TraceEvent& event) noexcept {
  *at++ = '"';
  at = write_decimal(at, event.task_id);
  write_padded(at, event.attempt, 5);
  at[5] = '"';
  return at + 6;
}

}  // namespace

TraceText::TraceText(Setup setup)
    : setup_{std::move(setup)}, nanoseconds_a_tick_{1 / setup_.ticks_a_nanosecond}, ended_(ended_runs) {
  out_.append("[\n");
  out_.append(fmt::format("{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{},\"args\":{{\"name\":{}}}}},\n",
                          setup_.pid, json_string(setup_.program)));
  static_cast<void>(head_of(pool_track));
}

void TraceText::put(const TraceEvent& event) {
  switch (event.kind) {
    case TraceEvent::Kind::run: put_run(event); break;
    case TraceEvent::Kind::caused: put_caused(event); break;
    case TraceEvent::Kind::worker_started:
    case TraceEvent::Kind::worker_died: put_worker(event); break;
    case TraceEvent::Kind::counters: put_counters(event); break;
  }
}

void TraceText::put_run(const TraceEvent& event) {
  const auto submitted = since_begin(event.submitted);
  const auto begun = since_begin(event.begun);
  const auto ran = std::max<std::int64_t>(since_begin(event.ended) - begun, 0);
  const std::string& name = name_of(event.name);
  const std::string& worker = head_of(track_of(event.worker));
  const bool has_arrow = takes_arrow(event.outcome, ran);

  const std::size_t room = run_bytes + 2 * name.size() + worker.size() + heads_[pool_track].size();
  char* const from = out_.reserve(room);
  char* at = from;
  if (has_arrow) at = write_submission(at, event, name, submitted);
  at = write_text(at, worker);
  at = write_time(at, begun, begun_digits_);
  at = write_text(at, R"(,"ph":"X","cat":"task","dur":)");
  at = write_time(at, ran);
  if (has_arrow) {
    at = write_text(at, R"(,"flow_in":true,"bind_id":)");
    at = write_arrow(at, event);
  }
  at = write_text(at, name);
  at = id_digits_.write(at, event.task_id);
  at = write_text(at, R"(,"queued_us":)");
  at = write_time(at, std::max<std::int64_t>(begun - submitted, 0), queued_digits_);
  if (event.attempt > 1) {
    at = write_text(at, R"(,"attempt":)");
    at = write_decimal(at, std::uint64_t{event.attempt});
  }
  if (event.outcome != TraceEvent::Outcome::value) {
    at = write_text(at, R"(,"outcome":")");
    at = write_text(at, words_of(event.outcome));
    *at++ = '"';
  }
  at = write_text(at, "}},\n");
  KINDRED_ASSERT(static_cast<std::size_t>(at - from) <= room);
  out_.end_at(at);
  ended_[event.task_id % ended_runs] = {event.task_id, event.worker, begun + ran};
}

bool TraceText::takes_arrow(TraceEvent::Outcome outcome, std::int64_t ran) noexcept {
  if (ran >= long_run || outcome != TraceEvent::Outcome::value) return true;
  if (arrows_left_ == 0) {
    ++runs_without_arrow_;
    return false;
  }
  --arrows_left_;
  return true;
}

char* TraceText::write_submission(char* at, const TraceEvent& event, const std::string& name,
                                  std::int64_t submitted) const {
  at = write_text(at, heads_[pool_track]);
  at = write_time(at, submitted);
  at = write_text(at, R"(,"ph":"X","cat":"submit","dur":0,"flow_out":true,"bind_id":)");
  at = write_arrow(at, event);
  at = write_text(at, name);
  at = write_decimal(at, event.task_id);
  return write_text(at, "}},\n");
}

/// An arrow from the end of the run whose callback submitted, to the new task's submission.
void TraceText::put_caused(const TraceEvent& event) {
  const EndedRun& cause = ended_[event.submitted % ended_runs];
  if (cause.task_id != event.submitted) return;
  put_arrow_end("s", track_of(cause.worker), cause.ended, event.task_id);
  put_arrow_end("f", pool_track, since_begin(event.begun), event.task_id);
}

void TraceText::put_arrow_end(const char* phase, std::int32_t track, std::int64_t at, std::uint64_t task_id) {
  put_head(phase, track, at);
  out_.append(fmt::format(R"(,"cat":"after","name":"after","id":"after {}")", task_id));
  out_.append(*phase == 'f' ? ",\"bp\":\"e\"},\n" : "},\n");
}

void TraceText::put_worker(const TraceEvent& event) {
  const bool died = event.kind == TraceEvent::Kind::worker_died;
  put_head("i", track_of(event.worker), since_begin(event.begun));
  out_.append(fmt::format(R"(,"s":"{}","cat":"worker","name":"worker {} {}")", died ? 'p' : 't', event.worker,
                          died ? "died" : "started"));
  out_.append(
      fmt::format(",\"args\":{{\"pid\":{},\"incarnation\":{}}}}},\n", event.task_id, event.submitted));
}

void TraceText::put_counters(const TraceEvent& event) {
  const auto at = since_begin(event.begun);
  put_head("C", pool_track, at);
  out_.append(fmt::format(",\"name\":\"tasks\",\"args\":{{\"waiting\":{},\"handed\":{}}}}},\n",
                          event.submitted, event.ended));
  put_head("C", pool_track, at);
  out_.append(fmt::format(",\"name\":\"workers\",\"args\":{{\"workers\":{}}}}},\n", event.task_id));
}

void TraceText::put(const LogRecord& record) {
  put_head("i", track_of(record.worker), (record.time - setup_.begin_time).count());
  out_.append(R"(,"s":"t","cat":"log","name":")");
  static_cast<void>(append_json_escaped(out_, beginning_of(record.message)));
  out_.append(R"(","args":{"level":")");
  out_.append(to_string(record.level));
  out_.append(R"(","task":)");
  out_.append_number(record.task_id);
  out_.append(R"(,"logger":")");
  static_cast<void>(append_json_escaped(out_, record.logger));
  out_.append("\"}},\n");
}

void TraceText::put_end(std::uint64_t at_ticks, std::uint64_t lost_events) {
  put_head("i", pool_track, since_begin(at_ticks));
  out_.append(fmt::format(
      ",\"s\":\"p\",\"name\":\"end of the trace\",\"args\":{{\"lost_events\":{},\"runs_without_arrow\":{}}}}}\n]\n",
      lost_events, runs_without_arrow_));
}

void TraceText::put_head(const char* phase, std::int32_t track, std::int64_t at) {
  out_.append(head_of(track));
  char* const text = out_.reserve(24);
  out_.end_at(write_time(text, std::max<std::int64_t>(at, 0)));
  out_.append(R"(,"ph":")");
  out_.append(phase);
  out_.push_back('"');
}

const std::string& TraceText::begin_track(std::int32_t track) {
  const auto place = static_cast<std::size_t>(track);
  if (place >= heads_.size()) heads_.resize(place + 1);
  std::string& head = heads_[place];
  const auto name = track == pool_track ? std::string{"pool"} : fmt::format("worker {}", track - 1);
  fmt::format_to(std::back_inserter(head), R"({{"pid":{},"tid":{},"ts":)", setup_.pid, track);
  const auto meta = fmt::format(R"({{"ph":"M","pid":{},"tid":{},"name":)", setup_.pid, track);
  out_.append(fmt::format("{}\"thread_name\",\"args\":{{\"name\":\"{}\"}}}},\n", meta, name));
  out_.append(fmt::format("{}\"thread_sort_index\",\"args\":{{\"sort_index\":{}}}}},\n", meta, track));
  return head;
}

const std::string& TraceText::look_up_name(const TaskNameEntry* name) {
  std::string& text = names_[name];
  if (text.empty()) {
    auto words = name->given.empty() ? setup_.name_of_code(name->code) : name->given;
    if (words.empty()) words = "(unnamed)";
    text = R"(,"name":)" + json_string(words) + R"(,"args":{"task":)";
  }
  latest_ = name;
  latest_name_ = &text;
  return text;
}

std::int64_t TraceText::since_begin(std::uint64_t at_ticks) const noexcept {
  // A worker says when a run began and ended, and may say anything.
  constexpr double longest = 9e18;
  const auto since = static_cast<double>(static_cast<std::int64_t>(at_ticks - setup_.begin_ticks));
  return static_cast<std::int64_t>(std::clamp(since * nanoseconds_a_tick_, 0.0, longest));
}

}  // namespace kindred::internal
