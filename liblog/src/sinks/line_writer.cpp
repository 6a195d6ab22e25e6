#include "kindred/internal/line_writer.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <string_view>
#include <system_error>
#include <utility>

#include "kindred/internal/assert.hpp"
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

namespace {

/// How much further a buffer is filled while the one before it is written.
constexpr std::size_t most_beyond_limit = 1024 * 1024;

/// The size at which a buffer is handed over that follows another one: each costs a wake-up.
constexpr std::size_t size_in_a_row(std::size_t limit) noexcept {
  return limit + std::min(3 * limit, most_beyond_limit / 2);
}

std::uint64_t lines_in(std::string_view text) noexcept {
  return static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
}

}  // namespace

void LineWriter::use(int fd, bool is_file) noexcept {
  KINDRED_ASSERT(is_settled());
  fd_ = fd;
  is_file_ = is_file;
  begun_.whole = true;
  look_at_size();
}

void LineWriter::use_none(int error) {
  KINDRED_ASSERT(is_settled());
  fd_ = -1;
  file_bytes_ = 0;
  fail(error);
}

void LineWriter::look_at_size() noexcept {
  if (fd_ < 0 || !is_file_) return;
  if (const auto there = file_status(fd_)) file_bytes_ = there->bytes;
}

/// Is the unfinished line whole, and the last thing in the file?
bool LineWriter::begin_is_last() const noexcept {
  if (!is_file_ || !begun_.whole) return false;
  const auto there = file_status(fd_);
  return there && there->bytes == begun_.end;
}

/// Takes the line that is begun from the file's end, where that is surely ours alone.
bool LineWriter::cut_begun_line() noexcept {
  if (fd_ < 0 || !is_file_ || !begun_.whole || begun_.end < begun_.bytes) return false;
  return cut_file_if_alone(fd_, begun_.end, begun_.end - begun_.bytes) == 0;
}

void LineWriter::detach() noexcept {
  KINDRED_ASSERT(is_settled());
  // Where it cannot be cut, the line is there in part and once more whole: better than half of it in each
  // file.
  if (begun_.bytes != 0) static_cast<void>(cut_begun_line());
  begun_ = {};
  fd_ = -1;
}

void LineWriter::lose(std::uint64_t lines) noexcept {
  lost_now_ += lines;
  lost_.store(lost_.load(std::memory_order_relaxed) + lines, std::memory_order_relaxed);
}

/// Whole lines that are in the file are done with.
void LineWriter::forget_whole_lines() noexcept {
  const auto last_newline = buffer_.view().substr(0, begun_.bytes).rfind('\n');
  if (last_newline == std::string_view::npos) return;
  buffer_.erase_front(last_newline + 1);
  begun_.bytes -= last_newline + 1;
}

void LineWriter::fail(int error) {
  forget_whole_lines();
  error_ = error;
  if (error == EPIPE) {
    gone_ = true;
    lose(lines_in(buffer_.view()));
    buffer_.clear();
    begun_ = {};
    return;
  }
  next_try_ = std::chrono::steady_clock::now() + std::chrono::milliseconds{100};
  report(false);
}

/// Drops the lines that would have been dropped if the writes had failed before they came.
void LineWriter::drop_beyond_limit(std::size_t kept_in_any_case) noexcept {
  if (buffer_.size() <= limit_) return;
  const std::size_t kept = std::max(kept_in_any_case, buffer_.view().substr(0, limit_).rfind('\n') + 1);
  lose(lines_in(buffer_.view(kept)));
  buffer_.truncate(kept);
}

void LineWriter::report(bool at_last) {
  const auto now = std::chrono::steady_clock::now();
  if (name_.empty() || gone_ || (!at_last && now < next_report_)) return;
  next_report_ = now + std::chrono::seconds{1};
  const auto waiting = lines_in(buffer_.view());
  complain("writing to " + name_ + " failed: " + std::generic_category().message(error_) + " (errno " +
           std::to_string(error_) + "). " + std::to_string(lost_now_) + " records are lost" +
           (at_last ? "."
                    : ", " + std::to_string(waiting) + " wait in memory; it goes on by itself when it can. " +
                          (error_ == ENOSPC || error_ == EDQUOT ? "Make room, or set FileOptions::retention."
                                                                : "Mend the cause.")));
}

/// Has the full buffer written in the background. False: that cannot be.
bool LineWriter::write_behind() noexcept {
  if (!in_background_ || !is_file_ || fd_ < 0 || begun_.bytes != 0 || !turns_.next()) return false;
  try {
    if (background_ == nullptr) background_ = std::make_unique<BackgroundWriter>();
  } catch (const std::bad_alloc&) {
    return false;
  }
  if (!background_->begin(fd_, buffer_)) return false;
  full_at_ = size_in_a_row(limit_);
  return true;
}

/// Before the full buffer is written: ends the write of the one before it. Returns false where that goes on,
/// and this buffer is filled further, and where it has failed.
bool LineWriter::end_background() noexcept {
  using Progress = BackgroundWriter::Progress;
  if (is_settled()) return true;
  switch (background_->progress()) {
    case Progress::done: return finish_background(true);
    case Progress::waiting:  // for a processor
      if (buffer_.size() >= 2 * limit_ && background_->write_here()) return finish_background(false);
      break;
    case Progress::writing:
      if (buffer_.size() >= limit_ + std::min(7 * limit_, most_beyond_limit)) return finish_background(false);
      break;
  }
  look_again();
  return false;
}

bool LineWriter::settle() noexcept {
  full_at_ = care_from_ = limit_;
  return is_settled() || finish_background(background_->progress() == BackgroundWriter::Progress::done);
}

bool LineWriter::finish_background(bool in_time) noexcept {
  care_from_ = limit_;
  TextBuffer text;
  const int error = background_->finish(text, begun_);
  turns_.note(in_time);
  if (error == 0) {
    look_at_size();
    return true;
  }
  const std::size_t older = text.size();
  try {
    text.append(buffer_.view());
  } catch (const std::bad_alloc&) {
    lose(lines_in(buffer_.view()));
  }
  std::swap(buffer_, text);
  const std::size_t before = buffer_.size();
  forget_whole_lines();
  drop_beyond_limit(older - (before - buffer_.size()));
  try {
    fail(error);
  } catch (...) {  // no memory to say so
  }
  return false;
}

bool LineWriter::drain(std::size_t bytes) {
  KINDRED_ASSERT(is_settled());
  if (gone_) {
    lose(lines_in(buffer_.view().substr(0, bytes)));
    buffer_.erase_front(bytes);
    return false;
  }
  if (fd_ < 0) {
    if (error_ != 0 && std::chrono::steady_clock::now() >= next_report_) report(false);
    return bytes == 0;
  }
  // Another program has written after the beginning of our line: the rest of the line would come after its
  // text.
  if (begun_.bytes != 0 && is_file_ && !begin_is_last()) begun_ = {};
  if (const int error = begun_.append(fd_, is_file_, buffer_.view().substr(0, bytes)); error != 0) {
    fail(error);
    return false;
  }
  if (bytes != 0) look_at_size();
  buffer_.erase_front(bytes);
  begun_ = {};
  // Of a giant line only: a buffer that comes next, and grows as this one did, needs the memory again.
  buffer_.shrink(background_ == nullptr ? 4 * limit_ : 2 * (limit_ + most_beyond_limit));
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
    if (!end_background()) return;
    if (buffer_.size() < full_at_) return look_again();
    care_from_ = limit_;
    if (!write_behind()) drain();
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
  static_cast<void>(settle());
  lose(lines_in(buffer_.view()));
  if (begun_.bytes != 0) static_cast<void>(cut_begun_line());
  buffer_.clear();
  begun_ = {};
  try {
    if (error_ != 0) report(true);
  } catch (...) {  // no memory to say so
  }
}

}  // namespace kindred::internal
