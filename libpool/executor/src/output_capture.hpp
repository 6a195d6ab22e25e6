#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <thread>

#include "kindred/internal/wakeup.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// A line that its process has begun and not ended, in shared memory: should the process die, the parent finds it there.
struct PartialLine {
  static constexpr std::size_t limit = 700;  ///< a longer one is given out in pieces
  std::atomic<std::uint32_t> bytes;          ///< 0 while `text` is being written
  char text[limit];
};
struct PartialLines {
  PartialLine out;
  PartialLine error;
};
/// Where they lie in the crash page, behind the report.
inline constexpr std::size_t partial_lines_offset = 2048;

/// Turns what this worker writes to stdout and stderr into log records, a line a record. A thread reads the pipes as they fill; the end of a
/// task reads what is left, so that every line is its own task's.
class OutputCapture {
 public:
  /// `page` is what outlives this process: the lines that are not finished yet stand there.
  OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr, std::span<std::byte> page);
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;
  ~OutputCapture() = default;  // never runs: the thread lives as long as the process

  void drain(bool partial_lines);  ///< any thread

 private:
  void read_one(const Descriptor& pipe, std::string& partial, Origin origin, PartialLine& kept, bool partial_lines);

  Descriptor stdout_;
  Descriptor stderr_;
  std::mutex mutex_;
  std::string partial_stdout_;
  std::string partial_stderr_;
  PartialLines* kept_;
};

}  // namespace kindred::internal
