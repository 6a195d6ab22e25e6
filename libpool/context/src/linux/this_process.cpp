#include "kindred/internal/this_process.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>

namespace kindred::internal {
namespace {

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

}  // namespace kindred::internal
