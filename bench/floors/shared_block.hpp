#pragma once

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <new>
#include <utility>

#include "support/bench.hpp"

namespace bench {

/// A `T` in memory that processes forked later share. Touched in full, so that no measured loop pays for page
/// faults.
template <class T>
class SharedBlock {
 public:
  SharedBlock() {
    void* memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) fail("mmap failed");
    block_ = new (memory) T;
  }
  SharedBlock(const SharedBlock&) = delete;
  SharedBlock& operator=(const SharedBlock&) = delete;
  ~SharedBlock() { munmap(block_, sizeof(T)); }
  T& operator*() const noexcept { return *block_; }
  T* operator->() const noexcept { return block_; }

 private:
  T* block_;
};

/// Keeps the calling process on the first or the last of the cores that it may use. The scheduler likes to
/// put both ends of a ring on one core; the limit is what the machine can do, so the ends are kept apart.
enum class Core { first, last };
inline void stay_on(Core which) {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) fail("sched_getaffinity failed");
  int chosen = -1;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &usable)) continue;
    chosen = core;
    if (which == Core::first) break;
  }
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(chosen, &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) fail("sched_setaffinity failed");
}

/// A forked process that runs `body` and leaves; it dies with its parent.
class Child {
 public:
  template <class Body>
  explicit Child(Body&& body) : pid_{fork()} {
    if (pid_ < 0) fail("fork failed");
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      std::forward<Body>(body)();
      _exit(0);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  Child(Child&& other) noexcept : pid_{std::exchange(other.pid_, -1)} {}
  ~Child() { wait(); }
  void wait() {
    if (pid_ > 0) waitpid(std::exchange(pid_, -1), nullptr, 0);
  }
  void kill() const { ::kill(pid_, SIGKILL); }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_;
};

}  // namespace bench
