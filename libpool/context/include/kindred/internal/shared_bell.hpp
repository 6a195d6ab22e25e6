#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/shared_memory.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {

/// A bell that workers ring and one thread of the parent hears. It is a word in shared memory, not a
/// descriptor: a task may close, drain, fill or reuse any descriptor of its process, and changes no bell by
/// it.
///
///     word (shared page):  raised by each ring of a worker; the listener sleeps on it (futex)
///     rung, sleeps (the parent's own memory): rings of the parent's threads, and whether the listener sleeps
///
/// Nothing rests on what the word holds. A task that writes over it costs a wake-up for nothing, or one ring
/// of a worker; whoever waits for workers therefore looks again after a while (`LookAgain`). A ring of the
/// parent's own threads is never lost.
///
/// Threads: any rings; one at a time listens (`wait`, `clear`). Fork: a plain fork of either process has no
/// copy of the page; there, all calls do nothing.
class SharedBell {
 public:
  SharedBell();                            ///< the parent's, a new one. Errors: `SystemError`
  explicit SharedBell(Descriptor memory);  ///< a worker's: maps it, and closes the descriptor; none: mute
  void ring() const noexcept;              ///< never blocks
  bool wait(Deadline deadline = {}) const noexcept;  ///< parent. True: it rang (and is silent again)
  bool clear() const noexcept;                       ///< parent. Silences it; true: it had rung
  [[nodiscard]] int fd() const noexcept { return memory_.fd(); }  ///< to be sent to workers

 private:
  struct Listener {
    std::atomic<std::uint32_t> rung{0};
    std::atomic<std::uint32_t> sleeps{0};
    std::atomic<std::uint32_t> heard{0};  ///< what the word held when it was looked at last
  };
  [[nodiscard]] std::atomic<std::uint32_t>& word() const noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(memory_.bytes().data());
  }
  [[nodiscard]] bool usable() const noexcept {
    return static_cast<bool>(memory_) && generation_ == fork_generation();
  }

  SharedMemory memory_;
  std::unique_ptr<Listener> listener_;  ///< null: of a worker
  std::uint32_t generation_ = fork_generation();
};

/// When a thread that waits for workers looks at their rings although no bell rang: after 4 ms, then after
/// twice as long each time, up to a second. So a ring that a task destroyed costs at most as much again as
/// the wait so far, and never more than a second; a thread that has nothing to wait for never looks.
class LookAgain {
 public:
  [[nodiscard]] std::chrono::steady_clock::time_point next() const noexcept {
    return std::chrono::steady_clock::now() + interval_;
  }
  void found_nothing() noexcept { interval_ = interval_ < longest ? 2 * interval_ : longest; }
  void found_something() noexcept { interval_ = shortest; }

 private:
  static constexpr std::chrono::milliseconds shortest{4};
  static constexpr std::chrono::milliseconds longest{1024};
  std::chrono::milliseconds interval_ = shortest;
};

}  // namespace kindred::internal
