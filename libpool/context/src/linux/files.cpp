#include "kindred/internal/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "kindred/error.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {
namespace {

FileKind kind_of(unsigned mode) noexcept {
  switch (mode & static_cast<unsigned>(S_IFMT)) {
    case S_IFREG: return FileKind::regular;
    case S_IFDIR: return FileKind::directory;
    case S_IFLNK: return FileKind::symlink;
    case S_IFIFO: return FileKind::fifo;
    case S_IFSOCK: return FileKind::socket;
    case S_IFCHR: return FileKind::character_device;
    case S_IFBLK: return FileKind::block_device;
    default: return FileKind::unknown;
  }
}

FileTime to_time(const struct statx_timestamp& time) noexcept {
  return FileTime{std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec}};
}

std::optional<FileStatus> status(int fd, const char* path, int flags) noexcept {
  struct statx seen{};
  constexpr unsigned wanted = STATX_BASIC_STATS | STATX_BTIME;
  if (::statx(fd, path, flags | AT_NO_AUTOMOUNT, wanted, &seen) != 0) return std::nullopt;
  FileStatus result;
  result.kind = kind_of(seen.stx_mode);
  result.device = makedev(seen.stx_dev_major, seen.stx_dev_minor);
  result.inode = seen.stx_ino;
  result.links = seen.stx_nlink;
  result.bytes = seen.stx_size;
  result.modified = to_time(seen.stx_mtime);
  result.born = (seen.stx_mask & STATX_BTIME) != 0 ? to_time(seen.stx_btime) : result.modified;
  return result;
}

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw UsageError{
      "the log file '" + path + "' is " + what +
      ": writing there could lead the log to a place that another user chose. Remove it, or give another path."};
}

/// Turns the signal that this thread's write may cause (SIGPIPE: no reader, SIGXFSZ: beyond RLIMIT_FSIZE)
/// into nothing, without touching what the process does with it.
class QuietWrite {
 public:
  QuietWrite() noexcept {
    ::sigemptyset(&caused_);
    ::sigaddset(&caused_, SIGPIPE);
    ::sigaddset(&caused_, SIGXFSZ);
    ::pthread_sigmask(SIG_BLOCK, &caused_, &before_);
  }
  QuietWrite(const QuietWrite&) = delete;
  QuietWrite& operator=(const QuietWrite&) = delete;
  ~QuietWrite() {
    if (failed_with == EPIPE) forget(SIGPIPE);
    if (failed_with == EFBIG) forget(SIGXFSZ);
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  int failed_with = 0;

 private:
  void forget(int signal) const noexcept {
    // Where the caller blocks the signal himself, it may have been pending before, and is left to him.
    if (::sigismember(&before_, signal) == 1) return;
    sigset_t one;
    ::sigemptyset(&one);
    ::sigaddset(&one, signal);
    const timespec at_once{};
    while (::sigtimedwait(&one, nullptr, &at_once) < 0 && errno == EINTR) {}
  }

  sigset_t caused_{};
  sigset_t before_{};
};

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::string_view to_string(FileKind kind) noexcept {
  switch (kind) {
    case FileKind::regular: return "a regular file";
    case FileKind::directory: return "a directory";
    case FileKind::symlink: return "a symbolic link";
    case FileKind::fifo: return "a FIFO";
    case FileKind::socket: return "a socket";
    case FileKind::character_device: return "a character device";
    case FileKind::block_device: return "a block device";
    case FileKind::unknown: break;
  }
  return "of an unknown kind";
}

std::optional<FileStatus> file_status(int fd) noexcept { return status(fd, "", AT_EMPTY_PATH); }
std::optional<FileStatus> file_status(const std::string& path) noexcept {
  return status(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW);
}

Descriptor open_to_append(const std::string& path, unsigned mode) {
  // O_NONBLOCK, because opening a FIFO without a reader would wait for one.
  constexpr int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK;
  Descriptor fd{::open(path.c_str(), flags, static_cast<mode_t>(mode))};
  if (!fd) {
    const int error = errno;
    if (error == ELOOP || error == EISDIR || error == ENXIO) {
      if (const auto there = file_status(path);
          there && there->kind != FileKind::regular && there->kind != FileKind::character_device)
        refuse(path, std::string{to_string(there->kind)});
    }
    throw SystemError{"open", error, "opening the log file '" + path + "'",
                      error == EACCES   ? "Give this user the right to write there, or choose another path."
                      : error == EMFILE ? "Raise the limit of open files (ulimit -n)."
                                        : ""};
  }
  const auto opened = file_status(fd.get());
  if (!opened) throw SystemError{"statx", errno, "looking at the log file '" + path + "'"};
  if (opened->kind != FileKind::regular && opened->kind != FileKind::character_device)
    refuse(path, std::string{to_string(opened->kind)});
  if (opened->kind == FileKind::regular && opened->links > 1)
    refuse(path, "one of " + std::to_string(opened->links) + " names (hard links) of the same file");
  ::fcntl(fd.get(), F_SETFL, O_APPEND);
  return fd;
}

Descriptor create_file(const std::string& path, unsigned mode) {
  Descriptor fd{
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, static_cast<mode_t>(mode))};
  if (!fd) throw SystemError{"open", errno, "making the file '" + path + "'"};
  return fd;
}

Descriptor open_to_read(const std::string& path, bool follow) {
  const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (follow ? 0 : O_NOFOLLOW | O_NONBLOCK);
  Descriptor fd{::open(path.c_str(), flags)};
  if (!fd) throw SystemError{"open", errno, "opening '" + path + "' to read"};
  const auto opened = file_status(fd.get());
  if (opened && (opened->kind == FileKind::directory || (!follow && opened->kind != FileKind::regular)))
    throw UsageError{"'" + path + "' is " + std::string{to_string(opened->kind)} + ", not a log file."};
  return fd;
}

std::ptrdiff_t write_some(int fd, std::string_view bytes) noexcept {
  QuietWrite quiet;
  while (true) {
    const auto written = ::write(fd, bytes.data(), bytes.size());
    if (written >= 0) return written;
    if (errno == EINTR) continue;
    quiet.failed_with = errno;
    if (errno != EAGAIN) return -quiet.failed_with;
    pollfd room{.fd = fd, .events = POLLOUT, .revents = 0};
    ::poll(&room, 1, -1);
  }
}

std::ptrdiff_t read_some(int fd, char* target, std::size_t bytes) noexcept {
  while (true) {
    const auto got = ::read(fd, target, bytes);
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

int truncate_file(int fd, std::uint64_t bytes) noexcept {
  return ::ftruncate(fd, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
}

namespace {

/// Keeps the signal that tells of a broken lease from this thread, and forgets it at the end.
class LeaseSignal {
 public:
  LeaseSignal() noexcept {
    ::sigemptyset(&one_);
    ::sigaddset(&one_, SIGIO);
    ::pthread_sigmask(SIG_BLOCK, &one_, &before_);
  }
  LeaseSignal(const LeaseSignal&) = delete;
  LeaseSignal& operator=(const LeaseSignal&) = delete;
  ~LeaseSignal() {
    // Where the caller blocks it, it may have been pending before.
    const timespec at_once{};
    while (::sigismember(&before_, SIGIO) == 0 && ::sigtimedwait(&one_, nullptr, &at_once) < 0 &&
           errno == EINTR) {}
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t one_{};
  sigset_t before_{};
};

}  // namespace

int cut_file_if_alone(int fd, std::uint64_t from, std::uint64_t to) noexcept {
  // A write lease is granted only where nobody else has the file open, and while it is held, whoever opens it
  // waits (fcntl(2), "Leases"). The signal for that case is sent to this thread, which holds it back.
  const LeaseSignal held_back;
  const f_owner_ex owner{.type = F_OWNER_TID, .pid = static_cast<pid_t>(::syscall(SYS_gettid))};
  if (::fcntl(fd, F_SETOWN_EX, &owner) != 0) return errno;
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return errno;
  const auto there = file_status(fd);
  int error = there && there->bytes == from ? 0 : EBUSY;
  if (error == 0) error = truncate_file(fd, to);
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  return error;
}

std::uint64_t file_position(int fd) noexcept {
  const off_t at = ::lseek(fd, 0, SEEK_CUR);
  return at < 0 ? 0 : static_cast<std::uint64_t>(at);
}

std::optional<int> descriptor_of_path(std::string_view path) noexcept {
  if (path == "/dev/stdout") return 1;
  if (path == "/dev/stderr") return 2;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(folder)) continue;
    const std::string_view number = path.substr(folder.size());
    int fd = 0;
    const auto read = std::from_chars(number.data(), number.data() + number.size(), fd);
    if (read.ec == std::errc{} && read.ptr == number.data() + number.size() && fd >= 0) return fd;
  }
  return std::nullopt;
}

Descriptor duplicate_file(int fd, const std::string& path) {
  Descriptor copy{::fcntl(fd, F_DUPFD_CLOEXEC, 3)};
  if (!copy) throw SystemError{"fcntl", errno, "opening the log file '" + path + "'"};
  return copy;
}

std::string absolute_path(const std::string& path) {
  if (path.starts_with('/')) return path;
  std::error_code failed;
  std::string whole = std::filesystem::current_path(failed).string();
  if (failed)
    throw SystemError{"getcwd", failed.value(), "finding the folder that '" + path + "' is in",
                      "Give the path of the log file from the root, or change to a folder that exists."};
  std::string_view rest = path;
  while (rest.starts_with("./")) rest.remove_prefix(2);
  if (!whole.ends_with('/')) whole += '/';
  return whole += rest;
}

std::size_t longest_name_beside(const std::string& path) noexcept {
  constexpr std::size_t usual = 255;
  try {
    const long limit = ::pathconf(directory_of(path).c_str(), _PC_NAME_MAX);
    return limit > 0 ? static_cast<std::size_t>(limit) : usual;
  } catch (...) {
    return usual;
  }
}

int replace_link(const std::string& target, const std::string& link) noexcept {
  try {
    if (const auto there = file_status(link); there && there->kind != FileKind::symlink) return EEXIST;
    // Made aside and moved into place, so that a reader finds the old one or the new one.
    const std::string aside = link + ".part";
    if (::unlink(aside.c_str()) != 0 && errno != ENOENT) return errno;
    if (::symlink(target.c_str(), aside.c_str()) != 0) return errno;
    if (::rename(aside.c_str(), link.c_str()) == 0) return 0;
    const int error = errno;
    ::unlink(aside.c_str());
    return error;
  } catch (...) {
    return ENOMEM;
  }
}

int sync_file(int fd) noexcept { return ::fsync(fd) == 0 ? 0 : errno; }

int sync_directory_of(const std::string& path) noexcept {
  try {
    const Descriptor directory{::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!directory) return errno;
    return sync_file(directory.get());
  } catch (...) {
    return ENOMEM;
  }
}

int rename_to_free_name(const std::string& from, const std::string& to) noexcept {
  if (::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), 1U /* RENAME_NOREPLACE */) == 0)
    return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
  // A file system without RENAME_NOREPLACE (NFS among them): a link refuses a taken name too.
  // Crash: between the two calls both names lead to the file. Nothing is lost; whoever opens the old one
  // finds a second link on it.
  if (::link(from.c_str(), to.c_str()) != 0) return errno;
  return ::unlink(from.c_str()) == 0 ? 0 : errno;
}

int remove_file(const std::string& path) noexcept { return ::unlink(path.c_str()) == 0 ? 0 : errno; }

int make_directories_above(const std::string& path) noexcept {
  try {
    for (std::size_t slash = path.find('/', 1); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      if (::mkdir(path.substr(0, slash).c_str(), 0777) != 0 && errno != EEXIST) {
        // A directory that exists answers EROFS or EACCES as well, where its parent may not be written to.
        const int error = errno;
        struct stat there{};
        if (::stat(path.substr(0, slash).c_str(), &there) != 0) return error;
      }
    }
    return 0;
  } catch (...) {
    return ENOMEM;
  }
}

int copy_mode_and_time(int from, int to) noexcept {
  struct stat source{};
  if (::fstat(from, &source) != 0) return errno;
  [[maybe_unused]] const int owner = ::fchown(to, source.st_uid, source.st_gid);
  if (::fchmod(to, source.st_mode & 07777U) != 0) return errno;
  const std::array<timespec, 2> times{source.st_atim, source.st_mtim};
  return ::futimens(to, times.data()) == 0 ? 0 : errno;
}

std::vector<std::string> names_in_directory(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir(path.c_str()),
                                                      [](DIR* open) { return ::closedir(open); }};
  if (!directory) return names;
  while (const auto* entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  return names;
}

bool is_terminal(int fd) noexcept { return ::isatty(fd) == 1; }

unsigned terminal_columns(int fd) noexcept {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void begin_background_thread(const char* name, int niceness) noexcept {
  begin_service_thread(name);
  // Linux keeps a nice value for each thread (sched(7)), though POSIX says process. 0: the calling thread.
  ::setpriority(PRIO_PROCESS, 0, std::min(::getpriority(PRIO_PROCESS, 0) + niceness, 19));
}

}  // namespace kindred::internal
