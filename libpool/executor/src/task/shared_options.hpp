#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <optional>

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
  explicit SharedOptions(const TaskOptions& options) : TaskOptions{options} {}
  [[nodiscard]] bool has_run_limit() const noexcept { return timeout || soft_timeout; }
};
using OptionsOfTask = boost::intrusive_ptr<const SharedOptions>;

/// Finds the options that a task shares with tasks before it, so that a million tasks with the same limits
/// take no memory for them. Keeps the few that were made last. Guarded by the pool's lock.
class LatestOptions {
 public:
  /// A limit that no clock can reach becomes the longest one. Errors: `std::bad_alloc`.
  [[nodiscard]] OptionsOfTask share(Locked locked, const TaskOptions& options) {
    const std::optional<std::chrono::nanoseconds> limits[] = {options.timeout, options.soft_timeout,
                                                              options.queue_timeout};
    if (std::ranges::any_of(limits, [](auto limit) { return limit > longest_wait; })) [[unlikely]] {
      TaskOptions reachable = options;
      for (auto* const limit : {&reachable.timeout, &reachable.soft_timeout, &reachable.queue_timeout}) {
        if (*limit) *limit = within_longest_wait(**limit);
      }
      return share(locked, reachable);
    }
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
  // A map has two kinds, of its chunks and of its items; each further one is compared for each task.
  std::array<OptionsOfTask, 4> latest_;
  std::size_t next_ = 0;
};

}  // namespace kindred::internal
