#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kindred/file_options.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/packed_file.hpp"

namespace kindred::internal {

/// A log's path taken apart: its files are `directory` + `before` + a stamp + `after`, and (unless it is
/// timed) the one that is written now is the path itself. "logs/app.log" is "logs/", "app.", ".log";
/// "logs/{time}-app.log" is "logs/", "", "-app.log". A leading dot belongs to the name. Views into the path.
inline constexpr std::string_view time_in_name = "{time}";
struct FileNames {
  explicit FileNames(std::string_view path) noexcept;
  std::string_view directory;
  std::string_view before;
  std::string_view after;
  bool is_timed = false;  ///< `{time}` is in the path
  bool dotted = false;    ///< a dot stands between `before` and the stamp
};
inline constexpr std::size_t stamp_bytes = std::string_view{".20260726T140311.482913Z"}.size();

/// One file beside the log that rotation has put aside: `app.20260726T140311.482913Z.log`, `.gz` or `.zst`
/// after it.
struct ArchivedFile {
  std::string path;
  FileTime rotated{};
  FileTime modified{};
  Compression packed = Compression::none;
  bool unfinished = false;  ///< a ".part"
  std::uint64_t bytes = 0;
  std::uint64_t inode = 0;
};

/// The rotated files of a log: how they are called, how they are packed, and which are kept. Packing and
/// removing is done by one thread of low priority, which is started when there is something to do first.
///
/// What a crash leaves is finished by `tidy()` at the next start: unfinished packed files are thrown away and
/// made anew; where a file and its packed form are both there, the file goes once they are seen to hold the
/// same. Threads: one thread at a time; the thread within is its own affair.
class Archive {
 public:
  Archive(std::string path, const FileOptions& options, FileTime (*now)(),
          std::chrono::milliseconds patience_with_thread = std::chrono::milliseconds{500});
  /// Gives the thread its time to finish. What is left then is done by the caller, at the caller's own
  /// priority, for at most two seconds: a thread of low priority gets no CPU time beside others that are
  /// busy. The rest is done at the next start.
  ~Archive();
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;

  /// Returns a name for the file that is put aside (or, where names are timed, begun) now: later than all
  /// that are there, but for those whose stamps are more than a day ahead of the clock.
  [[nodiscard]] std::string next_name();
  /// The file that is written now, which has a rotated one's name where names are timed: it is left alone.
  void set_current(const std::string& path);
  /// Asks the thread to pack and to remove what is due.
  void tidy();
  /// Asks for it only where something is left to do from a former run.
  void tidy_leftovers();
  /// Waits until the thread has nothing to do (for tests).
  void wait_idle();

  /// The rotated files of the log at `path`, oldest first; where names are timed, the one that is written now
  /// is among them.
  [[nodiscard]] static std::vector<ArchivedFile> list(const std::string& path);

 private:
  [[nodiscard]] std::vector<ArchivedFile> aside();
  void run();
  void tidy_and_report() noexcept;
  void tidy_once();
  void finish_interrupted();
  void pack_all();
  enum class Limits { that_packing_does_not_change, all };
  void remove_excess(Limits limits);

  const std::string path_;
  const FileOptions options_;
  FileTime (*const now_)();
  const std::chrono::milliseconds patience_with_thread_;
  FileTime last_name_{};
  bool looked_ = false;

  std::mutex mutex_;
  std::string current_;  ///< under it
  std::condition_variable changed_;
  bool wanted_ = false;
  bool busy_ = false;
  bool stop_ = false;
  WorkLimit limit_;
  std::thread thread_;
};

}  // namespace kindred::internal
