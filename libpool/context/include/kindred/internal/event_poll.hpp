#pragma once

#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/doorbell.hpp"
#include "kindred/internal/shared_bell.hpp"

namespace kindred::internal {

/// Waits for a bell and for many descriptors at once. The bell is a word that only a futex can wait for, and
/// the descriptors are what only epoll can wait for: so a thread of its own, the ear, sleeps in epoll, and
/// rings the bell for what it hears. The waiting thread sleeps on the bell alone, so that a worker's ring,
/// which is frequent, takes no detour; a death or a message, which is rare, comes by way of the ear.
///
/// Threads: one waits; any adds and removes. Fork: in the child of a fork it must be leaked, never destroyed.
class EventPoll {
 public:
  /// Starts the ear. `bell` must outlive it. Errors: `SystemError`.
  explicit EventPoll(const SharedBell& bell);
  EventPoll(const EventPoll&) = delete;
  EventPoll& operator=(const EventPoll&) = delete;
  ~EventPoll();
  /// `token` is what `wait` returns when the descriptor is readable or closed: once, until `again` is called
  /// for it. Errors: `SystemError`.
  void add(int fd, std::uint64_t token);
  void again(int fd, std::uint64_t token) noexcept;
  void remove(int fd) noexcept;
  /// Returns when the bell rang or the deadline passed. Fills `tokens` with the descriptors that are ready.
  void wait(std::vector<std::uint64_t>& tokens, Deadline deadline);

 private:
  void listen() noexcept;

  const SharedBell& bell_;
  Descriptor fd_;
  Doorbell end_;  ///< rung to end the ear; no other process has it
  std::mutex mutex_;
  std::vector<std::uint64_t> heard_;  ///< its memory is taken by `add`: the ear needs none
  std::size_t added_ = 1;
  std::thread ear_;
};

}  // namespace kindred::internal
