#pragma once

#include "kindred/internal/doorbell.hpp"

namespace kindred::internal {

/// Takes over SIGINT of this process while it lives: each one rings the bell and is counted. One at a time: a
/// second one in the same process throws `UsageError`. The program's own handling comes back with the
/// destructor.
class InterruptWatch {
 public:
  InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;
  ~InterruptWatch();
  [[nodiscard]] int count() const noexcept;
  [[nodiscard]] const Doorbell& bell() const noexcept { return bell_; }

 private:
  Doorbell bell_;
  alignas(16) unsigned char saved_[256];  // the program's struct sigaction
};

}  // namespace kindred::internal
