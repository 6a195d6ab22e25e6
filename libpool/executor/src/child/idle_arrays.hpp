#pragma once

#include <algorithm>
#include <chrono>

#include "kept_blocks.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/shared_array.hpp"

namespace kindred::internal {

/// The arrays that a worker keeps mapped while it sleeps, in case the next call brings them again: it wakes
/// once to let go of them. Where it keeps none, nothing is asked and nothing wakes it.
class IdleArrays {
 public:
  IdleArrays()
      : due_{keeps_idle_arrays() ? Deadline{std::chrono::steady_clock::now() + idle_memory_stays}
                                 : Deadline{}} {}

  /// When to wake, where there is another reason to at `other`.
  [[nodiscard]] Deadline or_earlier(Deadline other) const noexcept {
    return due_ && other ? std::min(*due_, *other) : due_ ? due_ : other;
  }
  void release_if_due() {
    if (!due_ || std::chrono::steady_clock::now() < *due_) return;
    due_.reset();
    release_idle_arrays();
  }

 private:
  Deadline due_;
};

}  // namespace kindred::internal
