#include "kindred/internal/line_writer.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"

namespace kindred::internal {

void complain(const std::string& what) noexcept {
  try {
    // Paths and messages of others come in here as well.
    TextBuffer line;
    line.append("kindred: ");
    append_escaped(line, what);
    line.push_back('\n');
    [[maybe_unused]] const auto written = write_some(2, line.view());
  } catch (...) {  // there is no memory for the message, so nothing is said
  }
}

void LineWriter::use(int fd, bool is_file) noexcept {
  fd_ = fd;
  is_file_ = is_file;
  begun_whole_ = true;
  look_at_size();
}

void LineWriter::use_none(int error) {
  fd_ = -1;
  file_bytes_ = 0;
  fail(error);
}

void LineWriter::look_at_size() noexcept {
  if (fd_ < 0 || !is_file_) return;
  if (const auto there = file_status(fd_)) file_bytes_ = there->bytes;
}

/// After a write of ours: where did it go?
void LineWriter::note_written(std::size_t bytes) noexcept {
  offset_ += bytes;
  if (!is_file_) return;
  const std::uint64_t end = file_position(fd_);
  // Another program's bytes between two of our pieces: then what is begun does not stand in one piece.
  if (offset_ > bytes && end != begun_end_ + bytes) begun_whole_ = false;
  begun_end_ = end;
}

/// Is the unfinished line whole, and the last thing in the file?
bool LineWriter::begin_is_last() const noexcept {
  if (!is_file_ || !begun_whole_) return false;
  const auto there = file_status(fd_);
  return there && there->bytes == begun_end_;
}

/// Takes the line that is begun from the file's end, where that is surely ours alone.
bool LineWriter::cut_begun_line() noexcept {
  if (fd_ < 0 || !is_file_ || !begun_whole_ || begun_end_ < offset_) return false;
  return cut_file_if_alone(fd_, begun_end_, begun_end_ - offset_) == 0;
}

void LineWriter::detach() noexcept {
  // Where it cannot be cut, the line is there in part and once more whole: better than half of it in each
  // file.
  if (offset_ != 0) static_cast<void>(cut_begun_line());
  offset_ = 0;
  begun_whole_ = true;
  fd_ = -1;
}

void LineWriter::lose(std::uint64_t lines) noexcept {
  lost_now_ += lines;
  lost_.store(lost_.load(std::memory_order_relaxed) + lines, std::memory_order_relaxed);
}

void LineWriter::fail(int error) {
  // Whole lines that are in the file are done with.
  const auto last_newline = buffer_.view().substr(0, offset_).rfind('\n');
  if (last_newline != std::string_view::npos) {
    buffer_.erase_front(last_newline + 1);
    offset_ -= last_newline + 1;
  }
  error_ = error;
  if (error == EPIPE) {
    gone_ = true;
    lose(static_cast<std::uint64_t>(std::ranges::count(buffer_.view(), '\n')));
    buffer_.clear();
    offset_ = 0;
    return;
  }
  next_try_ = std::chrono::steady_clock::now() + std::chrono::milliseconds{100};
  report(false);
}

void LineWriter::report(bool at_last) {
  const auto now = std::chrono::steady_clock::now();
  if (name_.empty() || gone_ || (!at_last && now < next_report_)) return;
  next_report_ = now + std::chrono::seconds{1};
  const auto waiting = static_cast<std::uint64_t>(std::ranges::count(buffer_.view(), '\n'));
  complain("writing to " + name_ + " failed: " + std::generic_category().message(error_) + " (errno " +
           std::to_string(error_) + "). " + std::to_string(lost_now_) + " records are lost" +
           (at_last ? "."
                    : ", " + std::to_string(waiting) + " wait in memory; it goes on by itself when it can. " +
                          (error_ == ENOSPC || error_ == EDQUOT ? "Make room, or set FileOptions::retention."
                                                                : "Mend the cause.")));
}

bool LineWriter::drain(std::size_t bytes) {
  if (gone_) {
    lose(static_cast<std::uint64_t>(std::ranges::count(buffer_.view().substr(0, bytes), '\n')));
    buffer_.erase_front(bytes);
    return false;
  }
  if (fd_ < 0) {
    if (error_ != 0 && std::chrono::steady_clock::now() >= next_report_) report(false);
    return bytes == 0;
  }
  // Another program has written after the beginning of our line: the rest of the line would come after its
  // text.
  if (offset_ != 0 && is_file_ && !begin_is_last()) {
    offset_ = 0;
    begun_whole_ = true;
  }
  while (offset_ < bytes) {
    const auto written = write_some(fd_, buffer_.view().substr(offset_, bytes - offset_));
    if (written <= 0) {
      fail(written == 0 ? EIO : static_cast<int>(-written));
      return false;
    }
    note_written(static_cast<std::size_t>(written));
  }
  if (bytes != 0) look_at_size();
  buffer_.erase_front(bytes);
  offset_ = 0;
  begun_whole_ = true;
  buffer_.shrink(limit_ * 4);
  if (error_ != 0 && bytes != 0) {
    const int error = std::exchange(error_, 0);
    const auto lost = std::exchange(lost_now_, 0);
    if (lost != 0) {
      if (!name_.empty())
        complain("writing to " + name_ + " works again; " + std::to_string(lost) + " records are lost.");
      if (notice_) {
        // Its place is before the line that came when it worked again.
        TextBuffer notice;
        notice_(lost, error, notice);
        buffer_.insert(0, notice.size(), ' ');
        std::ranges::copy(notice.view(), buffer_.data());
      }
    }
  }
  return true;
}

void LineWriter::end_line_with_care(std::size_t begin) {
  if (error_ == 0) {
    drain();
    return;
  }
  const std::size_t length = buffer_.size() - begin;
  if (!gone_ && (begin == 0 || buffer_.size() <= limit_)) return;
  if (!gone_ && may_try_again() && drain(begin)) return;
  buffer_.truncate(buffer_.size() - length);
  lose(1);
  if (!gone_) report(false);
}

void LineWriter::abandon() noexcept {
  lose(static_cast<std::uint64_t>(std::ranges::count(buffer_.view(), '\n')));
  if (offset_ != 0) static_cast<void>(cut_begun_line());
  buffer_.clear();
  offset_ = 0;
  try {
    if (error_ != 0) report(true);
  } catch (...) {  // no memory to say so
  }
}

}  // namespace kindred::internal
