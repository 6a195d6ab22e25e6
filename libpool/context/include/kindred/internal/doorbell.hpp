#pragma once

#include <utility>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// A bell within this process (eventfd, non-blocking): rings are counted until a thread hears them. For
/// workers, see `SharedBell`.
class Doorbell {
 public:
  Doorbell();                                                        ///< a new one. Errors: `SystemError`
  explicit Doorbell(Descriptor fd) noexcept : fd_{std::move(fd)} {}  ///< the one behind a received descriptor
  void ring() const noexcept;                        ///< any thread, any process; never blocks
  bool wait(Deadline deadline = {}) const noexcept;  ///< true: it rang (and is silent again)
  bool clear() const noexcept;                       ///< silences it; true: it had rung
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

 private:
  Descriptor fd_;
};

}  // namespace kindred::internal
