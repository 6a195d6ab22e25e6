#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/locked.hpp"
#include "kindred/task_options.hpp"

namespace kindred::internal {

/// The options of one task, or of many that were submitted with equal ones. They never change. Any thread may
/// drop a reference: a task is destroyed without the pool's lock.
struct SharedOptions final : TaskOptions,
                             boost::intrusive_ref_counter<SharedOptions, boost::thread_safe_counter> {
  explicit SharedOptions(const TaskOptions& options) : TaskOptions{options} {
    for (auto* const limit : {&timeout, &soft_timeout, &queue_timeout}) {
      if (*limit) *limit = within_longest_wait(**limit);
    }
  }
  [[nodiscard]] bool has_run_limit() const noexcept { return timeout || soft_timeout; }
};
using OptionsOfTask = boost::intrusive_ptr<const SharedOptions>;

/// Finds the options that a task shares with tasks before it, so that a million tasks with the same limits
/// take no memory for them. Keeps the few latest. Guarded by the pool's lock.
class LatestOptions {
 public:
  /// Errors: `std::bad_alloc`.
  [[nodiscard]] OptionsOfTask share(Locked, const TaskOptions& options) {
    const auto same = [&](const OptionsOfTask& known) {
      return known && static_cast<const TaskOptions&>(*known) == options;
    };
    const auto* const found = std::ranges::find_if(latest_, same);
    if (found != latest_.end()) return *found;
    OptionsOfTask& oldest = latest_[next_];
    oldest = new SharedOptions{options};
    next_ = (next_ + 1) % latest_.size();
    return oldest;
  }

 private:
  std::array<OptionsOfTask, 4> latest_;  // a map has two kinds: of its chunks and of its items
  std::size_t next_ = 0;
};

}  // namespace kindred::internal
