#include "output_capture.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/keeper.hpp"

namespace kindred::internal {
namespace {

constexpr std::chrono::milliseconds between_rounds{1};
constexpr unsigned long_line_patience = 100;  ///< rounds
// What the parent reads of a dead worker's output: as much as the largest pipe holds. A subprocess that lives
// on and writes without end is not followed.
constexpr std::size_t most_untold = std::size_t{1} << 20U;

PrintedTexts& printed_in(std::span<std::byte> page) noexcept {
  return *reinterpret_cast<PrintedTexts*>(page.subspan(printed_texts_offset, sizeof(PrintedTexts)).data());
}

}  // namespace

static_assert(printed_texts_offset + sizeof(PrintedTexts) <= 4096);

std::string take_untold(const PrintedText& printed, std::span<const std::byte> log_area, int pipe) {
  // The worker may have written nonsense: every number is read once and bounded.
  const PrintedText::State state = printed.state.load(std::memory_order_acquire);
  std::string text;
  std::size_t logged =
      state.logging != 0 && was_committed(log_area, printed.mark) ? printed.next_logged : state.logged;
  if (state.taking != 0 && printed.marker == printed.expected) {
    const std::size_t next = std::min(state.next_kept(), PrintedText::limit);
    text.assign(printed.text[1U - state.which], next);
    if (next != 0) text.back() = printed.marker;
    logged = 0;
  } else {
    text.assign(printed.text[state.which], std::min<std::size_t>(state.kept, PrintedText::limit));
  }
  (void)read_available(pipe, text, most_untold);
  text.erase(0, logged);
  return text;
}

OutputCapture::OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr,
                             std::span<std::byte> page, bool own_table)
    : stdout_{std::move(captured_stdout), Origin::stdout, printed_in(page).out},
      stderr_{std::move(captured_stderr), Origin::stderr, printed_in(page).error},
      copies_{make_capture_pipe()} {
  for (std::size_t i = 0; i < identities_.size(); ++i) identities_[i] = pipe_identity(descriptors()[i]);
  std::thread{[this, own_table] {
    settle_thread("kindred-output");
    auto kept = descriptors();
    std::ranges::sort(kept);
    own_table_.store(own_table && take_own_descriptors(kept) ? 1 : 2, std::memory_order_release);
    futex_wake(own_table_, 1);
    while (wait_for_output(stdout_.pipe.get(), stderr_.pipe.get())) {
      if (own_table_.load(std::memory_order_relaxed) != 1 && !intact()) return;
      read_both(false);
      std::this_thread::sleep_for(
          between_rounds);  // who prints in small pieces is to be woken for once a round, not once a piece
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

void OutputCapture::read_one(Stream& stream, bool partial_lines) {
  PrintedText& printed = stream.printed;
  for (;;) {
    auto state = printed.state.load(std::memory_order_relaxed);
    text_.assign(printed.text[state.which], state.kept);
    const std::size_t kept = text_.size();
    const std::size_t copied = copy_available(stream.pipe.get(), copies_, text_);
    std::size_t begin = 0;
    const auto log_up_to = [&](std::size_t end, std::size_t next) {
      printed.mark = next_commit();
      printed.next_logged = static_cast<std::uint32_t>(next);
      state.logging = 1;
      printed.state.store(state, std::memory_order_release);
      // Crash: from here on the lane's cursor tells whether the line is in the log.
      log_captured(stream.origin, std::string_view{text_}.substr(begin, end - begin));
      begin = next;
      state.logged = static_cast<std::uint32_t>(begin);
      state.logging = 0;
      printed.state.store(state, std::memory_order_release);
    };
    for (std::size_t end = 0; (end = text_.find('\n', begin)) != std::string::npos;) log_up_to(end, end + 1);
    std::size_t rest = text_.size() - begin;
    if (begin != 0) stream.waited = 0;
    if (rest != 0 && (partial_lines || (rest > PrintedText::limit && ++stream.waited > long_line_patience))) {
      log_up_to(text_.size(), text_.size());
      rest = 0;
      stream.waited = 0;
    }
    // What is taken out of the pipe: all, or all but a long unfinished line.
    const std::size_t stays = rest > PrintedText::limit ? std::min(rest, copied) : 0;
    const std::size_t taken = copied - stays;
    if (taken == 0) {
      if (begin != 0) {  // the unfinished line was all there was, and is in the log
        PrintedText::State next;
        next.which = state.which;
        printed.state.store(next, std::memory_order_release);
      }
      return;
    }
    const std::size_t next_kept = stays != 0 ? 0 : rest;
    char* const other = printed.text[1U - state.which];
    const std::size_t of_kept = begin < kept && next_kept != 0 ? kept - begin : 0;
    std::memcpy(other, text_.data() + begin, of_kept);
    const std::size_t of_pipe = next_kept - of_kept;
    printed.expected = text_[kept + taken - 1];
    printed.marker = static_cast<char>(~printed.expected);
    state.taking = 1;
    state.set_next_kept(next_kept);
    printed.state.store(state, std::memory_order_release);
    // Crash: before the call the marker is not what is expected, and all is as it was; behind it, all is as
    // it will be.
    take_out(stream.pipe.get(), {text_.data(), taken - std::max<std::size_t>(of_pipe, 1)},
             {other + of_kept, of_pipe == 0 ? 0 : of_pipe - 1}, printed.marker);
    if (next_kept != 0) other[next_kept - 1] = printed.marker;
    PrintedText::State next;
    next.which = static_cast<std::uint8_t>(1U - state.which);
    next.kept = static_cast<std::uint16_t>(next_kept);
    printed.state.store(next, std::memory_order_release);
    if (stays != 0) return;
  }
}

}  // namespace kindred::internal
