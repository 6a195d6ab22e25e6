#include "sandbox_threads.hpp"

#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/securebits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <thread>

namespace kindred::internal {
namespace {

#ifndef SYS_landlock_restrict_self
#define SYS_landlock_restrict_self 446
#endif

// glibc uses this signal to have each thread change its user (nptl(7): SIGSETXID), and lets nobody block it.
constexpr int signal_of_threads = 33;
constexpr std::chrono::seconds answer_limit{2};

// The kernel's own form of struct sigaction: glibc's refuses to set that signal.
struct KernelAction {
  void (*handler)(int, siginfo_t*, void*);
  unsigned long flags;
  void (*restorer)();
  std::uint64_t mask;
};

std::atomic<const ThreadRestriction*> restriction_of_threads{nullptr};
std::atomic<unsigned> answers{0};
std::atomic<const char*> failed_name{nullptr};
std::atomic<int> failed_error{0};

void on_signal(int, siginfo_t*, void*) {
  const int kept = errno;
  if (const auto* const restriction = restriction_of_threads.load(std::memory_order_acquire)) {
    if (const FailedCall failed = restrict_this_thread(*restriction)) {
      failed_error.store(failed.error, std::memory_order_relaxed);
      failed_name.store(failed.name, std::memory_order_relaxed);
    }
    answers.fetch_add(1, std::memory_order_release);
  }
  errno = kept;
}

int kernel_action(int number, const KernelAction* set, KernelAction* get) noexcept {
  return static_cast<int>(::syscall(SYS_rt_sigaction, number, set, get, sizeof(std::uint64_t)));
}

std::set<pid_t> threads_of_this_process() {
  std::set<pid_t> threads;
  std::error_code problem;
  for (std::filesystem::directory_iterator at{"/proc/self/task", problem}, end; !problem && at != end;
       at.increment(problem)) {
    const std::string name = at->path().filename().string();
    pid_t tid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), tid).ec == std::errc{}) threads.insert(tid);
  }
  return threads;
}

bool thread_exists(pid_t tid) noexcept { return ::syscall(SYS_tgkill, ::getpid(), tid, 0) == 0; }

}  // namespace

FailedCall restrict_this_thread(const ThreadRestriction& restriction) noexcept {
  if (restriction.drops_capabilities) {
    // Without the capability for it these change nothing, and then there is nothing to take away.
    (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long which = 0; which < 64 && ::prctl(PR_CAPBSET_DROP, which, 0, 0, 0) == 0; ++which) {}
    (void)::prctl(PR_SET_SECUREBITS,
                  SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
                  0, 0, 0);
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    const std::array<__user_cap_data_struct, 2> none{};
    if (::syscall(SYS_capset, &header, none.data()) != 0) return {.name = "capset", .error = errno};
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return {.name = "prctl(PR_SET_NO_NEW_PRIVS)", .error = errno};
  if (restriction.ruleset >= 0 && ::syscall(SYS_landlock_restrict_self, restriction.ruleset, 0) != 0)
    return {.name = "landlock_restrict_self", .error = errno};
  return {};
}

OtherThreads restrict_other_threads(const ThreadRestriction& restriction) {
  OtherThreads result;
  KernelAction ours{};
  KernelAction theirs{};
  {
    // The C library's way back from a handler, which the kernel wants to be told on some machines.
    struct sigaction any{};
    struct sigaction before{};
    any.sa_handler = SIG_IGN;
    ::sigaction(SIGURG, &any, &before);
    (void)kernel_action(SIGURG, nullptr, &ours);
    ::sigaction(SIGURG, &before, nullptr);
  }
  ours.handler = on_signal;
  ours.flags |= SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ours.mask = ~std::uint64_t{0};
  restriction_of_threads.store(&restriction, std::memory_order_release);
  if (kernel_action(signal_of_threads, &ours, &theirs) != 0) {
    result.failed = {.name = "rt_sigaction", .error = errno};
    return result;
  }
  // A thread that begins meanwhile is in the sandbox only if its creator already is. So the threads are
  // listed again, until a list has no new one.
  std::set<pid_t> done{static_cast<pid_t>(::syscall(SYS_gettid))};
  const auto deadline = std::chrono::steady_clock::now() + answer_limit;
  for (bool found = true; found && result.unreachable == 0;) {
    found = false;
    for (const pid_t tid : threads_of_this_process()) {
      if (!done.insert(tid).second) continue;
      found = true;
      const unsigned before = answers.load(std::memory_order_acquire);
      if (::syscall(SYS_tgkill, ::getpid(), tid, signal_of_threads) != 0) continue;  // it has ended
      while (answers.load(std::memory_order_acquire) == before && thread_exists(tid)) {
        if (std::chrono::steady_clock::now() > deadline) {
          ++result.unreachable;
          break;
        }
        std::this_thread::yield();
      }
    }
  }
  (void)kernel_action(signal_of_threads, &theirs, nullptr);
  restriction_of_threads.store(nullptr, std::memory_order_release);
  result.failed = {.name = failed_name.load(std::memory_order_relaxed),
                   .error = failed_error.load(std::memory_order_relaxed)};
  return result;
}

unsigned count_threads() { return static_cast<unsigned>(threads_of_this_process().size()); }

}  // namespace kindred::internal
