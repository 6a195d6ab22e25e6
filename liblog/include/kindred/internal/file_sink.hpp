#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kindred/file_options.hpp"
#include "kindred/internal/archive.hpp"
#include "kindred/internal/line_format.hpp"
#include "kindred/internal/line_writer.hpp"
#include "kindred/internal/rotation.hpp"
#include "kindred/internal/sink.hpp"

namespace kindred::internal {

/// A log file, with rotation: `sinks::file` and `sinks::json`. See `FileOptions` for what it promises.
class FileSink final : public Sink {
 public:
  using Clock = FileTime (*)();
  /// Opens the file, unless it is to be delayed. Errors: see `open_to_append`.
  FileSink(const std::string& path, FileOptions options, LineFormat format, Clock now = &system_now);
  /// Writes what it holds.
  ~FileSink() override;
  void write(const LogRecord& record) override;
  void deliver(Delivery& delivery) override;
  [[nodiscard]] bool takes_facts() const noexcept override { return true; }
  [[nodiscard]] LineFormat* line_format() noexcept override { return &format_; }
  void flush() override;
  [[nodiscard]] std::uint64_t lost() const noexcept override { return writer_.lost(); }
  /// Waits until rotated files are packed and removed as they should be (for tests).
  void wait_for_archive() { archive_.wait_idle(); }

  static FileTime system_now() noexcept { return std::chrono::system_clock::now(); }

 private:
  void open();
  void open_file();
  void keep_link();
  void check_names() const;
  /// As `open`, but what fails is a failed write: tried again while the log goes on.
  bool try_open();
  [[nodiscard]] bool look_after_file();
  void end_line_with_care(Delivery& delivery, std::size_t begin);
  [[nodiscard]] bool rotation_is_due(Delivery& delivery, std::size_t begin);
  void rotate(std::size_t begin);
  void complain_of_function(const char* what);

  const FileOptions options_;
  const Clock now_;
  LineFormat format_;
  const std::string path_;  ///< absolute; it may have `{time}` in it
  FileState state_;
  RotationSchedule schedule_;
  Archive archive_;
  Descriptor fd_;
  FileStatus opened_;
  std::optional<int> descriptor_;  ///< the path names what is open there
  bool first_open_ = true;
  bool rotates_ = false;
  std::chrono::steady_clock::time_point next_look_{};
  std::chrono::steady_clock::time_point next_rotation_{};
  std::chrono::steady_clock::time_point next_complaint_{};
  LineWriter writer_;
};

/// Checks what can be checked without touching the file. Errors: `UsageError`.
void validate(const std::string& path, const FileOptions& options);

}  // namespace kindred::internal
