#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/shared_bell.hpp"
#include "link/worker_slot.hpp"

namespace kindred::internal {

/// What the supervisor sleeps on: its bell, and the descriptors that tell of deaths, messages and news.
///
/// Threads: the supervisor's; `begin` before it runs, `end` and `abandon_after_fork` after it.
class SupervisorPoll {
 public:
  /// What a readable descriptor belongs to.
  struct Event {
    enum class Kind : std::uint8_t { interrupt, tail, launcher, death, message };
    Kind kind;
    std::size_t slot = 0;           ///< of a death or message
    std::uint32_t incarnation = 0;  ///< likewise: one that is over may still be told of
  };

  /// `interrupt`, `tail`: descriptors, or -1. Errors: `SystemError`; it is not begun then.
  void begin(const SharedBell& bell, int interrupt, int tail);
  void end() noexcept { poll_.reset(); }
  /// In the child of a fork: its thread is the parent's.
  void abandon_after_fork() noexcept { (void)poll_.release(); }

  /// Returns when the bell rang, the deadline passed, or descriptors are readable. Where events of the last
  /// wait are left, it returns at once: the poll does not tell them again.
  void wait(Deadline deadline);
  [[nodiscard]] bool has_event() const noexcept { return !tokens_.empty(); }
  [[nodiscard]] Event event() const noexcept;  ///< the next one
  void event_is_done() noexcept { tokens_.pop_back(); }

  // Each descriptor is told of once, until it is asked for again.
  void hear_interrupt_again(int fd) noexcept;
  void hear_tail_again() noexcept;
  void stop_hearing_tail() noexcept;
  /// `fd`: readable when there is news of the fork server; -1: it is not to be heard. Stop hearing before
  /// anything that may close the descriptor: another one may get its number. Errors: `SystemError`.
  void hear_launcher(int fd);
  /// Errors: `SystemError`.
  void hear_worker(const WorkerSlot& slot);
  void hear_messages_again(const WorkerSlot& slot) noexcept;
  void stop_hearing_worker(const WorkerSlot& slot) noexcept;

 private:
  std::unique_ptr<EventPoll> poll_;
  std::vector<std::uint64_t> tokens_;
  int tail_ = -1;
  int launcher_ = -1;
};

}  // namespace kindred::internal
