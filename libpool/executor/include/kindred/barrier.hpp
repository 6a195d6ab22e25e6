#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/shared_object.hpp"

namespace kindred {

/// The barrier will not open: a worker that took part died, or a process called `abort()`. The message says
/// which. (Python's `threading.BrokenBarrierError`.)
class BrokenBarrier : public Error, public std::exception {
 public:
  explicit BrokenBarrier(std::string message) : Error{ErrorKind::worker_lost}, message_{std::move(message)} {}
  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

/// A place where `count` participants, in any process of the executor, wait for each other: `std::barrier`
/// across processes, without a completion function (a function has no address that other processes share).
/// Made by `executor.make_barrier(count)`.
///
/// A worker that dies while it has a handle of the barrier, having arrived or not, breaks it: those who wait,
/// and those who arrive later, get `BrokenBarrier` that names the dead worker, and none waits for one that
/// will not come. `reset()` makes it whole. A worker has a handle as long as a task that got it runs, or
/// something it has stored keeps it.
///
/// Threads: any. Fork: crosses as an argument or a result; a copy that a fork of your own inherited is
/// refused.
class Barrier : public internal::SharedHandle<Barrier, internal::SharedKind::barrier> {
 public:
  /// Which phase an arrival was for. A value; it may be waited for by any thread of the process that arrived.
  class ArrivalToken {
    friend class Barrier;
    explicit ArrivalToken(std::uint32_t phase) noexcept : phase_{phase} {}
    std::uint32_t phase_;
  };

  Barrier() noexcept = default;  ///< an empty handle, to be assigned to

  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept { return 0x7fff'ffff; }

  /// Counts `arrivals` arrivals and does not wait. Errors: `BrokenBarrier`; `UsageError` where that is more
  /// than are expected.
  [[nodiscard]] ArrivalToken arrive(std::ptrdiff_t arrivals = 1) const;
  /// Blocks: until the phase of the token is complete. Errors: `BrokenBarrier`.
  void wait(ArrivalToken token) const;
  /// Returns false where the time was over first; the arrival counts all the same. Blocks: for at most that
  /// time.
  template <class Rep, class Period>
  bool wait_for(ArrivalToken token, const std::chrono::duration<Rep, Period>& time) const {
    return wait_before(token, internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  bool wait_until(ArrivalToken token, const std::chrono::time_point<Clock, Duration>& time) const {
    return wait_before(token, internal::deadline_at(time));
  }

  /// Arrives and waits. Errors: `BrokenBarrier`. Blocks: until all have arrived.
  void arrive_and_wait() const;
  /// Returns false where the time was over first: then it is as if this one had never arrived. Blocks: for
  /// at most that time.
  template <class Rep, class Period>
  bool arrive_and_wait_for(const std::chrono::duration<Rep, Period>& time) const {
    return arrive_and_wait_before(internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  bool arrive_and_wait_until(const std::chrono::time_point<Clock, Duration>& time) const {
    return arrive_and_wait_before(internal::deadline_at(time));
  }
  /// Arrives for this phase and takes part in none after it.
  void arrive_and_drop() const;

  /// Breaks it for all: every thread that waits gets `BrokenBarrier`.
  void abort() const;
  /// Makes it whole and empty: every thread that waits now gets `BrokenBarrier`, the next to arrive is the
  /// first of a new phase.
  void reset() const;
  [[nodiscard]] bool broken() const;

 private:
  friend class internal::SharedHandle<Barrier, internal::SharedKind::barrier>;
  friend class internal::SharedObjectRegistry;
  explicit Barrier(std::shared_ptr<internal::SharedObject> object) noexcept
      : SharedHandle{std::move(object)} {}
  bool wait_before(ArrivalToken token, internal::Deadline deadline) const;
  bool arrive_and_wait_before(internal::Deadline deadline) const;
};

}  // namespace kindred
