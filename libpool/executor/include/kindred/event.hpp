#pragma once

#include <chrono>
#include <memory>

#include "kindred/internal/shared_object.hpp"

namespace kindred {

/// A flag that processes wait for: Python's `multiprocessing.Event`. Made by `executor.make_event()`, not
/// set.
///
/// Every thread waiting when it is set is released, even if it is cleared before they run. No process holds
/// an event, so a death takes nothing.
///
/// Threads: any. Fork: crosses as an argument or a result; a copy that a fork of your own inherited is
/// refused.
class Event : public internal::SharedHandle<Event, internal::SharedKind::event> {
 public:
  Event() noexcept = default;  ///< an empty handle, to be assigned to

  /// Releases all threads that wait, and those that come, until `clear()`. What was written before is seen by
  /// those released.
  void set() const;
  void clear() const;
  [[nodiscard]] bool is_set() const;

  /// Blocks: until it is set. Errors: `UsageError` where it is of another context, or where the pool has
  /// ended meanwhile.
  void wait() const;
  /// Returns false where the time was over first. Blocks: for at most that time.
  template <class Rep, class Period>
  bool wait_for(const std::chrono::duration<Rep, Period>& time) const {
    return wait_before(internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  bool wait_until(const std::chrono::time_point<Clock, Duration>& time) const {
    return wait_before(internal::deadline_at(time));
  }

 private:
  friend class internal::SharedHandle<Event, internal::SharedKind::event>;
  friend class internal::SharedObjectRegistry;
  explicit Event(std::shared_ptr<internal::SharedObject> object) noexcept : SharedHandle{std::move(object)} {}
  bool wait_before(internal::Deadline deadline) const;
};

}  // namespace kindred
