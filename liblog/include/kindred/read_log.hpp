#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "kindred/log_record.hpp"

namespace kindred {

/// How `read_log` reads.
struct ReadLogOptions {
  std::string pattern{};  ///< of the text sink that wrote the file, which goes before what a line looks like;
                          ///< empty: the default one, and lines that look like JSON are read as JSON
  bool rotated =
      false;  ///< first the rotated files beside it, packed ones too, oldest first, then the file itself
  bool strict = false;  ///< a line that is no record is an error, not skipped
};

/// The records of a log file: an input range, read as it is iterated, once. Memory: one line. Threads: one
/// thread at a time.
///
///     for (const auto& record : kindred::read_log("app.log") | kindred::at_least(kindred::Level::warn)) ...
class LogFile {
 public:
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = LogRecord;
    using difference_type = std::ptrdiff_t;
    using reference = LogRecord&;

    iterator() = default;
    [[nodiscard]] LogRecord& operator*() const noexcept { return *record_; }
    [[nodiscard]] LogRecord* operator->() const noexcept { return record_; }
    iterator& operator++() {
      record_ = file_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return record_ == nullptr; }

   private:
    friend class LogFile;
    explicit iterator(LogFile* file) : file_{file}, record_{file->next()} {}
    LogFile* file_ = nullptr;
    LogRecord* record_ = nullptr;
  };

  LogFile(LogFile&&) noexcept;
  LogFile& operator=(LogFile&&) noexcept;
  ~LogFile();
  /// Reads on from where the last iteration stopped.
  [[nodiscard]] iterator begin() { return iterator{this}; }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }
  /// Returns the next record, which lives until the next call; null at the end. Errors: `SystemError` (also
  /// EBADMSG for a damaged packed file); with `strict`, `UsageError` that names file and line.
  [[nodiscard]] LogRecord* next();
  /// Returns how many lines so far were no records: foreign ones, and a last one that is not complete (or not
  /// yet).
  [[nodiscard]] std::uint64_t bad_lines() const noexcept;

 private:
  friend LogFile read_log(std::string path, ReadLogOptions options);
  struct State;
  explicit LogFile(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

/// Reads what `sinks::file` or `sinks::json` wrote, packed (gz, zst) or not, back to records: the exact
/// inverse of the sink for all that its lines carry. The default text line carries time (to the microsecond),
/// level, worker, incarnation, task, attempt, logger, origin, lateness, message and fields; JSON carries
/// everything. Two things are not told apart: whether an integer was signed (what fits is `std::int64_t`),
/// and in text the level beneath a custom one that this process has not defined (it reads as `info`).
/// Loguru's own JSON files are read too.
///
/// Each line is read for itself, so a file may begin with a comment or half a line, or hold text and JSON. A
/// byte order mark, carriage returns and NUL bytes (a power cut) around a line are passed over.
///
/// File and function names of the records are kept as long as the program lives, each once.
///
/// Errors: `SystemError` where the file cannot be opened; `UsageError` where lines of that pattern cannot be
/// taken apart again: two parts that touch (`%n%t`), something behind the message. With `rotated`, a missing
/// file is no error if there are rotated ones.
[[nodiscard]] LogFile read_log(std::string path, ReadLogOptions options = {});
template <class Path>
  requires requires(const Path& path) {
    { path.native() } -> std::convertible_to<std::string>;
  }
[[nodiscard]] LogFile read_log(const Path& path, ReadLogOptions options = {}) {
  return read_log(std::string{path.native()}, std::move(options));
}

}  // namespace kindred
