#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "kindred/file_options.hpp"

namespace kindred::internal {

/// What a file's name has at its end when it is packed so: "", ".gz", ".zst".
[[nodiscard]] std::string_view suffix_of(Compression compression) noexcept;
inline constexpr std::string_view unfinished_suffix = ".part";

/// Tells long work on files when to stop: at once, or at a time. Threads: any.
class WorkLimit {
 public:
  using Clock = std::chrono::steady_clock;
  void stop() noexcept { until_.store(Clock::time_point::min(), std::memory_order_relaxed); }
  void allow_for(Clock::duration time) noexcept {
    until_.store(Clock::now() + time, std::memory_order_relaxed);
  }
  [[nodiscard]] bool is_reached() const noexcept {
    const auto until = until_.load(std::memory_order_relaxed);
    return until != Clock::time_point::max() && Clock::now() >= until;
  }

 private:
  std::atomic<Clock::time_point> until_{Clock::time_point::max()};
};

/// Packs `path` to `path` + suffix, and removes it: the packed file is written under the name with ".part" at
/// its end, brought to the disk, given its name, and only then the source goes. Returns false where
/// `limit` was reached first; nothing has changed then. Errors: `SystemError`; the source is untouched.
bool pack_file(const std::string& path, Compression compression, const WorkLimit& limit);

/// Reads a file, unpacked where it begins as gz or zst do, whatever it is called. One thread at a time.
class PackedFileReader {
 public:
  /// Errors: `SystemError`, `UsageError` (a directory).
  explicit PackedFileReader(const std::string& path);
  ~PackedFileReader();
  PackedFileReader(PackedFileReader&&) noexcept;
  PackedFileReader& operator=(PackedFileReader&&) noexcept;
  /// Returns the number of bytes, 0 at the end. Errors: `SystemError` (EBADMSG where packed data is damaged
  /// or ends early).
  std::size_t read(char* target, std::size_t bytes);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Do both files hold the same, once unpacked? False where one cannot be read, or `limit` was
/// reached.
[[nodiscard]] bool same_content(const std::string& one, const std::string& other,
                                const WorkLimit& limit) noexcept;

}  // namespace kindred::internal
