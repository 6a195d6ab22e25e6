#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kindred/internal/log_front.hpp"

namespace kindred::internal {

/// How far a worker has come with what it reads from its own stdout or stderr: one word, changed at once.
struct PrintedState {
  std::uint32_t logged = 0;
  std::uint16_t kept = 0;  ///< bytes of text[which]
  std::uint8_t which : 1 = 0;
  std::uint8_t logging : 1 =
      0;  ///< a line is about to be logged, or has been: `mark` tells, and then `next_logged` counts
  std::uint8_t taking : 1 = 0;  ///< the call is about to be made, or has been: what follows of it is
                                ///< `next_kept` bytes in the other text
  std::uint8_t high_of_next : 5 = 0;
  std::uint8_t low_of_next = 0;

  [[nodiscard]] std::size_t next_kept() const noexcept {
    return static_cast<std::size_t>(high_of_next) << 8U | low_of_next;
  }
  void set_next_kept(std::size_t bytes) noexcept {
    high_of_next = static_cast<std::uint8_t>(bytes >> 8U & 0x1fU);
    low_of_next = static_cast<std::uint8_t>(bytes & 0xffU);
  }
};

/// What a process has printed and the log has not got yet. It lies in shared memory, so that a parent that
/// finds its worker dead finds each byte: none is lost, wherever the worker stopped, and none is told twice.
///
///     printed:   | in the log | text[which], an unfinished line | what is in the pipe ...
///                              <--- `logged`: how many bytes of these two are in the log as well --->
///
/// The worker copies what is in the pipe (it stays there), logs its lines one by one and counts them in
/// `logged`, and then takes all of it out in one call, which puts the beginning of a new unfinished line into
/// the other text, and the last byte into `marker`: by that it can be seen whether the call was made.
struct PrintedText {
  static constexpr std::size_t limit = 480;  ///< an unfinished line that is longer stays in the pipe
  using State = PrintedState;
  std::atomic<State> state;
  char expected;  ///< the last byte that the call takes out of the pipe
  char marker;    ///< where the call puts that byte; before the call it holds another one
  std::uint32_t next_logged;
  CommitMark mark;
  char text[2][limit];
};
static_assert(std::atomic<PrintedText::State>::is_always_lock_free);
struct PrintedTexts {
  PrintedText out;
  PrintedText error;
};
/// Where they lie in the crash page, behind the report.
inline constexpr std::size_t printed_texts_offset = 2048;

/// For the parent of a dead process: what it printed last, and the log has not got. `pipe` is emptied.
[[nodiscard]] std::string take_untold(const PrintedText& printed, std::span<const std::byte> log_area,
                                      int pipe);

}  // namespace kindred::internal
