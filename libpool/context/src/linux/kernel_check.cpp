#include "kernel_check.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "kindred/error.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/this_process.hpp"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace kindred::internal {
namespace {

constexpr const char* doing = "looking whether this system has what an executor needs";

void require(bool done, const char* call, std::string_view mend = {}) {
  if (done) return;
  const int problem = errno;
  if (problem == EMFILE || problem == ENFILE || problem == ENOMEM || problem == ENOSPC || problem == EAGAIN)
    return;
  throw SystemError{call, problem, doing, mend};
}

// How the parent watches and kills its workers.
void check_processes() {
  const Descriptor self{static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0))};
  require(static_cast<bool>(self), "pidfd_open");
  if (!self) return;
  require(::syscall(SYS_pidfd_send_signal, self.get(), 0, nullptr, 0) == 0, "pidfd_send_signal");
  siginfo_t info{};
  const int waited =
      ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(self.get()), &info, WEXITED | WNOHANG);
  // A process is no child of its own: that answer shows that the kernel knows what was asked.
  require(waited == 0 || errno == ECHILD, "waitid(P_PIDFD)",
          errno == EINVAL ? "kindred needs Linux 5.10 or later: this kernel cannot wait for a pidfd." : "");
  const Descriptor poll{::epoll_create1(EPOLL_CLOEXEC)};
  require(static_cast<bool>(poll), "epoll_create1");
  if (!poll) return;
  epoll_event event{};
  event.events = EPOLLIN;
  require(::epoll_ctl(poll.get(), EPOLL_CTL_ADD, self.get(), &event) == 0, "epoll_ctl");
}

// What they share.
void check_memory() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const Descriptor memory{::memfd_create("kindred-check", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  require(static_cast<bool>(memory), "memfd_create");
  if (!memory) return;
  if (::fallocate(memory.get(), 0, 0, static_cast<off_t>(page)) != 0) return require(false, "fallocate");
  require(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0, "fcntl(F_ADD_SEALS)");
  void* const shared = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  require(shared != MAP_FAILED, "mmap");
  if (shared == MAP_FAILED) return;
  // Not private: the word is woken by another process.
  const long woken = ::syscall(SYS_futex, shared, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  const int problem = errno;
  ::munmap(shared, page);
  errno = problem;
  require(woken >= 0, "futex");
  require(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0,
          "fcntl(F_ADD_SEALS, F_SEAL_FUTURE_WRITE)");
}

// How they come to it.
void check_messages() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return require(false, "socketpair");
  const Descriptor here{pair[0]};
  const Descriptor there{pair[1]};
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return require(false, "pipe2");
  const Descriptor end{pipe[0]};
  const Descriptor other_end{pipe[1]};
  require(::fcntl(end.get(), F_SETSIG, SIGKILL) == 0, "fcntl(F_SETSIG)");
}

void check_files(StartMethod method) {
  const Descriptor null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  require(static_cast<bool>(null), "open(/dev/null)",
          "Workers have it as their standard input: mount /dev, or make it "
          "(mknod -m 666 /dev/null c 1 3).");
  if (method == StartMethod::fork) return;
  const bool executable = ::access("/proc/self/exe", X_OK) == 0;
  const bool denied = !executable && errno == EACCES;
  require(
      executable, "access(/proc/self/exe)",
      denied
          ? "spawn and forkserver execute the program's file anew: give it back its x permission, and look "
            "whether its file system is mounted noexec; or use StartMethod::fork."
          : "spawn and forkserver execute the program anew through it: mount /proc, or use StartMethod::fork.");
}

}  // namespace

void require_kernel(StartMethod method) {
  // Remembered for each process: a forked child may have got a filter of system calls since.
  static std::atomic<std::uint64_t> checked{0};
  const std::uint64_t now = (std::uint64_t{process_id()} << 1U) | (method == StartMethod::fork ? 0U : 1U);
  const std::uint64_t before = checked.load(std::memory_order_relaxed);
  if (before == now || before == (now | 1U)) return;
  check_processes();
  check_memory();
  check_messages();
  check_files(method);
  checked.store(now, std::memory_order_relaxed);
}

}  // namespace kindred::internal
