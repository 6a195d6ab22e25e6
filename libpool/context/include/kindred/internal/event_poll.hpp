#pragma once

#include <cstdint>
#include <vector>

#include "kindred/internal/wakeup.hpp"

namespace kindred::internal {

/// Waits for many descriptors at once (epoll). One thread waits; any thread adds and removes.
class EventPoll {
 public:
  EventPoll();  ///< Errors: `SystemError`
  /// `token` is what `wait` returns when the descriptor is readable or closed. Errors: `SystemError`.
  void add(int fd, std::uint64_t token);
  void remove(int fd) noexcept;
  /// Fills `tokens` with those that are ready; none: the deadline passed.
  void wait(std::vector<std::uint64_t>& tokens, Deadline deadline);

 private:
  Descriptor fd_;
};

/// Makes the whole-process set-up that a long-lived thread of ours wants: all signals blocked, a name for
/// debuggers.
void settle_thread(const char* name) noexcept;

}  // namespace kindred::internal
