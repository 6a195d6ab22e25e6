#include "kindred/internal/wakeup.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"

namespace kindred::internal {
namespace {

timespec to_timespec(std::chrono::nanoseconds time) noexcept {
  return {.tv_sec = static_cast<time_t>(time.count() / 1'000'000'000),
          .tv_nsec = static_cast<long>(time.count() % 1'000'000'000)};
}

// steady_clock is CLOCK_MONOTONIC in libstdc++, which is also what FUTEX_WAIT_BITSET takes absolute times of.
timespec to_timespec(std::chrono::steady_clock::time_point time) noexcept {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
  return to_timespec(since.count() < 0 ? std::chrono::nanoseconds{0} : since);
}

long futex(const std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
           const timespec* timeout) noexcept {
  // The kernel only reads the word, whatever the signature of the call says.
  return ::syscall(SYS_futex, const_cast<std::atomic<std::uint32_t>*>(&word), operation, value, timeout,
                   nullptr, FUTEX_BITSET_MATCH_ANY);
}

// A page of its own, which the kernel clears in the child of every fork (MADV_WIPEONFORK, Linux 4.14), also
// of one that runs no atfork handlers (_Fork, a raw clone): a zero says that this process does not know
// itself yet.
#if defined(__aarch64__)
constexpr std::size_t largest_page = 64 * 1024;
#else
constexpr std::size_t largest_page = 4096;
#endif
struct alignas(largest_page) Self {
  std::atomic<std::uint32_t> pid;
  std::atomic<std::uint32_t> generation;
};
constinit Self self{};  // all zero, so that it lies in memory that is no file's: only that can be cleared
constinit std::atomic<bool> watching{false};
constinit std::atomic<std::uint32_t> generations{1};
thread_local std::uint32_t cached_tid = 0;
thread_local std::uint32_t cached_tid_generation = 0;

constinit std::array<void (*)() noexcept, 8> callbacks_in_child{};

void after_fork_in_child() noexcept {
  self.generation.store(generations.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  self.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
  for (auto* const callback : callbacks_in_child) {
    if (callback != nullptr) callback();
  }
}

struct ForkWatch {
  ForkWatch() noexcept {
    ::madvise(&self, sizeof self, MADV_WIPEONFORK);
    self.generation.store(generations.load(std::memory_order_relaxed), std::memory_order_relaxed);
    self.pid.store(static_cast<std::uint32_t>(::getpid()), std::memory_order_relaxed);
    watching.store(true, std::memory_order_relaxed);
    ::pthread_atfork(nullptr, nullptr, after_fork_in_child);
  }
};
void watch_forks() noexcept { static const ForkWatch watch; }
// Before all static initialisers of this module: what they note of the generation has to stay true.
[[gnu::constructor(101)]] void watch_forks_from_the_start() noexcept { watch_forks(); }

}  // namespace

bool futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected, Deadline deadline) noexcept {
  timespec until{};
  if (deadline) until = to_timespec(*deadline);
  const long result = futex(word, FUTEX_WAIT_BITSET, expected, deadline ? &until : nullptr);
  return !(result != 0 && errno == ETIMEDOUT);
}

void futex_wake(const std::atomic<std::uint32_t>& word, int count) noexcept {
  futex(word, FUTEX_WAKE, static_cast<std::uint32_t>(count), nullptr);
}

void Descriptor::reset() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Descriptor duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw SystemError{"fcntl(F_DUPFD_CLOEXEC)", errno, "copying a descriptor"};
  return Descriptor{copy};
}

Doorbell::Doorbell()
    : fd_{KINDRED_INJECTION_FAILS("fail.eventfd") ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
  if (!fd_) throw SystemError{"eventfd", errno, "making a bell for sleeping threads"};
}

void Doorbell::ring() const noexcept {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full after 2^64 rings: the sleeper is awake in any case.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

bool Doorbell::clear() const noexcept {
  std::uint64_t count = 0;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count;
}

bool Doorbell::wait(Deadline deadline) const noexcept {
  for (;;) {
    if (clear()) return true;
    pollfd event{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    timespec left{};
    if (deadline) {
      const auto now = std::chrono::steady_clock::now();
      if (now >= *deadline) return false;
      left = to_timespec(std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - now));
    }
    if (::ppoll(&event, 1, deadline ? &left : nullptr, nullptr) < 0 && errno != EINTR) return false;
  }
}

bool register_light_side() noexcept {
  return ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool heavy_barrier() noexcept {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0) return true;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return false;
}

std::uint32_t fork_generation() noexcept { return self.generation.load(std::memory_order_relaxed); }

void call_in_forked_child(void (*callback)() noexcept) noexcept {
  watch_forks();
  for (auto*& slot : callbacks_in_child) {
    if (slot == nullptr) {
      slot = callback;
      return;
    }
  }
}

std::uint32_t process_id() noexcept {
  const auto pid = self.pid.load(std::memory_order_relaxed);
  if (pid != 0) [[likely]]
    return pid;
  if (!watching.load(std::memory_order_relaxed))
    watch_forks();  // called from a static initialiser that runs before ours
  else
    after_fork_in_child();  // forked past the handlers
  return self.pid.load(std::memory_order_relaxed);
}

std::uint32_t thread_id() noexcept {
  const auto now = fork_generation();
  if (cached_tid_generation != now) [[unlikely]] {
    cached_tid = static_cast<std::uint32_t>(::gettid());
    cached_tid_generation = now;
  }
  return cached_tid;
}

int current_cpu() noexcept { return ::sched_getcpu(); }
void yield_cpu() noexcept { ::sched_yield(); }

bool leave_cpu(int cpu, std::uint32_t process) noexcept {
  const auto pid = static_cast<pid_t>(process);
  cpu_set_t usable;
  if (cpu < 0 || cpu >= CPU_SETSIZE || ::sched_getaffinity(pid, sizeof usable, &usable) != 0) return false;
  cpu_set_t others = usable;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || ::sched_setaffinity(pid, sizeof others, &others) != 0) return false;
  return ::sched_setaffinity(pid, sizeof usable, &usable) == 0;
}

void begin_service_thread(const char* name) noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), name);
}

}  // namespace kindred::internal
