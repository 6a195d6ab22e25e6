#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "support/bench.hpp"

namespace bench {

/// A file for one run's records, in TMPDIR; gone with the object.
class LogFile {
 public:
  LogFile() {
    const char* folder = std::getenv("TMPDIR");
    path_ = std::string{folder != nullptr ? folder : "/tmp"} + "/kindred-bench-XXXXXX";
    const int fd = ::mkstemp(path_.data());
    if (fd < 0) fail("cannot make " + path_);
    file_ = ::fdopen(fd, "r");
  }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  ~LogFile() {
    std::fclose(file_);
    std::remove(path_.c_str());
  }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Reads the file: each line that holds `word` once and ends as a record ends counts as whole, any other as
  /// torn.
  struct Lines {
    std::size_t whole = 0;
    std::size_t torn = 0;
  };
  [[nodiscard]] Lines count(const std::string& word, const std::string& end) const {
    Lines lines;
    char* line = nullptr;
    std::size_t room = 0;
    std::rewind(file_);
    for (ssize_t size = 0; (size = ::getline(&line, &room, file_)) > 0;) {
      const std::string_view text{line, static_cast<std::size_t>(size)};
      const auto first = text.find(word);
      const bool whole = first != std::string_view::npos &&
                         text.find(word, first + 1) == std::string_view::npos && text.ends_with(end + "\n");
      ++(whole ? lines.whole : lines.torn);
    }
    std::free(line);
    return lines;
  }

 private:
  std::string path_;
  std::FILE* file_ = nullptr;
};

/// The message of the row `log_records`: "customer 4711 ordered 17 items for 4.25 euro".
#define BENCH_RECORD_FORMAT "{} ordered {} items for {} euro"
inline constexpr const char* record_word = "ordered";
inline constexpr const char* record_end = " euro";

/// How long the records of a run took, and the processor time of all its processes, in nanoseconds (0: not
/// known).
struct Took {
  double wall = 0;
  double processor = 0;
};

/// Prints records a second, and the processor time of one.
inline void report_records(std::size_t records, Took took, std::vector<Extra> extras = {}) {
  const auto each = static_cast<double>(records);
  if (took.processor != 0) extras.emplace_back("cpu_us", took.processor * 1e-3 / each);
  report(each / took.wall * 1e9, "records/s", extras);
}

/// Checks that all `expected` records are in the file, each whole, and reports records a second.
/// `torn_allowed` is for peers that tear lines by design; how many they tore is in the report.
inline void report_records(const LogFile& file, std::size_t expected, Took took, bool torn_allowed = false,
                           const std::string& word = record_word, const std::string& end = record_end) {
  const auto lines = file.count(word, end);
  if (!torn_allowed && (lines.whole != expected || lines.torn != 0)) {
    fail(std::to_string(lines.whole) + " whole lines and " + std::to_string(lines.torn) +
         " torn ones in the file where " + std::to_string(expected) + " records were logged");
  }
  report_records(expected, took,
                 {{"whole", static_cast<double>(lines.whole)}, {"torn", static_cast<double>(lines.torn)}});
}

}  // namespace bench
