#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

enum class FileKind : unsigned char {
  regular,
  directory,
  symlink,
  fifo,
  socket,
  character_device,
  block_device,
  unknown
};
[[nodiscard]] std::string_view to_string(FileKind kind) noexcept;  ///< "a directory", "a symbolic link" ...

using FileTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

struct FileStatus {
  FileKind kind = FileKind::unknown;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t links = 0;
  std::uint64_t bytes = 0;
  FileTime modified{};
  FileTime born{};  ///< `modified` where the file system does not know

  [[nodiscard]] bool same_file(const FileStatus& other) const noexcept {
    return device == other.device && inode == other.inode;
  }
};

/// Returns nothing where there is no such file, or no right to look.
[[nodiscard]] std::optional<FileStatus> file_status(int fd) noexcept;
[[nodiscard]] std::optional<FileStatus> file_status(
    const std::string& path) noexcept;  ///< of the link itself, if it is one

/// Opens a file to append to, made with `mode` less the umask where there is none. Never follows a symbolic
/// link in its place, never waits for a FIFO's reader. Errors: `UsageError` where something else than a
/// regular file with one name (or a character device) is there; `SystemError`.
[[nodiscard]] Descriptor open_to_append(const std::string& path, unsigned mode);
/// Makes a new file and opens it to write. Errors: `SystemError` (EEXIST where there is one).
[[nodiscard]] Descriptor create_file(const std::string& path, unsigned mode);
/// Opens a file to read. Errors: `SystemError`, `UsageError` for a directory or (unless `follow`) anything
/// but a regular file.
[[nodiscard]] Descriptor open_to_read(const std::string& path, bool follow);

/// Where the latest write through this descriptor ended; 0 where that is not known.
[[nodiscard]] std::uint64_t file_position(int fd) noexcept;
/// The descriptor that a path such as "/dev/stdout" or "/dev/fd/3" names.
[[nodiscard]] std::optional<int> descriptor_of_path(std::string_view path) noexcept;
/// A descriptor of the same open file. Errors: `SystemError`.
[[nodiscard]] Descriptor duplicate_file(int fd, const std::string& path);
/// The path as one from the root, whatever the working directory is later. Errors: `SystemError`.
[[nodiscard]] std::string absolute_path(const std::string& path);
/// How long a name in the folder of `path` may be.
[[nodiscard]] std::size_t longest_name_beside(const std::string& path) noexcept;
/// Makes `link` a symbolic link to `target`, in place of one that is there. Returns 0 or the errno; EEXIST:
/// something else than a symbolic link is there.
int replace_link(const std::string& target, const std::string& link) noexcept;

/// Writes what the kernel takes at once. Returns the number of bytes, or the negative errno. A reader that is
/// gone is -EPIPE, never SIGPIPE; a non-blocking descriptor is waited for.
[[nodiscard]] std::ptrdiff_t write_some(int fd, std::string_view bytes) noexcept;
/// Returns the number of bytes, 0 at the end, or the negative errno.
[[nodiscard]] std::ptrdiff_t read_some(int fd, char* target, std::size_t bytes) noexcept;

// Each of these returns 0 or the errno.
int truncate_file(int fd, std::uint64_t bytes) noexcept;
/// Cuts a file that has exactly `from` bytes down to `to`, where no other program has it open (and none can
/// open it meanwhile): so nothing is cut that another one has appended. EAGAIN: another process has; EBUSY:
/// it has another size.
int cut_file_if_alone(int fd, std::uint64_t from, std::uint64_t to) noexcept;
int sync_file(int fd) noexcept;
int sync_directory_of(const std::string& path) noexcept;  ///< so that a rename in it is on the disk
int rename_to_free_name(const std::string& from,
                        const std::string& to) noexcept;  ///< EEXIST: `to` is taken, nothing changed
int remove_file(const std::string& path) noexcept;
int make_directories_above(const std::string& path) noexcept;  ///< 0777 less the umask
int copy_mode_and_time(int from, int to) noexcept;             ///< the owner as well, where that is allowed

/// Returns the names in a directory, in no order; none where it cannot be read.
[[nodiscard]] std::vector<std::string> names_in_directory(const std::string& path);
[[nodiscard]] bool is_terminal(int fd) noexcept;
/// How many columns a terminal has; 0: it does not say.
[[nodiscard]] unsigned terminal_columns(int fd) noexcept;
/// As `begin_service_thread`, and the thread yields to others: its nice value grows by `niceness`, to 19 at
/// most.
void begin_background_thread(const char* name, int niceness = 39) noexcept;

}  // namespace kindred::internal
