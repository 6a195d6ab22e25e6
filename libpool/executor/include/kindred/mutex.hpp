#pragma once

#include <chrono>
#include <memory>

#include "kindred/internal/shared_object.hpp"

namespace kindred {

/// A mutual exclusion between the parent and the workers of one executor, and between their threads. Made by
/// `executor.make_mutex()`, passed to tasks and to the initializer by value.
///
/// It has the members of `std::timed_mutex`, so that `std::scoped_lock`, `std::unique_lock` and
/// `std::lock_guard` work on it. A thread holds it, not a process; it is not recursive.
///
/// If a worker dies while it holds the mutex, the parent releases it, and the next owner finds
/// `abandoned()` true: what the mutex protects may be half changed. Repair that, then call
/// `make_consistent()`. This is the robust mutex of POSIX
/// (`pthread_mutex_consistent`), but one that is never unusable: until a process calls `make_consistent()`,
/// every owner is told.
///
/// Threads: any. Fork: crosses as an argument or a result; a copy that a fork of your own inherited is
/// refused.
class Mutex : public internal::SharedHandle<Mutex, internal::SharedKind::mutex> {
 public:
  Mutex() noexcept = default;  ///< an empty handle, to be assigned to

  /// Errors: `UsageError` where this thread holds it already, where it is of another context, or where the
  /// pool has ended meanwhile. Blocks: until no other thread holds it.
  void lock() const;
  /// Returns false where another thread holds it.
  [[nodiscard]] bool try_lock() const;
  /// Returns false where the time was over first. Blocks: for at most that time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& time) const {
    return lock_before(internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& time) const {
    return lock_before(internal::deadline_at(time));
  }
  /// Errors: `UsageError` where this thread does not hold it. In a child of a fork of your own it does
  /// nothing: the parent still holds it.
  void unlock() const;

  /// Did an owner die while it held the mutex, and has no process called `make_consistent()` since? Ask it
  /// while you hold the mutex.
  [[nodiscard]] bool abandoned() const;
  /// Says that what the mutex protects is whole again. Errors: `UsageError` where this thread does not hold
  /// it.
  void make_consistent() const;

 private:
  friend class internal::SharedHandle<Mutex, internal::SharedKind::mutex>;
  friend class internal::SharedObjectRegistry;
  explicit Mutex(std::shared_ptr<internal::SharedObject> object) noexcept : SharedHandle{std::move(object)} {}
  bool lock_before(internal::Deadline deadline) const;
};

}  // namespace kindred
