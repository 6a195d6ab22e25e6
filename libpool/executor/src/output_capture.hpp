#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/log_record.hpp"
#include "printed_text.hpp"

namespace kindred::internal {

/// Turns what this worker writes to stdout and stderr into log records, a line a record. A thread reads the
/// pipes as they fill, once a millisecond at most; the end of a task reads what is left, so that every line
/// is its own task's.
class OutputCapture {
 public:
  /// `page` is what outlives this process. `own_table`: the thread takes a table of descriptors of its own.
  /// Errors: `SystemError` (limit on open files).
  OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr, std::span<std::byte> page,
                bool own_table);
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;
  ~OutputCapture() = default;  // never runs: the thread lives as long as the process

  /// Any thread. Where a task has closed these descriptors, or put other files at their numbers, the call
  /// does nothing: the capture's thread has its own table and goes on reading, and the parent reads the rest.
  void drain(bool partial_lines);
  [[nodiscard]] bool intact() const noexcept;  ///< does this thread's table still hold our descriptors?

 private:
  struct Stream {
    Descriptor pipe;
    Origin origin;
    PrintedText& printed;
    unsigned waited = 0;  ///< rounds for the end of a line that is too long to be kept
  };
  struct Round;  // of reading a stream
  void read_one(Stream& stream, bool partial_lines);
  void log_up_to(Stream& stream, Round& round, std::size_t end, std::size_t next);
  void log_lines(Stream& stream, Round& round, bool partial_lines);
  [[nodiscard]] std::size_t take(Stream& stream, const Round& round);
  void read_both(bool partial_lines);
  [[nodiscard]] std::array<int, 4> descriptors() const noexcept;

  std::mutex mutex_;
  Stream stdout_;
  Stream stderr_;
  std::pair<Descriptor, Descriptor> copies_;  ///< a pipe
  std::string text_;
  std::array<std::uint64_t, 4> identities_{};
  std::atomic<std::uint32_t> own_table_{0};  ///< has the thread one? 0: not known yet, 1: yes, 2: no
};

}  // namespace kindred::internal
