#pragma once

#include <algorithm>

namespace kindred::internal {

/// Whether to do what is of use at some times only, and shows afterwards whether it was. Where it was of no
/// use, the next chance is passed by; where it was of no use again, the next two, then four, up to 64. Where
/// it was of use, this begins anew. One thread at a time.
class Trial {
 public:
  static constexpr unsigned most_passed = 64;

  /// A chance. Returns whether to take it.
  [[nodiscard]] bool take() noexcept {
    if (to_pass_ == 0) return true;
    --to_pass_;
    return false;
  }
  void was_of_use() noexcept { next_pass_ = 1; }
  void was_of_no_use() noexcept {
    to_pass_ = next_pass_;
    next_pass_ = std::min(2 * next_pass_, most_passed);
  }

 private:
  unsigned to_pass_ = 0;
  unsigned next_pass_ = 1;
};

}  // namespace kindred::internal
