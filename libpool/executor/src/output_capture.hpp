#pragma once

#include <mutex>
#include <string>
#include <thread>

#include "kindred/internal/wakeup.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// Turns what this worker writes to stdout and stderr into log records, a line a record. A thread reads the pipes as they fill; the end of a
/// task reads what is left, so that every line is its own task's.
class OutputCapture {
 public:
  OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr);
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;
  ~OutputCapture() = default;  // never runs: the thread lives as long as the process

  void drain(bool partial_lines);  ///< any thread

 private:
  void read_one(const Descriptor& pipe, std::string& partial, Origin origin, bool partial_lines);

  Descriptor stdout_;
  Descriptor stderr_;
  std::mutex mutex_;
  std::string partial_stdout_;
  std::string partial_stderr_;
};

}  // namespace kindred::internal
