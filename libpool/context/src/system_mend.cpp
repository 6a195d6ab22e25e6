#include "kindred/internal/system_mend.hpp"

#include <array>
#include <cerrno>

namespace kindred::internal {
namespace {

struct Mend {
  std::string_view calls;  // words of which the call's name must be one, before any bracket; empty: any call
  int error_number;
  std::string_view text;
};

// The first row that fits counts.
constexpr std::string_view starts_processes = "fork vfork clone clone3 pthread_create";
constexpr std::string_view needs_memory = "fallocate memfd_create";
constexpr std::string_view starts_programs = "execve execveat";
constexpr std::array mends{
    Mend{starts_processes, EAGAIN,
         "Raise the limit on processes (ulimit -u, the cgroup's pids.max), or use fewer workers."},
    Mend{starts_programs, EAGAIN, "Raise the limit on processes (ulimit -u), or use fewer workers."},
    Mend{starts_programs, ENOENT,
         "The program starts itself anew through /proc/self/exe: mount /proc, or use StartMethod::fork."},
    Mend{
        starts_programs, EACCES,
        "The program's own file may not be executed: give it back its x permission, and look whether its file "
        "system is mounted noexec; or use StartMethod::fork."},
    Mend{starts_programs, EPERM,
         "A seccomp filter or a security module forbids to execute the program: allow it there, or use "
         "StartMethod::fork."},
    Mend{
        starts_programs, ENOEXEC,
        "The kernel cannot execute the program's file by itself (it runs under an emulator, or was cut): use "
        "StartMethod::fork."},
    Mend{starts_programs, ETXTBSY,
         "The program's file is being written: start the program when it is whole."},
    Mend{starts_programs, E2BIG, "The environment is too large: unset what is large in it."},
    Mend{
        "pidfd_open", ESRCH,
        "The process had ended, and other code of this program had reaped it: let that code wait for its own "
        "pids."},
    Mend{"fallocate ftruncate", EFBIG, "Raise the limit on file sizes (ulimit -f)."},
    Mend{
        needs_memory, ENOSPC,
        "Shared memory is short: free some, raise the cgroup's memory limit, or use fewer workers or smaller "
        "arguments."},
    Mend{
        needs_memory, ENOMEM,
        "Shared memory is short: free some, raise the cgroup's memory limit, or use fewer workers or smaller "
        "arguments."},
    Mend{
        "mmap", ENOMEM,
        "Raise the limit on address space (ulimit -v) or the number of mappings (vm.max_map_count), or use fewer "
        "workers or smaller arguments."},
    Mend{"mmap", EAGAIN, "Raise the limit on locked memory (ulimit -l)."},
    Mend{"epoll_ctl", ENOSPC, "Raise fs.epoll.max_user_watches."},
    Mend{"sendmsg", ETOOMANYREFS,
         "Too many descriptors are on their way at once: raise the limit on open files (ulimit -n)."},
    Mend{"sendmsg", ENOBUFS,
         "Raise net.core.wmem_default, or the limit on descriptors in flight (ulimit -n)."},
    Mend{"sendmsg", EMSGSIZE, "Raise net.core.wmem_default."},
    Mend{"nice", EACCES, "Negative values need CAP_SYS_NICE."},
    Mend{"nice", EPERM, "Negative values need CAP_SYS_NICE."},
    Mend{"setrlimit", EPERM, "Use a value up to the hard limit: more needs CAP_SYS_RESOURCE."},
    Mend{"setrlimit", EINVAL, "Use a RLIMIT_ number, and a value up to the hard limit."},
    Mend{"sched_setaffinity", EINVAL, "Name CPUs that this process may use."},
    Mend{"chdir", ENOENT, "There is none. Name a directory that the worker may enter."},
    Mend{"chdir", ENOTDIR, "It is none. Name a directory that the worker may enter."},
    Mend{"chdir", EACCES, "Name a directory that the worker may enter."},
    Mend{"", EMFILE, "Raise the limit on open files (ulimit -n), or use fewer workers."},
    Mend{"", ENFILE, "All processes together have as many files open as they may: raise fs.file-max."},
    Mend{"", ENOMEM, "Memory is short: free some, raise the cgroup's memory limit, or use fewer workers."},
    Mend{"", ENOBUFS, "The kernel's memory for sockets is short: try again, or use fewer workers."},
    Mend{"", ENOSPC, "The file system is full: make room, or name another place."},
    Mend{"", EDQUOT, "The quota is used up: make room, or raise it."},
    Mend{"", EROFS, "The file system is mounted read-only: name another place."},
    Mend{"", ENAMETOOLONG, "The name is too long: 255 bytes a name and 4095 a path are allowed."},
    Mend{"", ELOOP, "A symbolic link is not followed here: name the file itself."},
    Mend{"", EIO, "The device failed: the kernel's log (dmesg) says how."},
};

// These do not depend on the call, but name it.
std::string refusal_of(std::string_view call, int error_number) {
  constexpr std::string_view of_files = "open statx mkdir rename unlink write read fsync bind chdir";
  const std::string name{call};
  if (error_number == ENOSYS) {
    return "kindred needs Linux 5.10 or later, and " + name +
           " is not known here: a container, a seccomp filter or valgrind hides it, or the kernel is older.";
  }
  if (error_number != EPERM && error_number != EACCES) return {};
  if (of_files.find(call.substr(0, call.find('('))) != std::string_view::npos)
    return "Look at who owns it, and at the permissions of the folders above it.";
  return name +
         " is forbidden here: a container, a seccomp filter or a security module refuses it. Allow it there.";
}

// Is `call`, without what stands in brackets, one of the words?
bool is_one_of(std::string_view call, std::string_view words) {
  call = call.substr(0, call.find('('));
  while (!words.empty()) {
    const auto end = words.find(' ');
    if (words.substr(0, end) == call) return true;
    words = end == std::string_view::npos ? std::string_view{} : words.substr(end + 1);
  }
  return false;
}

}  // namespace

std::string mend_for(std::string_view call, int error_number) {
  for (const Mend& mend : mends) {
    if (mend.error_number == error_number && (mend.calls.empty() || is_one_of(call, mend.calls)))
      return std::string{mend.text};
  }
  return refusal_of(call, error_number);
}

}  // namespace kindred::internal
