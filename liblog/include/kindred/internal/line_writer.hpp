#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kindred/internal/background_writer.hpp"
#include "kindred/internal/text_buffer.hpp"

namespace kindred::internal {

/// Writes lines to a descriptor in large pieces, and keeps an exact account where it cannot.
///
///     buffer_   | line | line | li ...            what is not known to be in the file
///               |<-begun_->|                      of it, already there: always a part of the first line
///               after a failed write
///
/// Where its owner allows it, a full buffer of a regular file is written by a `BackgroundWriter` while the
/// next one is filled, to four times the limit at least, and further while that write goes on; `settle` waits
/// for its end, and the buffer that follows is full at the limit again. A write that
/// fails there fails as it would have here, only later: its lines come before those that came meanwhile, of
/// which those are dropped that are too many.
///
/// While writes fail (full disk), lines are kept as far as the limit goes, further ones are dropped and
/// counted, a write is tried at most ten times a second, and stderr is told at most once a second. The line
/// that the failure cut is completed first of all; where another program has appended behind its begin, it is
/// written once more, whole. Nothing is ever cut off a file that another program has open, or behind what it
/// wrote. One thread at a time, but `lost`.
class LineWriter {
 public:
  /// Given the account when writing works again, appends a line about it.
  using Notice = std::function<void(std::uint64_t lost, int error, TextBuffer& out)>;

  /// `name` for reports: "the log file 'app.log'". Nothing is reported where it is empty.
  LineWriter(std::string name, std::size_t limit_bytes, Notice notice = {})
      : name_{std::move(name)}, limit_{limit_bytes}, notice_{std::move(notice)} {}
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  /// Goes on with another descriptor, which stays its owner's. `is_file`: a regular file, whose size counts,
  /// and from whose end a line that remains incomplete may be cut, if it is ours and the last.
  void use(int fd, bool is_file) noexcept;
  /// From now on full buffers of a regular file are written in the background, or not.
  void write_in_background(bool allowed) noexcept { in_background_ = allowed; }
  /// Waits for what is being written in the background. Call it before `drain`, `detach` and `use`. Returns
  /// false where that has failed: lines may have been dropped then, the latest one too.
  bool settle() noexcept;
  /// There is none to write to, for this errno. As a failed write.
  void use_none(int error);
  /// Before the descriptor goes: takes the incomplete line from the file's end, to be written whole to the
  /// next one. Keeps the lines.
  void detach() noexcept;

  [[nodiscard]] TextBuffer& buffer() noexcept { return buffer_; }
  /// To be called after a line with its newline was appended at `begin`: writes when enough came together, or
  /// drops the line.
  void end_line(std::size_t begin) {
    if (needs_care()) [[unlikely]]
      end_line_with_care(begin);
  }
  /// Would `end_line` do anything?
  [[nodiscard]] bool needs_care() const noexcept { return buffer_.size() >= care_from_ || error_ != 0; }
  /// Writes the first `bytes` of the buffer: whole lines. False: it failed, and part of them may remain.
  bool drain(std::size_t bytes);
  bool drain() { return drain(buffer_.size()); }
  /// Gives up what cannot be written: the lines that remain are lost.
  void abandon() noexcept;

  [[nodiscard]] bool failing() const noexcept { return error_ != 0; }
  [[nodiscard]] bool may_try_again() const { return std::chrono::steady_clock::now() >= next_try_; }
  /// The size of the file, as it was when lines were last written to it, or `look_at_size` was called: other
  /// programs may append to it, or cut it.
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return file_bytes_; }
  void look_at_size() noexcept;
  [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

 private:
  void end_line_with_care(std::size_t begin);
  [[nodiscard]] bool write_behind() noexcept;
  [[nodiscard]] bool end_background() noexcept;
  bool finish_background(bool in_time) noexcept;
  [[nodiscard]] bool is_settled() const noexcept { return background_ == nullptr || background_->idle(); }
  /// Fills the buffer some more before the next look at it.
  void look_again() noexcept { care_from_ = buffer_.size() + limit_ / 4; }
  void fail(int error);
  void forget_whole_lines() noexcept;
  void drop_beyond_limit(std::size_t kept_in_any_case) noexcept;
  [[nodiscard]] bool begin_is_last() const noexcept;
  bool cut_begun_line() noexcept;
  void report(bool at_last);
  void lose(std::uint64_t lines) noexcept;

  std::string name_;
  std::size_t limit_;
  Notice notice_;
  TextBuffer buffer_;
  std::size_t care_from_ = limit_;  ///< from this size of the buffer on, it is to be written, or looked after
  std::size_t full_at_ = limit_;    ///< and from this one on, it is full
  Appended begun_;                  ///< of the buffer's begin
  int fd_ = -1;
  bool is_file_ = false;
  bool in_background_ = false;
  bool gone_ = false;  ///< the reader went away, for ever
  std::uint64_t file_bytes_ = 0;
  int error_ = 0;
  std::uint64_t lost_now_ = 0;  ///< since it began to fail
  std::atomic<std::uint64_t> lost_{0};
  std::chrono::steady_clock::time_point next_try_{};
  std::chrono::steady_clock::time_point next_report_{};
  BackgroundTurns turns_;
  std::unique_ptr<BackgroundWriter> background_{};
};

/// Tells stderr: one line, "kindred: " before it.
void complain(const std::string& what) noexcept;

}  // namespace kindred::internal
