#include "watch/trace_writer.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/files.hpp"

namespace kindred::internal {
namespace {

using namespace std::chrono_literals;

constexpr auto pause = 50ms;
// It stays in the second cache of a core, where the system call reads it again.
constexpr std::size_t piece_bytes = 64 * 1024;
// Two workers with tasks of 10 us make events that take some 2 % of a core. Beside one thread that never
// waits, the scheduler gives a thread of nice 19 1.4 % of a core, and events would be lost; a thread of nice
// 10, 10 %.
constexpr int niceness = 10;
// Beyond the first ones. Each costs as much as a run.
constexpr double arrows_a_second = 1'000;

SystemTime now_of_the_system() {
  return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

}  // namespace

TraceWriter::TraceWriter(Setup setup)
    : setup_{std::move(setup)},
      file_{open_to_append(setup_.path, 0666)},
      text_{{.pid = setup_.pid,
             .program = std::move(setup_.program),
             .begin_ticks = ticks(),
             .begin_time = now_of_the_system(),
             .ticks_a_nanosecond = setup_.ticks_a_nanosecond,
             .name_of_code = std::move(setup_.name_of_code)}} {
  if (const int error = truncate_file(file_.get(), 0); error != 0)
    throw SystemError{"ftruncate", error, "beginning the trace " + setup_.path, "Give a regular file."};
  LogRecord before;  // the trace shows records from now on
  while (setup_.records->next_now(before)) {}
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
  begin_background_thread("kindred-trace", niceness);
  for (bool last = false; !last;) {
    {
      std::unique_lock lock{mutex_};
      stop_changed_.wait_for(lock, pause, [&] { return stop_; });
      last = stop_;
    }
    try {
      round();
      if (last) {
        text_.put_end(ticks(), setup_.feed->lost() + not_written_);
        write_out(true);
      }
    } catch (const std::exception&) {
      // No memory: what was to be written is lost.
      drop();
    }
  }
  file_.reset();
}

void TraceWriter::round() {
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> passed = now - std::exchange(round_begun_, now);
  text_.allow_arrows(static_cast<std::uint64_t>(std::min(passed.count(), 1.0) * arrows_a_second));
  setup_.feed->take([&](const TraceEvent& event) { put(event); });
  LogRecord record;
  while (setup_.records->next_now(record)) put(record);
  write_out();
}

template <class Event>
void TraceWriter::put(const Event& event) {
  ++unwritten_;
  if (full_) {
    drop();
    return;
  }
  text_.put(event);
  // What does not fit into the file is left out as a whole piece, so pieces are small beside the file.
  if (text_.text().size() >= std::min<std::uint64_t>(piece_bytes, setup_.max_bytes / 8)) write_out();
}

void TraceWriter::drop() noexcept {
  not_written_ += std::exchange(unwritten_, 0);
  text_.text().clear();
}

void TraceWriter::write_out(bool end_of_file) {
  const TextBuffer& text = text_.text();
  if (!end_of_file && (full_ || written_ + text.size() > setup_.max_bytes)) {
    full_ = true;
    drop();
    return;
  }
  const auto before = written_;
  for (std::string_view rest = text.view(); !rest.empty();) {
    const auto wrote = write_some(file_.get(), rest);
    if (wrote <= 0) {  // a full disk: the file stays readable without what it has no room for
      static_cast<void>(truncate_file(file_.get(), before));
      written_ = before;
      full_ = true;
      drop();
      return;
    }
    rest.remove_prefix(static_cast<std::size_t>(wrote));
    written_ += static_cast<std::uint64_t>(wrote);
  }
  unwritten_ = 0;
  text_.text().clear();
}

}  // namespace kindred::internal
