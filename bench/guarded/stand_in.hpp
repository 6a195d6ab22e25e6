#pragma once

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <thread>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/start_method.hpp"
#include "kindred/task_options.hpp"
#include "support/bench.hpp"

namespace bench {

/// Ends the program without its destructors: they would wait for deaths that no stand-in tells of. The
/// workers die with their parent.
[[noreturn]] inline void leave() { std::_Exit(0); }

/// Under callgrind all code takes some 50 times longer. Durations that the pool decides by are stretched by
/// more than that, so that none of them ends within a burst: how often it would is a matter of the machine.
constexpr int slowdown = 1000;

/// Call before the pool is made.
inline void stretch_ticks() {
  namespace internal = kindred::internal;
  internal::tell_ticks_per_nanosecond(internal::ticks_per_nanosecond() * slowdown);
}

/// A supervisor that was woken while tasks come looks for results by itself from then on, each half a
/// millisecond, which is stretched to half a second. So nearly all results are left to the main thread, and
/// no task has the workers ring, in every run. A task with a time limit wakes it.
template <class Submit>
void begin(const Submit& submit) {
  std::this_thread::sleep_for(std::chrono::milliseconds{100});
  submit(kindred::TaskOptions{.queue_timeout = std::chrono::milliseconds{10}});
  std::this_thread::sleep_for(std::chrono::milliseconds{30});
}

/// Counts the bursts that the worker has run. In memory that it shares by fork.
class Bursts {
 public:
  void add_one() const noexcept {
    done_->fetch_add(1);
    kindred::internal::futex_wake(*done_, 1);
  }
  /// Until there are as many, and the last result is in the ring.
  void wait(std::uint32_t number) const {
    for (std::uint32_t now = 0; (now = done_->load()) < number;) kindred::internal::futex_wait(*done_, now);
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }

 private:
  std::atomic<std::uint32_t>* done_ = [] {
    void* const page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) fail("mmap");
    return new (page) std::atomic<std::uint32_t>{0};
  }();
};

/// A time that a futex is waited for until, as far away as it would seem to code that runs at full speed.
inline timespec stretch(timespec until) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const std::int64_t left = (until.tv_sec - now.tv_sec) * 1'000'000'000LL + (until.tv_nsec - now.tv_nsec);
  if (left <= 0) return until;
  const std::int64_t end = now.tv_nsec + left * slowdown;
  return {.tv_sec = now.tv_sec + end / 1'000'000'000, .tv_nsec = end % 1'000'000'000};
}

}  // namespace bench

// An executor looks at its construction whether the kernel has what it needs. valgrind 3.19 has not; this
// stands before the library's own.
namespace kindred::internal {
void require_kernel(StartMethod);
[[gnu::used]] inline void require_kernel(StartMethod) {}
}  // namespace kindred::internal

// valgrind 3.19 does not know pidfd_open. Nobody dies in these programs while instructions are counted, so a
// descriptor that never becomes readable stands in for a pidfd; every other call goes to the kernel as it is.
// Defined in the program, it takes precedence over libc's.
extern "C" inline __attribute__((used)) long syscall(long number, ...) noexcept {
  std::va_list arguments;
  va_start(arguments, number);
  long given[6];
  for (long& argument : given) argument = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_pidfd_open) return eventfd(0, EFD_CLOEXEC);
  timespec until{};
  if (number == SYS_futex && (given[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && given[3] != 0) {
    until = bench::stretch(*reinterpret_cast<const timespec*>(given[3]));
    given[3] = reinterpret_cast<long>(&until);
  }
  long result;
#if defined(__x86_64__)
  register long a4 asm("r10") = given[3];
  register long a5 asm("r8") = given[4];
  register long a6 asm("r9") = given[5];
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(given[0]), "S"(given[1]), "d"(given[2]), "r"(a4), "r"(a5), "r"(a6)
               : "rcx", "r11", "memory");
#else
#error "the guard counts on x86-64"
#endif
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}
