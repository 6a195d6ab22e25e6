// The seccomp filters of a sandbox, made by libseccomp in the parent and sent to the workers as programs.
//
// Two programs hold at once, and the kernel takes the stricter word of both:
//   `calls`     says for each call by its number: allowed, refused with an error, or the worker's end. A call
//               that is not in its lists (newer than this file, or of no use) gives ENOSYS: the C library
//               then takes an older one.
//   `refusals`  says for calls that are allowed in principle which arguments are not.
#include "kindred/internal/sandbox_plan.hpp"

#ifdef KINDRED_WITH_LIBSECCOMP

#include <asm/ioctls.h>
#include <asm/sockios.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string_view>

#include "kindred/error.hpp"
#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {
namespace {

using Names = std::initializer_list<const char*>;

// What computing, and work on files that one may have, is made of. Files are Landlock's affair.
constexpr Names allowed_always{
    // by descriptor
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2",
    "lseek", "_llseek", "close", "close_range", "dup", "dup2", "dup3", "pipe", "pipe2", "fstat", "fstatfs",
    "getdents", "getdents64", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate", "fadvise64",
    "readahead", "flock", "sendfile", "copy_file_range", "splice", "tee", "vmsplice", "poll", "ppoll",
    "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "eventfd", "eventfd2", "timerfd_create", "timerfd_settime", "timerfd_gettime", "signalfd",
    "signalfd4", "memfd_create",
    // by path
    "open", "openat", "creat", "stat", "lstat", "newfstatat", "statx", "statfs", "access", "faccessat",
    "faccessat2", "readlink", "readlinkat", "getcwd", "chdir", "fchdir", "mkdir", "mkdirat", "rmdir",
    "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "umask",
    // memory
    "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "msync", "mincore", "mlock", "mlock2",
    "munlock", "mlockall", "munlockall", "mbind", "set_mempolicy", "get_mempolicy", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "membarrier", "map_shadow_stack", "mseal",
    // threads and time
    "futex", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "set_robust_list", "set_tid_address",
    "rseq", "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler",
    "sched_getattr", "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval",
    "sched_setscheduler", "sched_setparam", "sched_setattr", "getpriority", "setpriority", "ioprio_get",
    "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "times",
    "getitimer", "setitimer", "alarm", "pause", "timer_create", "timer_settime", "timer_gettime",
    "timer_getoverrun", "timer_delete", "getcpu", "exit", "exit_group", "restart_syscall", "wait4", "waitid",
    // signals
    "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigtimedwait", "rt_sigsuspend", "rt_sigreturn",
    "sigaltstack", "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
    // who and where it is
    "getpid", "getppid", "gettid", "getpgid", "getpgrp", "getsid", "getuid", "geteuid", "getgid", "getegid",
    "getresuid", "getresgid", "getgroups", "capget", "uname", "sysinfo", "getrusage", "getrlimit",
    "setrlimit", "prlimit64", "getrandom", "arch_prctl",
    // sockets that it has: a pair of its own, and the one to the parent
    "sendmsg", "recvmsg", "sendto", "recvfrom", "sendmmsg", "recvmmsg", "getsockopt", "setsockopt",
    "getsockname", "getpeername", "shutdown"};

// What no honest task does by mistake: it reaches other processes, or the machine. It ends the worker.
constexpr Names ends_the_worker{"ptrace",
                                "process_vm_readv",
                                "process_vm_writev",
                                "process_madvise",
                                "process_mrelease",
                                "pidfd_getfd",
                                "tkill",
                                "kcmp",
                                "perf_event_open",
                                "bpf",
                                "userfaultfd",
                                "keyctl",
                                "add_key",
                                "request_key",
                                "mount",
                                "umount2",
                                "pivot_root",
                                "chroot",
                                "move_mount",
                                "fsopen",
                                "fsconfig",
                                "fsmount",
                                "fspick",
                                "open_tree",
                                "mount_setattr",
                                "setns",
                                "unshare",
                                "io_uring_setup",
                                "io_uring_enter",
                                "io_uring_register",
                                "reboot",
                                "kexec_load",
                                "kexec_file_load",
                                "init_module",
                                "finit_module",
                                "delete_module",
                                "swapon",
                                "swapoff",
                                "acct",
                                "quotactl",
                                "quotactl_fd",
                                "syslog",
                                "settimeofday",
                                "clock_settime",
                                "clock_adjtime",
                                "adjtimex",
                                "sethostname",
                                "setdomainname",
                                "iopl",
                                "ioperm",
                                "vhangup",
                                "lookup_dcookie",
                                "name_to_handle_at",
                                "open_by_handle_at",
                                "fanotify_init",
                                "fanotify_mark",
                                "inotify_init",
                                "inotify_init1",
                                "shmget",
                                "shmat",
                                "shmctl",
                                "semget",
                                "semop",
                                "semtimedop",
                                "semctl",
                                "msgget",
                                "msgsnd",
                                "msgrcv",
                                "msgctl",
                                "mq_open",
                                "mq_unlink",
                                "mq_notify",
                                "mq_timedsend",
                                "mq_timedreceive",
                                "mq_getsetattr",
                                "migrate_pages",
                                "move_pages",
                                "uselib",
                                "nfsservctl",
                                "memfd_secret"};

// What Landlock does not see, and libraries do on their way: the task gets EPERM and goes on.
constexpr Names refused{
    "chmod",     "fchmod",     "fchmodat",   "fchmodat2",   "chown",        "lchown",          "fchown",
    "fchownat",  "setxattr",   "lsetxattr",  "fsetxattr",   "getxattr",     "lgetxattr",       "fgetxattr",
    "listxattr", "llistxattr", "flistxattr", "removexattr", "lremovexattr", "fremovexattr",    "utime",
    "utimes",    "utimensat",  "futimesat",  "mknod",       "mknodat",      "setpgid",         "setsid",
    "setuid",    "setgid",     "setreuid",   "setregid",    "setresuid",    "setresgid",       "setfsuid",
    "setfsgid",  "setgroups",  "capset",     "ioprio_set",  "seccomp",      "get_robust_list", "sync",
    "syncfs"};

constexpr std::uint64_t int_mask = 0xffff'ffff;  // the kernel reads an int's 32 bits, whatever is above them

class Filter {
 public:
  explicit Filter(std::uint32_t otherwise) : context_{::seccomp_init(otherwise)}, otherwise_{otherwise} {
    if (!context_) throw SystemError{"seccomp_init", ENOMEM, "making the filter of WorkerOptions::sandbox"};
    // 32-bit calls on a 64-bit machine have other numbers: no list holds for them.
    check(::seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    check(::seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2));
  }

  void on(const char* name, std::uint32_t action, std::initializer_list<scmp_arg_cmp> when = {}) {
    const int number = ::seccomp_syscall_resolve_name(name);
    if (number < 0 || action == otherwise_) return;  // not on this machine, or younger than the library
    check(::seccomp_rule_add_array(context_.get(), action, number, static_cast<unsigned>(when.size()),
                                   when.begin()));
  }
  void on(const Names& names, std::uint32_t action) {
    for (const char* const name : names) on(name, action);
  }

  [[nodiscard]] FilterProgram program() const {
    const Descriptor memory{::memfd_create("kindred-filter", MFD_CLOEXEC)};
    if (!memory) throw SystemError{"memfd_create", errno, "making the filter of WorkerOptions::sandbox"};
    check(::seccomp_export_bpf(context_.get(), memory.get()));
    const off_t bytes = ::lseek(memory.get(), 0, SEEK_END);
    FilterProgram program(static_cast<std::size_t>(bytes) / sizeof(std::uint64_t));
    if (::pread(memory.get(), program.data(), program.size() * sizeof(std::uint64_t), 0) != bytes)
      throw SystemError{"pread", errno, "reading the filter of WorkerOptions::sandbox"};
    return program;
  }

 private:
  static void check(int result) {
    if (result != 0) throw SystemError{"libseccomp", -result, "making the filter of WorkerOptions::sandbox"};
  }

  struct Release {
    void operator()(void* context) const noexcept { ::seccomp_release(context); }
  };
  std::unique_ptr<void, Release> context_;
  std::uint32_t otherwise_;
};

constexpr scmp_arg_cmp equals(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, int_mask, value};
}
constexpr scmp_arg_cmp has(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}
constexpr scmp_arg_cmp is_not(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_NE, value, 0};
}
constexpr std::uint32_t error(int number) { return SCMP_ACT_ERRNO(static_cast<std::uint32_t>(number)); }

constexpr std::uint64_t new_namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET |
                                         CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
                                         0x80 /* CLONE_NEWTIME */;

// Calls of which only some words are allowed; the others give ENOSYS.
void allow_some_words(Filter& calls, const Sandbox& sandbox) {
  for (const int command :
       {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK,
        F_OFD_SETLK, F_OFD_SETLKW, F_GETPIPE_SZ, F_SETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_GETOWN})
    calls.on("fcntl", SCMP_ACT_ALLOW, {equals(1, static_cast<std::uint64_t>(command))});
  for (const int request : {TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX})
    calls.on("ioctl", SCMP_ACT_ALLOW, {equals(1, static_cast<std::uint64_t>(request))});
  for (const int option :
       {PR_SET_NAME,       PR_GET_NAME,        PR_GET_DUMPABLE,         PR_GET_PDEATHSIG,
        PR_GET_KEEPCAPS,   PR_GET_SECUREBITS,  PR_GET_NO_NEW_PRIVS,     PR_GET_SECCOMP,
        PR_GET_TIMERSLACK, PR_SET_TIMERSLACK,  PR_GET_THP_DISABLE,      PR_SET_THP_DISABLE,
        PR_CAPBSET_READ,   PR_GET_TID_ADDRESS, PR_SET_TAGGED_ADDR_CTRL, PR_GET_TAGGED_ADDR_CTRL,
        PR_PAC_RESET_KEYS, PR_SVE_GET_VL,      PR_SVE_SET_VL,           0x53564d41 /* PR_SET_VMA */})
    calls.on("prctl", SCMP_ACT_ALLOW, {equals(0, static_cast<std::uint64_t>(option))});
  calls.on("personality", SCMP_ACT_ALLOW, {equals(0, int_mask)});  // asks, and sets nothing
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET})
    calls.on("socketpair", SCMP_ACT_ALLOW,
             {equals(0, AF_UNIX), has(1, 0xf, static_cast<std::uint64_t>(type))});
  if (sandbox.network) {
    for (int family = 0; family < AF_MAX; ++family) {
      const bool internet = family == AF_INET || family == AF_INET6;
      calls.on("socket", internet ? SCMP_ACT_ALLOW : error(EAFNOSUPPORT),
               {equals(0, static_cast<std::uint64_t>(family))});
    }
  }
  if (sandbox.processes) {
    calls.on("clone", SCMP_ACT_ALLOW, {has(0, new_namespaces, 0)});
  } else {
    calls.on("clone", SCMP_ACT_ALLOW, {has(0, new_namespaces | CLONE_THREAD, CLONE_THREAD)});
  }
}

void refuse_reaching_others(Filter& refusals, const Sandbox& sandbox, bool own_signals_only) {
  if (own_signals_only) {
    for (const char* const call : {"kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"})
      refusals.on(call, SCMP_ACT_TRAP, {is_not(0, sandbox_own_pid)});
  }
  // The owner of a descriptor gets signals from the kernel, whoever it is.
  for (const int command : {F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETLEASE, F_NOTIFY})
    refusals.on("fcntl", SCMP_ACT_TRAP, {equals(1, static_cast<std::uint64_t>(command))});
  for (const int request : {FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS, TIOCSCTTY})
    refusals.on("ioctl", SCMP_ACT_TRAP, {equals(1, static_cast<std::uint64_t>(request))});
  refusals.on("personality", SCMP_ACT_TRAP, {{0, SCMP_CMP_NE, int_mask, 0}});
  for (const char* const call :
       {"prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"})
    refusals.on(call, error(EPERM), {is_not(0, 0)});
  for (const unsigned argument : {0U, 1U}) refusals.on("setpriority", error(EPERM), {is_not(argument, 0)});
  // The handler that tells of a refused system call stays kindred's: a task may not replace it.
  refusals.on("rt_sigaction", error(EPERM), {equals(0, SIGSYS)});
  // A datagram socket, also one of a pair, sends to any address.
  for (const int type : {SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_DCCP, SOCK_PACKET})
    refusals.on("socketpair", SCMP_ACT_TRAP, {has(1, 0xf, static_cast<std::uint64_t>(type))});
  if (!sandbox.processes) refusals.on("clone", SCMP_ACT_TRAP, {has(0, CLONE_THREAD, 0)});
  for (std::uint64_t bit = 0x80; bit <= new_namespaces; bit <<= 1U) {
    if ((new_namespaces & bit) != 0) refusals.on("clone", SCMP_ACT_TRAP, {has(0, bit, bit)});
  }
}

void refuse_for_files(Filter& refusals, int landlock_abi) {
  // A program of root's that is set-user-id, made where others can run it.
  for (const auto bit : {std::uint64_t{S_ISUID}, std::uint64_t{S_ISGID}}) {
    refusals.on("open", error(EPERM), {has(1, O_CREAT, O_CREAT), has(2, bit, bit)});
    refusals.on("open", error(EPERM), {has(1, O_TMPFILE, O_TMPFILE), has(2, bit, bit)});
    refusals.on("openat", error(EPERM), {has(2, O_CREAT, O_CREAT), has(3, bit, bit)});
    refusals.on("openat", error(EPERM), {has(2, O_TMPFILE, O_TMPFILE), has(3, bit, bit)});
    refusals.on("creat", error(EPERM), {has(1, bit, bit)});
    refusals.on("mkdir", error(EPERM), {has(1, bit, bit)});
    refusals.on("mkdirat", error(EPERM), {has(2, bit, bit)});
  }
  refusals.on("memfd_create", error(EPERM), {has(1, MFD_HUGETLB, MFD_HUGETLB)});
  if (landlock_abi >= 3) return;
  // Before its ABI 3 (Linux 6.2) Landlock does not see that a file is cut.
  for (const std::uint64_t access : {std::uint64_t{O_RDONLY}, std::uint64_t{O_ACCMODE}}) {
    refusals.on("open", error(EACCES), {has(1, O_ACCMODE | O_TRUNC, access | O_TRUNC)});
    refusals.on("openat", error(EACCES), {has(2, O_ACCMODE | O_TRUNC, access | O_TRUNC)});
  }
}

}  // namespace

bool has_libseccomp() noexcept { return true; }

SandboxFilters make_sandbox_filters(const Sandbox& sandbox, bool own_signals_only, int landlock_abi) {
  Filter calls{error(ENOSYS)};
  calls.on(allowed_always, SCMP_ACT_ALLOW);
  calls.on(ends_the_worker, SCMP_ACT_TRAP);
  calls.on(refused, error(EPERM));
  calls.on("truncate", landlock_abi >= 3 || landlock_abi == 0 ? SCMP_ACT_ALLOW : error(EACCES));
  allow_some_words(calls, sandbox);
  calls.on({"connect", "bind", "listen", "accept", "accept4"},
           sandbox.network ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP);
  if (!sandbox.network) calls.on("socket", SCMP_ACT_TRAP);
  calls.on({"fork", "vfork", "pidfd_open"}, sandbox.processes ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP);
  calls.on("pidfd_send_signal", sandbox.processes && !own_signals_only ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP);
  calls.on({"execve", "execveat"}, sandbox.exec ? SCMP_ACT_ALLOW : SCMP_ACT_TRAP);

  Filter refusals{SCMP_ACT_ALLOW};
  refuse_reaching_others(refusals, sandbox, own_signals_only);
  refuse_for_files(refusals, landlock_abi);
  return {.refusals = refusals.program(), .calls = calls.program()};
}

std::string system_call_name(int number) {
  char* const name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
  if (name == nullptr) return "number " + std::to_string(number);
  std::string text{name};
  std::free(name);
  return text;
}

}  // namespace kindred::internal

#else

namespace kindred::internal {

bool has_libseccomp() noexcept { return false; }
SandboxFilters make_sandbox_filters(const Sandbox&, bool, int) { return {}; }
std::string system_call_name(int number) { return "number " + std::to_string(number); }

}  // namespace kindred::internal

#endif
