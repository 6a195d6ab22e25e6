#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <thread>

#include "kindred/internal/text_buffer.hpp"

namespace kindred::internal {

/// How far a text has come that is appended to a file.
struct Appended {
  std::size_t bytes = 0;  ///< of the text, from its begin
  /// Where these bytes end in the file, and whether they stand there in one piece: the kernel says where each
  /// append went.
  std::uint64_t end = 0;
  bool whole = true;

  /// Appends what is left of `text`. Returns 0, or the errno that stopped it.
  [[nodiscard]] int append(int fd, bool is_file, std::string_view text) noexcept;
};

/// Decides which texts are given to a background writer: all, as long as each is begun there in time. Where
/// one was not, no processor was free for the thread: then the owner writes some texts itself, ever more of
/// them, before it tries again.
class BackgroundTurns {
 public:
  /// Is the next text to be given away?
  [[nodiscard]] bool next() noexcept {
    if (left_out_ == 0) return true;
    --left_out_;
    return false;
  }
  /// A text that was given away came to its end; `in_time`: the owner neither wrote it itself nor had to
  /// wait for it.
  void note(bool in_time) noexcept {
    pause_ = in_time ? 0 : std::clamp(2 * pause_, least_pause, longest_pause);
    left_out_ = pause_;
  }

 private:
  static constexpr unsigned least_pause = 2;
  static constexpr unsigned longest_pause = 256;
  unsigned pause_ = 0;     ///< texts
  unsigned left_out_ = 0;  ///< of these, still to come
};

/// Appends texts to a file on a thread of its own, one after the other, so that the owner can put the next
/// one together meanwhile. The thread is started with the first text; between texts it sleeps.
///
///     owner's thread:   begin(A) | fills B ........ | finish(): A | begin(B) | fills A ...
///     its own thread:            | write(2) of A |                | write(2) of B |
///
/// Where the thread gets no processor in time, the owner writes the text itself, and has lost no more than
/// the time of a wake-up. Threads: one, the owner's.
class BackgroundWriter {
 public:
  BackgroundWriter() = default;
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;
  /// Waits for the text that is being written.
  ~BackgroundWriter();

  /// Has each text that was begun been finished?
  [[nodiscard]] bool idle() const noexcept { return !begun_; }
  /// Takes the text out of `text`, which is empty then, and has it appended. Only where `idle()`, and `fd`
  /// stays open until `finish`. Returns false, and leaves `text` as it was, where no thread can be started.
  [[nodiscard]] bool begin(int fd, TextBuffer& text) noexcept;
  enum class Progress : std::uint8_t { waiting, writing, done };
  /// How far the text has come that was begun.
  [[nodiscard]] Progress progress();
  /// Appends the text on the calling thread, where its own thread has not begun to. Returns whether it did.
  bool write_here();
  /// Waits until the text was appended, or cannot be. Returns 0, or the errno that stopped it: then puts the
  /// whole text into `text`, which is empty, and how far it came into `appended`.
  ///
  /// Blocks: as long as write(2) takes.
  [[nodiscard]] int finish(TextBuffer& text, Appended& appended);

 private:
  void run();
  void leave_owner(int cpu);

  bool begun_ = false;                                 ///< the owner's: a text was begun, and not finished
  bool no_thread_ = false;                             ///< the owner's
  std::chrono::steady_clock::time_point next_move_{};  ///< the thread's
  std::mutex lock_;                                    ///< of what follows
  std::condition_variable changed_;
  std::thread thread_;
  Progress progress_ = Progress::done;  ///< while it is `writing`, the text and its account are the thread's
  bool stop_ = false;
  int fd_ = -1;
  int owner_cpu_ = -1;  ///< where the owner was when it began the text
  int error_ = 0;
  TextBuffer text_;
  Appended appended_;
};

}  // namespace kindred::internal
