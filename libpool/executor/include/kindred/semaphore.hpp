#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kindred/internal/shared_object.hpp"

namespace kindred {

/// A number of permits shared by the parent and the workers of one executor: `std::counting_semaphore` across
/// processes. Made by `executor.make_semaphore(n)`.
///
/// As with the standard's, a permit may be released by another thread or process than the one that acquired
/// it, and more may be released than were acquired. So that a dead worker's permits can be given back, each
/// process has an account:
///
/// * acquiring puts a permit on the account of the process that acquires;
/// * releasing takes it off the account of the process that releases; where that is empty, off the largest
/// account of
///   another; where all are empty, the permit is a new one;
/// * when a worker dies, what is on its account is given back, and `abandoned()` is true until
/// `make_consistent()`.
///
/// Where permits are *signals* that a consumer uses up and never releases, it says so with `consume()`: then
/// its death gives nothing back. (A `Channel` is often what you want there.)
///
/// Threads: any. Fork: crosses as an argument or a result; a copy that a fork of your own inherited is
/// refused.
class Semaphore : public internal::SharedHandle<Semaphore, internal::SharedKind::semaphore> {
 public:
  Semaphore() noexcept = default;  ///< an empty handle, to be assigned to

  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept { return 0x7fff'ffff; }

  /// Blocks: until there is a permit. Errors: `UsageError` where it is of another context, or where the pool
  /// has ended meanwhile.
  void acquire() const;
  /// Returns false where there is no permit now.
  [[nodiscard]] bool try_acquire() const;
  /// Returns false where the time was over first. Blocks: for at most that time.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& time) const {
    return acquire_before(internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(const std::chrono::time_point<Clock, Duration>& time) const {
    return acquire_before(internal::deadline_at(time));
  }
  /// Gives `permits` permits. Errors: `UsageError` where there would be more than `max()`, or `permits` is
  /// negative.
  void release(std::ptrdiff_t permits = 1) const;

  /// Takes up to `permits` permits off this process's account: they are used up, and not given back when it
  /// dies.
  void consume(std::ptrdiff_t permits = 1) const;
  /// Returns how many permits are free now. When you read it, the number may have changed already.
  [[nodiscard]] std::ptrdiff_t available() const;

  /// Has a worker died with permits on its account, and has no process called `make_consistent()` since?
  [[nodiscard]] bool abandoned() const;
  void make_consistent() const;

 private:
  friend class internal::SharedHandle<Semaphore, internal::SharedKind::semaphore>;
  friend class internal::SharedObjectRegistry;
  explicit Semaphore(std::shared_ptr<internal::SharedObject> object) noexcept
      : SharedHandle{std::move(object)} {}
  bool acquire_before(internal::Deadline deadline) const;
};

}  // namespace kindred
