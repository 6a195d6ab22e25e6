#include "watch/trace_writer.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/level.hpp"

namespace kindred::internal {
namespace {

using namespace std::chrono_literals;

constexpr auto pause = 50ms;
constexpr std::size_t piece_bytes = 256 * 1024;
constexpr std::size_t longest_message = 400;
constexpr std::int32_t pool_track = 0;

constexpr std::int32_t track_of(int worker) noexcept { return worker + 1; }  // the parent is worker -1

SystemTime now_of_the_system() {
  return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

std::string json_string(std::string_view text) {
  TextBuffer out;
  out.push_back('"');
  static_cast<void>(append_json_escaped(out, text));
  out.push_back('"');
  return std::string{out.view()};
}

const char* words_of(TraceEvent::Outcome outcome) noexcept {
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

}  // namespace

TraceWriter::TraceWriter(Setup setup)
    : setup_{std::move(setup)},
      file_{open_to_append(setup_.path, 0666)},
      begin_ticks_{ticks()},
      begin_time_{now_of_the_system()} {
  if (const int error = truncate_file(file_.get(), 0); error != 0)
    throw SystemError{"ftruncate", error, "beginning the trace " + setup_.path, "Give a regular file."};
  LogRecord before;  // the trace shows records from now on
  while (setup_.records->next_now(before)) {}
  out_.append("[\n");
  out_.append(fmt::format(R"({{"ph":"M","name":"process_name","pid":{},"args":{{"name":{}}}}})", setup_.pid,
                          json_string(setup_.program)));
  finish_event();
  put_track(pool_track);
  write_out();
  try {
    thread_ = std::thread{[this] { run(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the thread of a trace",
                      "Raise the limit on processes (ulimit -u)."};
  }
}

std::uint64_t TraceWriter::end() noexcept {
  {
    const std::scoped_lock lock{mutex_};
    stop_ = true;
    stop_changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  return setup_.feed->lost() + not_written_;
}

void TraceWriter::run() noexcept {
  begin_background_thread("kindred-trace");
  for (bool last = false; !last;) {
    {
      std::unique_lock lock{mutex_};
      stop_changed_.wait_for(lock, pause, [&] { return stop_; });
      last = stop_;
    }
    try {
      round();
      if (last) {
        put_head("i", pool_track, since_begin(ticks()));
        out_.append(fmt::format(R"(,"s":"p","name":"end of the trace","args":{{"lost_events":{}}}}})",
                                setup_.feed->lost() + not_written_));
        out_.append("\n]\n");
        write_out(true);
      }
    } catch (const std::exception&) {
      // No memory: what was to be written is lost.
      ++not_written_;
      out_.clear();
    }
  }
  file_.reset();
}

void TraceWriter::round() {
  events_.clear();
  setup_.feed->take(events_);
  for (const TraceEvent& event : events_) {
    if (full_) {
      ++not_written_;
      continue;
    }
    switch (event.kind) {
      case TraceEvent::Kind::run: put_run(event); break;
      case TraceEvent::Kind::caused: put_caused(event); break;
      case TraceEvent::Kind::worker_started:
      case TraceEvent::Kind::worker_died: put_worker(event); break;
      case TraceEvent::Kind::counters: put_counters(event); break;
    }
  }
  LogRecord record;
  while (setup_.records->next_now(record)) {
    if (full_)
      ++not_written_;
    else
      put_record(record);
  }
  write_out();
}

void TraceWriter::put_run(const TraceEvent& event) {
  const auto track = track_of(event.worker);
  put_track(track);
  const auto submitted = std::max<std::int64_t>(since_begin(event.submitted), 0);
  const auto begun = std::max<std::int64_t>(since_begin(event.begun), 0);
  const auto ran = std::max<std::int64_t>(since_begin(event.ended) - begun, 0);
  put_head("X", track, begun);
  out_.append(R"(,"cat":"task","dur":)");
  put_time(ran);
  out_.append(R"(,"name":)");
  put_name(event.name);
  out_.append(R"(,"args":{"task":)");
  out_.append_number(event.task_id);
  out_.append(R"(,"attempt":)");
  out_.append_number(std::uint64_t{event.attempt});
  out_.append(R"(,"queued_us":)");
  put_time(std::max<std::int64_t>(begun - submitted, 0));
  out_.append(R"(,"outcome":")");
  out_.append(words_of(event.outcome));
  out_.append("\"}}");
  finish_event();

  put_head("X", pool_track, submitted);
  out_.append(R"(,"cat":"submit","dur":0,"name":)");
  put_name(event.name);
  out_.append(R"(,"args":{"task":)");
  out_.append_number(event.task_id);
  out_.append("}}");
  finish_event();
  put_flow("s", "queue", event, pool_track, submitted);
  put_flow("f", "queue", event, track, begun);
  ended_[event.task_id % ended_runs] = {event.task_id, event.worker, begun + ran};
}

void TraceWriter::put_flow(const char* phase, const char* category, const TraceEvent& event,
                           std::int32_t track, std::int64_t at) {
  put_head(phase, track, at);
  out_.append(
      fmt::format(R"(,"cat":"{0}","name":"{0}","id":"{0} {1}.{2}")", category, event.task_id, event.attempt));
  out_.append(*phase == 'f' ? R"(,"bp":"e"})" : "}");
  finish_event();
}

/// An arrow from the end of the run whose callback submitted, to the new task's submission.
void TraceWriter::put_caused(const TraceEvent& event) {
  const EndedRun& cause = ended_[event.submitted % ended_runs];
  if (cause.task_id != event.submitted) return;
  put_flow("s", "after", event, track_of(cause.worker), cause.ended);
  const auto at = std::max<std::int64_t>(since_begin(event.begun), 0);
  put_flow("f", "after", event, pool_track, at);
}

void TraceWriter::put_worker(const TraceEvent& event) {
  const auto track = track_of(event.worker);
  put_track(track);
  put_head("i", track, since_begin(event.begun));
  const bool died = event.kind == TraceEvent::Kind::worker_died;
  out_.append(
      fmt::format(R"(,"s":"{}","cat":"worker","name":"worker {} {}","args":{{"pid":{},"incarnation":{}}}}})",
                  died ? 'p' : 't', event.worker, died ? "died" : "started", event.task_id, event.submitted));
  finish_event();
}

void TraceWriter::put_counters(const TraceEvent& event) {
  const auto at = since_begin(event.begun);
  put_head("C", pool_track, at);
  out_.append(
      fmt::format(R"(,"name":"tasks","args":{{"waiting":{},"handed":{}}}}})", event.submitted, event.ended));
  finish_event();
  put_head("C", pool_track, at);
  out_.append(fmt::format(R"(,"name":"workers","args":{{"workers":{}}}}})", event.task_id));
  finish_event();
}

void TraceWriter::put_record(const LogRecord& record) {
  const auto track = track_of(record.worker);
  put_track(track);
  put_head("i", track, (record.time - begin_time_).count());
  out_.append(R"(,"s":"t","cat":"log","name":")");
  static_cast<void>(append_json_escaped(out_, beginning_of(record.message)));
  out_.append(R"(","args":{"level":")");
  out_.append(to_string(record.level));
  out_.append(R"(","task":)");
  out_.append_number(record.task_id);
  out_.append(R"(,"logger":")");
  static_cast<void>(append_json_escaped(out_, record.logger));
  out_.append("\"}}");
  finish_event();
}

void TraceWriter::put_track(std::int32_t track) {
  if (!tracks_.insert(track).second) return;
  const auto name = track == pool_track ? std::string{"pool"} : fmt::format("worker {}", track - 1);
  out_.append(fmt::format(R"({{"ph":"M","name":"thread_name","pid":{},"tid":{},"args":{{"name":"{}"}}}})",
                          setup_.pid, track, name));
  finish_event();
  out_.append(
      fmt::format(R"({{"ph":"M","name":"thread_sort_index","pid":{},"tid":{},"args":{{"sort_index":{}}}}})",
                  setup_.pid, track, track));
  finish_event();
}

void TraceWriter::put_head(const char* phase, std::int32_t track, std::int64_t at) {
  out_.append("{\"ph\":\"");
  out_.append(phase);
  out_.append("\",\"pid\":");
  out_.append_number(std::uint64_t{setup_.pid});
  out_.append(",\"tid\":");
  out_.append_number(static_cast<std::int64_t>(track));
  out_.append(",\"ts\":");
  put_time(std::max<std::int64_t>(at, 0));
}

void TraceWriter::put_name(const TaskNameEntry* name) {
  auto& text = names_[name];
  if (text.empty()) {
    auto words = name->given.empty() ? setup_.name_of_code(name->code) : name->given;
    if (words.empty()) words = "(unnamed)";
    text = json_string(words);
  }
  out_.append(text);
}

/// In microseconds, as the format has it, with the nanoseconds behind the point.
void TraceWriter::put_time(std::int64_t nanoseconds) {
  const auto count = static_cast<std::uint64_t>(nanoseconds);
  out_.append_number(count / 1000);
  out_.push_back('.');
  out_.append_padded(static_cast<std::uint32_t>(count % 1000), 3);
}

void TraceWriter::finish_event() {
  out_.append(",\n");
  // What does not fit into the file is left out as a whole piece, so pieces are small beside the file.
  if (out_.size() >= std::min<std::uint64_t>(piece_bytes, setup_.max_bytes / 8)) write_out();
}

void TraceWriter::write_out(bool end_of_file) {
  if (!end_of_file && (full_ || written_ + out_.size() > setup_.max_bytes)) {
    full_ = true;
    ++not_written_;
    out_.clear();
    return;
  }
  const auto before = written_;
  for (std::string_view rest = out_.view(); !rest.empty();) {
    const auto wrote = write_some(file_.get(), rest);
    if (wrote <= 0) {  // a full disk: the file stays readable without what it has no room for
      static_cast<void>(truncate_file(file_.get(), before));
      written_ = before;
      full_ = true;
      ++not_written_;
      break;
    }
    rest.remove_prefix(static_cast<std::size_t>(wrote));
    written_ += static_cast<std::uint64_t>(wrote);
  }
  out_.clear();
}

std::int64_t TraceWriter::since_begin(std::uint64_t at_ticks) const noexcept {
  return static_cast<std::int64_t>(static_cast<double>(static_cast<std::int64_t>(at_ticks - begin_ticks_)) /
                                   setup_.ticks_a_nanosecond);
}

}  // namespace kindred::internal
