#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace kindred::internal {

/// Writes text to a file again and again, as node_exporter's textfile collector wants it: each time a new
/// file is put in the old one's place, so that a reader never sees half of one. The last is written at the
/// end.
///
/// Threads: one of its own. It keeps its nice value, because the text is made while the pool's lock is held.
class MetricsFile {
 public:
  /// Writes it for the first time. Errors: `SystemError`, where that cannot be done.
  MetricsFile(std::string path, std::chrono::nanoseconds interval, std::function<std::string()> text);
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;
  ~MetricsFile() { end(); }
  void end() noexcept;

 private:
  void run() noexcept;
  void write() const;

  std::string path_;
  std::chrono::nanoseconds interval_;
  std::function<std::string()> text_;
  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace kindred::internal
