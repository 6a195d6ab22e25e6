#pragma once

// What a plug-in that means harm would try: each attempt returns 0 where the harm is done, else the errno
// that it was refused with; or the process ends with it.

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace kindred::test {

/// What the attempts aim at. `victim` is a process of the same user, beside the program and its workers.
struct Target {
  int program = 0;
  int victim = 0;
  std::uint64_t victim_secret = 0;  ///< address of 8 bytes in the victim
  int victim_descriptor = -1;       ///< of the secret file, open in the victim
  std::string outside;              ///< a folder that the sandbox does not name, with the file "secret"
  std::string inside;               ///< a folder that it names to write
  std::string readable;             ///< a file that it names to read
  int port = 0;                     ///< where the test listens
  std::string abstract_name;        ///< of a datagram socket of the test
  int segment = -1;                 ///< System V shared memory of the test
};

namespace attempts {

inline int result_of(long outcome) { return outcome >= 0 ? 0 : errno; }

// --- signals
inline int kill_program(const Target& t) { return result_of(::kill(t.program, SIGUSR1)); }
inline int kill_victim(const Target& t) { return result_of(::kill(t.victim, SIGUSR1)); }
inline int kill_group(const Target& t) { return result_of(::kill(-t.victim, SIGUSR1)); }
inline int kill_thread(const Target& t) {
  return result_of(::syscall(SYS_tgkill, t.victim, t.victim, SIGUSR1));
}
inline int kill_old_way(const Target& t) { return result_of(::syscall(SYS_tkill, t.victim, SIGUSR1)); }
inline int queue_signal(const Target& t) { return result_of(::sigqueue(t.victim, SIGUSR1, {})); }
inline int signal_by_pidfd(const Target& t) {
  const long fd = ::syscall(SYS_pidfd_open, t.victim, 0);
  return fd < 0 ? errno : result_of(::syscall(SYS_pidfd_send_signal, fd, SIGUSR1, nullptr, 0));
}
/// The kernel sends the owner of a pipe a signal when it is written to.
inline int signal_by_owner(const Target& t) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return errno;
  if (::fcntl(ends[0], F_SETOWN, t.victim) != 0) return errno;
  ::fcntl(ends[0], F_SETSIG, SIGUSR1);
  ::fcntl(ends[0], F_SETFL, O_ASYNC);
  return result_of(::write(ends[1], "x", 1));
}
inline int replace_handler(const Target&) { return ::signal(SIGSYS, SIG_IGN) == SIG_ERR ? errno : 0; }

// --- memory and descriptors of others
inline int trace(const Target& t) {
  if (::ptrace(PTRACE_SEIZE, t.victim, 0, 0) != 0) return errno;
  return result_of(::ptrace(PTRACE_INTERRUPT, t.victim, 0, 0)), 0;
}
inline int read_memory(const Target& t) {
  std::uint64_t value = 0;
  iovec here{&value, sizeof value};
  iovec there{reinterpret_cast<void*>(t.victim_secret), sizeof value};
  return result_of(::process_vm_readv(t.victim, &here, 1, &there, 1, 0));
}
inline int write_memory(const Target& t) {
  std::uint64_t value = 666;
  iovec here{&value, sizeof value};
  iovec there{reinterpret_cast<void*>(t.victim_secret), sizeof value};
  return result_of(::process_vm_writev(t.victim, &here, 1, &there, 1, 0));
}
inline int write_memory_file(const Target& t) {
  const int fd = ::open(("/proc/" + std::to_string(t.victim) + "/mem").c_str(), O_RDWR);
  const std::uint64_t value = 666;
  return fd < 0 ? errno : result_of(::pwrite(fd, &value, sizeof value, static_cast<off_t>(t.victim_secret)));
}
inline int open_descriptor(const Target& t) {
  char byte = 0;
  const int fd = ::open(
      ("/proc/" + std::to_string(t.victim) + "/fd/" + std::to_string(t.victim_descriptor)).c_str(), O_RDONLY);
  return fd < 0 ? errno : result_of(::read(fd, &byte, 1));
}
inline int take_descriptor(const Target& t) {
  // The control socket tells of a pidfd of the program, without a call that opens one.
  (void)t;
  return result_of(::syscall(SYS_pidfd_getfd, 3, 0, 0));
}

// --- files
inline int read_secret(const Target& t) {
  char byte = 0;
  const int fd = ::open((t.outside + "/secret").c_str(), O_RDONLY);
  return fd < 0 ? errno : result_of(::read(fd, &byte, 1));
}
inline int overwrite(const Target& t) {
  const int fd = ::open((t.outside + "/secret").c_str(), O_WRONLY);
  return fd < 0 ? errno : result_of(::write(fd, "harm", 4));
}
inline int write_readable(const Target& t) {
  const int fd = ::open(t.readable.c_str(), O_WRONLY);
  return fd < 0 ? errno : result_of(::write(fd, "harm", 4));
}
inline int cut_by_name(const Target& t) { return result_of(::truncate((t.outside + "/secret").c_str(), 0)); }
inline int cut_by_opening(const Target& t) {
  return result_of(::open(t.readable.c_str(), O_RDONLY | O_TRUNC));
}
inline int remove_secret(const Target& t) { return result_of(::unlink((t.outside + "/secret").c_str())); }
inline int take_secret_away(const Target& t) {
  return result_of(::rename((t.outside + "/secret").c_str(), (t.inside + "/mine").c_str()));
}
inline int link_secret(const Target& t) {
  return result_of(::link((t.outside + "/secret").c_str(), (t.inside + "/link").c_str()));
}
inline int leave_symbolic_link(const Target& t) {
  return result_of(::symlink((t.outside + "/secret").c_str(), (t.inside + "/symbolic").c_str()));
}
inline int make_file_outside(const Target& t) {
  return result_of(::open((t.outside + "/planted").c_str(), O_WRONLY | O_CREAT, 0600));
}
inline int list_folder(const Target& t) {
  return result_of(::open(t.outside.c_str(), O_RDONLY | O_DIRECTORY));
}
inline int change_mode(const Target& t) { return result_of(::chmod((t.outside + "/secret").c_str(), 0777)); }
inline int change_mode_of_readable(const Target& t) {
  const int fd = ::open(t.readable.c_str(), O_RDONLY);
  return fd < 0 ? errno : result_of(::fchmod(fd, 0));
}
inline int change_times(const Target& t) {
  const std::array<timespec, 2> times{};
  return result_of(::utimensat(AT_FDCWD, (t.outside + "/secret").c_str(), times.data(), 0));
}
inline int set_attribute(const Target& t) {
  return result_of(::setxattr((t.outside + "/secret").c_str(), "user.harm", "1", 1, 0));
}
inline int make_set_user_id(const Target& t) {
  return result_of(::open((t.inside + "/root_shell").c_str(), O_WRONLY | O_CREAT, 04755));
}
inline int open_shared_memory(const Target&) {
  const int fd = ::shm_open("/kindred-sandbox-attempt", O_RDWR | O_CREAT, 0600);
  if (fd >= 0) ::shm_unlink("/kindred-sandbox-attempt");
  return result_of(fd);
}
inline int read_users_of_machine(const Target&) { return result_of(::open("/etc/passwd", O_RDONLY)); }
inline int use_root_powers(const Target& t) {  // a file of another user's that nobody else may read
  return result_of(::open((t.inside + "/foreign").c_str(), O_RDONLY));
}

// --- network and other services
inline int connect_tcp(const Target& t) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(t.port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return fd < 0 ? errno : result_of(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address));
}
inline socklen_t to_address(const Target& t, sockaddr_un& address) {
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, t.abstract_name.data(), t.abstract_name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + t.abstract_name.size());
}
inline int send_to_abstract(const Target& t) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  sockaddr_un address{};
  const socklen_t size = to_address(t, address);
  return fd < 0 ? errno : result_of(::sendto(fd, "x", 1, 0, reinterpret_cast<sockaddr*>(&address), size));
}
inline int send_from_pair(const Target& t) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_DGRAM, 0, pair.data()) != 0) return errno;
  sockaddr_un address{};
  const socklen_t size = to_address(t, address);
  return result_of(::sendto(pair[0], "x", 1, 0, reinterpret_cast<sockaddr*>(&address), size));
}
inline int attach_segment(const Target& t) {
  return ::shmat(t.segment, nullptr, 0) == reinterpret_cast<void*>(-1) ? errno : 0;
}
inline int open_message_queue(const Target&) {
  const long fd = ::syscall(SYS_mq_open, "kindred-attempt", O_RDWR | O_CREAT, 0600, nullptr);
  if (fd >= 0) ::syscall(SYS_mq_unlink, "kindred-attempt");
  return result_of(fd);
}

// --- processes
inline int start_process(const Target&) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  return child < 0 ? errno : (::waitpid(child, nullptr, 0), 0);
}
inline int execute(const Target&) { return ::execl("/bin/true", "true", nullptr), errno; }
inline int execute_from_memory(const Target&) {
  const int fd = ::memfd_create("program", 0);
  const char* const none[] = {nullptr};
  ::syscall(SYS_execveat, fd, "", none, none, AT_EMPTY_PATH);
  return errno == EACCES || errno == ENOEXEC ? 0 : errno;  // it was tried: an empty file is no program
}
inline int leave_group(const Target&) { return result_of(::setsid()); }

// --- the machine
inline int slow_victim_down(const Target& t) {
  return result_of(::setpriority(PRIO_PROCESS, static_cast<id_t>(t.victim), 19));
}
inline int move_victim(const Target& t) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  return result_of(::sched_setaffinity(t.victim, sizeof set, &set));
}
inline int limit_victim(const Target& t) {
  const rlimit none{0, 0};
  return result_of(::prlimit(t.victim, RLIMIT_CORE, &none, nullptr));
}
inline int eat_memory(const Target&) {
  constexpr std::size_t bytes = std::size_t{1} << 30U;
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno;
  ::munmap(memory, bytes);
  return 0;
}
inline int eat_memory_in_file(const Target&) {
  const int fd = ::memfd_create("eaten", 0);
  std::signal(SIGXFSZ, SIG_IGN);
  return ::ftruncate(fd, off_t{1} << 30U) != 0 ? errno : (::close(fd), 0);
}
inline int raise_limit(const Target&) {
  const rlimit more{RLIM_INFINITY, RLIM_INFINITY};
  return result_of(::setrlimit(RLIMIT_AS, &more));
}
inline int use_ring(const Target&) {
  std::array<std::uint32_t, 30> parameters{};
  return result_of(::syscall(SYS_io_uring_setup, 2, parameters.data()));
}
inline int load_kernel_program(const Target&) { return result_of(::syscall(SYS_bpf, 0, nullptr, 0)); }
inline int stop_kernel_at_faults(const Target&) { return result_of(::syscall(SYS_userfaultfd, O_CLOEXEC)); }
inline int measure_kernel(const Target&) {
  return result_of(::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0));
}
inline int take_keys(const Target&) { return result_of(::syscall(SYS_keyctl, 0 /* get id */, -4, 1)); }
inline int new_mounts(const Target&) { return result_of(::unshare(CLONE_NEWNS)); }
inline int new_user(const Target&) { return result_of(::unshare(CLONE_NEWUSER)); }
inline int mount_over(const Target& t) {
  return result_of(::mount("none", t.inside.c_str(), "tmpfs", 0, nullptr));
}
inline int change_personality(const Target&) {
  return result_of(::syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */));
}
inline int type_into_terminal(const Target&) { return result_of(::ioctl(0, TIOCSTI, "x")); }
inline int use_printed_output(const Target&) {  // of the program: a file of its own, or its terminal
  struct stat status{};
  return ::fstat(1, &status) == 0 && !S_ISFIFO(status.st_mode) ? 0 : EPERM;
}
inline int watch_files(const Target&) { return result_of(::syscall(SYS_inotify_init1, 0)); }
inline int keep_privileges(const Target&) {
  return ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? EPERM : 0;
}

}  // namespace attempts

/// The layers of a sandbox, as the tests switch them off.
namespace layer {
inline constexpr unsigned landlock = 1, seccomp = 2, capabilities = 4, limits = 8, output = 16;
}

struct Attempt {
  const char* what;
  int (*run)(const Target&);
  const char* call;  ///< the system call that ends the worker; null: it is refused with one of `errors`
  std::vector<int> errors;  ///< as `run` returns them
  unsigned layers;          ///< without these it does its harm; 0: not to be tried on this machine
  bool root_only = false;   ///< the harm needs root
};

inline const std::vector<Attempt>& all_attempts() {
  using namespace attempts;
  using namespace layer;
  static const std::vector<Attempt> all{
      {"a signal to the program", kill_program, "kill", {}, seccomp | landlock},
      {"a signal to another process", kill_victim, "kill", {}, seccomp | landlock},
      {"a signal to another group", kill_group, "kill", {}, seccomp | landlock},
      {"a signal to a thread of another process", kill_thread, "tgkill", {}, seccomp | landlock},
      {"a signal by tkill", kill_old_way, "tkill", {}, seccomp | landlock},
      {"a queued signal", queue_signal, "rt_sigqueueinfo", {}, seccomp | landlock},
      {"a signal by pidfd", signal_by_pidfd, "pidfd_open", {}, seccomp | landlock},
      {"a signal by the owner of a pipe", signal_by_owner, "fcntl", {}, seccomp | landlock},
      {"the handler of bad system calls", replace_handler, nullptr, {EPERM}, seccomp},
      {"tracing another process", trace, "ptrace", {}, seccomp | landlock | capabilities},
      {"reading another process's memory",
       read_memory,
       "process_vm_readv",
       {},
       seccomp | landlock | capabilities},
      {"writing another process's memory",
       write_memory,
       "process_vm_writev",
       {},
       seccomp | landlock | capabilities},
      {"writing another process's memory as a file",
       write_memory_file,
       nullptr,
       {EACCES},
       landlock | capabilities},
      {"reopening another process's descriptor", open_descriptor, nullptr, {EACCES}, landlock | capabilities},
      {"taking a descriptor of another process", take_descriptor, "pidfd_getfd", {}, 0},
      {"reading a file", read_secret, nullptr, {EACCES}, landlock},
      {"overwriting a file", overwrite, nullptr, {EACCES}, landlock},
      {"writing a file that may only be read", write_readable, nullptr, {EACCES}, landlock},
      {"cutting a file by its name", cut_by_name, nullptr, {EACCES}, landlock},
      {"cutting a file by opening it", cut_by_opening, nullptr, {EACCES}, landlock},
      {"removing a file", remove_secret, nullptr, {EACCES}, landlock},
      {"moving a file away", take_secret_away, nullptr, {EACCES, EXDEV}, landlock},
      {"linking a file into its own folder", link_secret, nullptr, {EACCES, EXDEV}, landlock},
      {"leaving a symbolic link for the program", leave_symbolic_link, nullptr, {EACCES}, landlock},
      {"planting a file", make_file_outside, nullptr, {EACCES}, landlock},
      {"listing a folder", list_folder, nullptr, {EACCES}, landlock},
      {"changing a file's mode", change_mode, nullptr, {EPERM}, seccomp},
      {"changing the mode of a file that it may read", change_mode_of_readable, nullptr, {EPERM}, seccomp},
      {"changing a file's times", change_times, nullptr, {EPERM}, seccomp},
      {"setting an attribute of a file", set_attribute, nullptr, {EPERM}, seccomp},
      {"making a set-user-id file", make_set_user_id, nullptr, {EPERM}, seccomp},
      {"named shared memory", open_shared_memory, nullptr, {EACCES}, landlock},
      {"reading the machine's users", read_users_of_machine, nullptr, {EACCES}, landlock},
      {"a power of root's", use_root_powers, nullptr, {EACCES}, capabilities, true},
      {"a connection", connect_tcp, "socket", {}, seccomp | landlock},
      {"a message to an abstract socket", send_to_abstract, "socket", {}, seccomp | landlock},
      {"a message from a socket pair", send_from_pair, "socketpair", {}, seccomp | landlock},
      {"System V shared memory", attach_segment, "shmat", {}, seccomp},
      {"a message queue", open_message_queue, "mq_open", {}, seccomp | landlock},
      {"a new process", start_process, "clone", {}, seccomp},
      {"another program", execute, "execve", {}, 0},
      {"a program in memory", execute_from_memory, "execveat", {}, seccomp},
      {"leaving its session", leave_group, nullptr, {EPERM}, seccomp},
      {"another process's priority", slow_victim_down, nullptr, {EPERM}, seccomp | capabilities},
      {"another process's cores", move_victim, nullptr, {EPERM}, seccomp | capabilities},
      {"another process's limits", limit_victim, nullptr, {EPERM}, seccomp | landlock | capabilities},
      {"all memory", eat_memory, nullptr, {ENOMEM}, limits},
      {"memory that is not mapped", eat_memory_in_file, nullptr, {EFBIG}, limits},
      {"a higher limit", raise_limit, nullptr, {EPERM}, limits | capabilities},
      {"io_uring", use_ring, "io_uring_setup", {}, 0},
      {"a program in the kernel", load_kernel_program, "bpf", {}, 0},
      {"userfaultfd", stop_kernel_at_faults, "userfaultfd", {}, 0},
      {"perf_event_open", measure_kernel, "perf_event_open", {}, 0},
      {"the user's keys", take_keys, "keyctl", {}, 0},
      {"new mounts", new_mounts, "unshare", {}, seccomp | capabilities, true},
      {"a new user namespace", new_user, "unshare", {}, seccomp},
      {"mounting over a folder", mount_over, "mount", {}, 0},
      {"another personality", change_personality, "personality", {}, seccomp},
      {"typing into the terminal", type_into_terminal, "ioctl", {}, 0},
      {"the program's own output", use_printed_output, nullptr, {EPERM}, output},
      {"watching files", watch_files, "inotify_init1", {}, seccomp},
      {"privileges by executing", keep_privileges, nullptr, {EPERM}, 0},
  };
  return all;
}

}  // namespace kindred::test
