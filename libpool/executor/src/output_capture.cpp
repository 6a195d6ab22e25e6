#include "output_capture.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/keeper.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {
namespace {

constexpr std::chrono::milliseconds between_rounds{1};
constexpr unsigned long_line_patience = 100;  ///< rounds
PrintedTexts& printed_in(std::span<std::byte> page) noexcept {
  return *reinterpret_cast<PrintedTexts*>(page.subspan(printed_texts_offset, sizeof(PrintedTexts)).data());
}

}  // namespace

OutputCapture::OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr,
                             std::span<std::byte> page, bool own_table)
    : stdout_{std::move(captured_stdout), Origin::stdout, printed_in(page).out},
      stderr_{std::move(captured_stderr), Origin::stderr, printed_in(page).error},
      copies_{make_capture_pipe()} {
  for (std::size_t i = 0; i < identities_.size(); ++i) identities_[i] = pipe_identity(descriptors()[i]);
  std::thread{[this, own_table] {
    begin_service_thread("kindred-output");
    auto kept = descriptors();
    std::ranges::sort(kept);
    own_table_.store(own_table && take_own_descriptors(kept) ? 1 : 2, std::memory_order_release);
    futex_wake(own_table_, 1);
    while (wait_for_output(stdout_.pipe.get(), stderr_.pipe.get())) {
      if (own_table_.load(std::memory_order_relaxed) != 1 && !intact()) return;
      read_both(false);
      std::this_thread::sleep_for(between_rounds);  // a task that prints in small pieces wakes this thread
                                                    // once a round, not once a piece
    }
  }}.detach();
  // Before the first task: what that does to descriptors is not to be copied.
  while (own_table_.load(std::memory_order_acquire) == 0) futex_wait(own_table_, 0);
}

std::array<int, 4> OutputCapture::descriptors() const noexcept {
  return {stdout_.pipe.get(), stderr_.pipe.get(), copies_.first.get(), copies_.second.get()};
}

bool OutputCapture::intact() const noexcept {
  const auto now = descriptors();
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (pipe_identity(now[i]) != identities_[i]) return false;
  }
  return true;
}

void OutputCapture::drain(bool partial_lines) {
  if (intact()) read_both(partial_lines);
}

void OutputCapture::read_both(bool partial_lines) {
  const std::scoped_lock lock{mutex_};
  read_one(stdout_, partial_lines);
  read_one(stderr_, partial_lines);
}

// One round of reading a stream: `text_` is what was kept of it and what is in its pipe.
struct OutputCapture::Round {
  PrintedText::State state;
  std::size_t kept;       // bytes at its begin that an earlier round has kept
  std::size_t copied;     // bytes of the text that are in the pipe
  std::size_t begin = 0;  // of what is not in the log yet
  std::size_t rest = 0;   // how much that is, once the lines are in the log
};

void OutputCapture::read_one(Stream& stream, bool partial_lines) {
  for (std::size_t taken = 1; taken != 0;) {
    Round round{.state = stream.printed.state.load(std::memory_order_relaxed), .kept = 0, .copied = 0};
    text_.assign(stream.printed.text[round.state.which], round.state.kept);
    round.kept = text_.size();
    round.copied = copy_available(stream.pipe.get(), copies_, text_);
    log_lines(stream, round, partial_lines);
    taken = take(stream, round);
  }
}

void OutputCapture::log_up_to(Stream& stream, Round& round, std::size_t end, std::size_t next) {
  PrintedText& printed = stream.printed;
  printed.mark = next_commit();
  printed.next_logged = static_cast<std::uint32_t>(next);
  round.state.logging = 1;
  printed.state.store(round.state, std::memory_order_release);
  // Crash: from here on the lane's cursor tells whether the line is in the log.
  log_captured(stream.origin, std::string_view{text_}.substr(round.begin, end - round.begin));
  round.begin = next;
  round.state.logged = static_cast<std::uint32_t>(next);
  round.state.logging = 0;
  printed.state.store(round.state, std::memory_order_release);
}

void OutputCapture::log_lines(Stream& stream, Round& round, bool partial_lines) {
  for (std::size_t end = 0; (end = text_.find('\n', round.begin)) != std::string::npos;)
    log_up_to(stream, round, end, end + 1);
  round.rest = text_.size() - round.begin;
  if (round.begin != 0) stream.waited = 0;
  const bool is_long = round.rest > PrintedText::limit;
  if (round.rest == 0 || (!partial_lines && !(is_long && ++stream.waited > long_line_patience))) return;
  log_up_to(stream, round, text_.size(), text_.size());
  round.rest = 0;
  stream.waited = 0;
}

// Takes out of the pipe what the text has of it: all, or all except a long unfinished line. Returns how many
// bytes; 0: there is nothing more to be read now.
std::size_t OutputCapture::take(Stream& stream, const Round& round) {
  PrintedText& printed = stream.printed;
  PrintedText::State state = round.state;
  PrintedText::State next;
  const std::size_t stays = round.rest > PrintedText::limit ? std::min(round.rest, round.copied) : 0;
  const std::size_t taken = round.copied - stays;
  if (taken == 0) {
    if (round.begin != 0) {  // the unfinished line was all there was, and is in the log
      next.which = state.which;
      printed.state.store(next, std::memory_order_release);
    }
    return 0;
  }
  const std::size_t next_kept = stays != 0 ? 0 : round.rest;
  char* const other = printed.text[1U - state.which];
  const std::size_t of_kept = round.begin < round.kept && next_kept != 0 ? round.kept - round.begin : 0;
  std::memcpy(other, text_.data() + round.begin, of_kept);
  const std::size_t of_pipe = next_kept - of_kept;
  printed.expected = text_[round.kept + taken - 1];
  printed.marker = static_cast<char>(~printed.expected);
  state.taking = 1;
  state.set_next_kept(next_kept);
  printed.state.store(state, std::memory_order_release);
  // Crash: before the call the marker is not what is expected, and all is as it was; behind it, all is as it
  // will be.
  take_out(stream.pipe.get(), {text_.data(), taken - std::max<std::size_t>(of_pipe, 1)},
           {other + of_kept, of_pipe == 0 ? 0 : of_pipe - 1}, printed.marker);
  if (next_kept != 0) other[next_kept - 1] = printed.marker;
  next.which = static_cast<std::uint8_t>(1U - state.which);
  next.kept = static_cast<std::uint16_t>(next_kept);
  printed.state.store(next, std::memory_order_release);
  return stays != 0 ? 0 : taken;
}

}  // namespace kindred::internal
