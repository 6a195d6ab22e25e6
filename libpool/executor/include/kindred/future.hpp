#pragma once

#include <chrono>
#include <concepts>
#include <coroutine>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kindred/codec.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/log_scope.hpp"
#include "kindred/task_error.hpp"

namespace kindred {

template <class T>
class Future;
template <class T>
class SharedFuture;

namespace internal {

struct FutureAccess;

template <class T>
T take_value(FutureState& state) {
  state.require_value();
  if (state.local()) {
    if constexpr (std::is_void_v<T>) {
      return;
    } else {
      auto& value = static_cast<LocalValue<T>&>(state).value;
      if constexpr (std::is_copy_constructible_v<T>) {
        return *value;
      } else {
        if (!value)
          throw UsageError{
              "the value of this future was taken before, and its type cannot be copied. Call get() once."};
        T taken = std::move(*value);
        value.reset();
        return taken;
      }
    }
  } else if constexpr (!std::is_void_v<T>) {
    const ValueBytes value = value_bytes(state);
    Decoder decoder{value.context, value.bytes, value.attachments};
    if constexpr (std::is_trivially_copyable_v<T> && std::is_arithmetic_v<T>) {
      return decode<T>(decoder);
    } else {
      try {
        return decode<T>(decoder);
      } catch (...) {
        throw_unreadable_result(state);
      }
    }
  }
}

}  // namespace internal

/// What futures of every type can do.
///
/// Threads: any, and at once; a future that several threads wait on is shared by `share()`. Fork: the
/// executor's process only; in another one every call that needs the pool throws `UsageError`.
class FutureBase {
 public:
  [[nodiscard]] bool valid() const noexcept { return static_cast<bool>(state_); }
  /// Finished: with a value, an error, or cancelled. Does not wait, but takes in results that have arrived.
  [[nodiscard]] bool done() const { return state().wait(std::chrono::steady_clock::time_point{}); }
  /// Has a worker begun it, and not finished? A task that was only handed to a worker is not running.
  [[nodiscard]] bool running() const { return state().running(); }
  [[nodiscard]] bool cancelled() const { return state().outcome() == internal::Outcome::cancelled; }
  /// Cancels the task. Pending, or handed to a worker and not begun: certain, it never runs, and the answer
  /// is true. Running: `Running::leave` answers false; `ask` sets the task's stop token and answers false
  /// (its result still counts); `kill` kills its worker and answers true: only this task is lost. Finished:
  /// false.
  bool cancel(Running how = Running::leave) { return state().cancel(how); }

  void wait() const { (void)state().wait(std::nullopt); }
  /// True: finished. False: the time passed.
  template <class Rep, class Period>
  bool wait_for(std::chrono::duration<Rep, Period> time) const {
    return state().wait(internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  bool wait_until(std::chrono::time_point<Clock, Duration> time) const {
    return state().wait(internal::deadline_at(time));
  }

  /// Waits, and returns the error as an exception object of the caller's own; null where there is a value.
  /// Cancelled counts as an error.
  [[nodiscard]] std::exception_ptr exception() const {
    wait();
    return state().exception();
  }
  /// Names the task in messages and log records; 0 for the future of a continuation.
  [[nodiscard]] std::uint64_t task_id() const { return state().task_id(); }
  /// The records that the task logged, as far as the log still keeps them (`LogOptions::keep_bytes`), in
  /// order.
  [[nodiscard]] std::vector<LogRecord> log() const;

 protected:
  FutureBase() = default;
  explicit FutureBase(internal::StateHandle state) noexcept : state_{std::move(state)} {}
  [[nodiscard]] internal::FutureState& state() const {
    if (!state_)
      throw UsageError{"this future is empty: it was moved from, shared, or never came from submit."};
    return *state_.get();
  }
  internal::StateHandle state_;
  friend struct internal::FutureAccess;
};

namespace internal {

struct FutureAccess {
  static StateHandle& handle(FutureBase& future) { return future.state_; }
  static FutureState& state(const FutureBase& future) { return future.state(); }
  template <class F>
  static F make(StateHandle state) {
    return F{std::move(state)};
  }
};

/// A callable that `std::function` takes, also where it only moves.
template <class F>
class Copyable {
 public:
  explicit Copyable(F&& callable) : held_{make(std::move(callable))} {}
  [[nodiscard]] F& get() noexcept {
    if constexpr (copies)
      return held_;
    else
      return *held_;
  }

 private:
  static constexpr bool copies = std::is_copy_constructible_v<F>;
  static auto make(F&& callable) {
    if constexpr (copies)
      return std::move(callable);
    else
      return std::make_shared<F>(std::move(callable));
  }
  std::conditional_t<copies, F, std::shared_ptr<F>> held_;
};

/// Calls a continuation with the value, with the finished future (by reference, or by value), or, where there
/// is no value, with nothing.
template <class Self, class T, class F>
decltype(auto) call_continuation(F& function, FutureState& state, Self& future) {
  if constexpr (std::is_void_v<T> && std::is_invocable_v<F&>) {
    state.require_value();
    return function();
  } else if constexpr (!std::is_void_v<T> &&
                       std::is_invocable_v<F&, std::conditional_t<std::is_void_v<T>, int, T>>) {
    return function(take_value<T>(state));
  } else if constexpr (std::is_invocable_v<F&, Self&>) {
    return function(future);
  } else {
    static_assert(std::is_invocable_v<F&, Self>,
                  "kindred: what is given to then() takes the value, or the finished future");
    return function(std::move(future));
  }
}

/// `Future::on_done` and `SharedFuture::on_done`.
template <class Self, class F>
void call_when_done(FutureState& state, F callback) {
  state.retain();
  StateHandle held{&state};
  state.on_finished([callback = Copyable<F>{std::move(callback)}, keep = std::move(held)]() mutable {
    F& function = callback.get();
    if constexpr (std::is_invocable_v<F&, Self&>) {
      auto future = FutureAccess::make<Self>(keep);
      function(future);
    } else if constexpr (std::is_invocable_v<F&, Self>) {
      function(FutureAccess::make<Self>(keep));
    } else {
      static_assert(std::is_invocable_v<F&>,
                    "kindred: what is given to on_done() takes the finished future, or nothing");
      function();
    }
  });
}

/// Lets a coroutine wait: resumed on the pool's callback thread.
template <class T>
struct Awaiter {
  FutureState* state;
  CarriedScopes scopes{};  // a `LogScope` of the coroutine goes with it
  [[nodiscard]] bool await_ready() const { return state->wait(std::chrono::steady_clock::time_point{}); }
  void await_suspend(std::coroutine_handle<> coroutine) {
    scopes.take();  // before another thread can resume the coroutine
    state->on_finished([coroutine] {
      const void* const before = CarriedScopes::innermost();
      coroutine.resume();
      // Where it was suspended again by another awaitable, its scopes are no matter of this thread.
      CarriedScopes{}.take(before);
    });
  }
  T await_resume() {
    scopes.put();
    return take_value<T>(*state);
  }
};

[[nodiscard]] PoolCore* pool_of(const FutureState& state) noexcept;

template <class U>
struct UnwrappedFuture {
  using type = U;
  static constexpr bool wrapped = false;
};
template <class U>
struct UnwrappedFuture<Future<U>> {
  using type = U;
  static constexpr bool wrapped = true;
};
template <class U>
struct UnwrappedFuture<SharedFuture<U>> : UnwrappedFuture<Future<U>> {};

template <class U>
void finish_with(LocalValue<U>& target, FutureState& source) {
  try {
    if constexpr (std::is_void_v<U>)
      source.require_value();
    else
      target.value.emplace(take_value<U>(source));
    target.finish();
  } catch (...) {
    target.fail(std::current_exception());
  }
}

/// `Future::then` and `SharedFuture::then`.
template <class Self, class T, class F>
auto continue_with(FutureState& state, F function) {
  using Returned =
      std::decay_t<decltype(call_continuation<Self, T>(std::declval<F&>(), state, std::declval<Self&>()))>;
  using U = typename UnwrappedFuture<Returned>::type;
  auto* const next = new LocalValue<U>{pool_of(state)};
  StateHandle result{next};
  state.retain();
  StateHandle held{&state};
  state.on_finished(
      [function = Copyable<F>{std::move(function)}, keep = std::move(held), target = result, next]() mutable {
        try {
          auto future = FutureAccess::make<Self>(keep);
          if constexpr (UnwrappedFuture<Returned>::wrapped) {
            auto inner = call_continuation<Self, T>(function.get(), *keep.get(), future);
            auto& source = FutureAccess::state(inner);
            source.on_finished(
                [source = FutureAccess::handle(inner), target, next] { finish_with(*next, *source.get()); });
            return;
          } else if constexpr (std::is_void_v<U>) {
            call_continuation<Self, T>(function.get(), *keep.get(), future);
          } else {
            next->value.emplace(call_continuation<Self, T>(function.get(), *keep.get(), future));
          }
          next->finish();
        } catch (...) {
          next->fail(std::current_exception());
        }
      });
  return FutureAccess::make<Future<U>>(std::move(result));
}

}  // namespace internal

/// The result of a task to come. Made by `ProcessPoolExecutor::submit`; moves, does not copy.
///
/// Dropping a future neither waits nor cancels: the task runs. `get` may be called again; each call gives a
/// value of its own.
template <class T>
class Future : public FutureBase {
 public:
  Future() = default;
  Future(Future&&) noexcept = default;
  Future& operator=(Future&&) noexcept = default;
  Future(const Future&) = delete;
  Future& operator=(const Future&) = delete;
  ~Future() = default;

  /// Waits and returns the value. Blocks: until the task has ended; the waiting thread helps to move results
  /// and calls meanwhile. Errors: what the task threw (`TaskError`, also catchable as its own standard type),
  /// `WorkerLost`, `TaskTimeout`, `Cancelled`, `BrokenProcessPool`, `UsageError`.
  T get() const {
    auto& shared = state();
    if (!shared.finished()) shared.wait(std::nullopt);
    return internal::take_value<T>(shared);
  }

  /// Makes a future that copies and that any number of threads may wait on. This one is empty afterwards.
  [[nodiscard]] SharedFuture<T> share() {
    (void)state();
    return internal::FutureAccess::make<SharedFuture<T>>(std::move(state_));
  }

  /// Calls `callback(Future<T>&)` or `callback()` once when the task is finished, also by cancellation: on
  /// the pool's callback thread, in the order of registration; or now and here where it is finished already.
  /// What it throws is logged, and harms nothing else. A future that outlives its executor, as one of `then`
  /// may, calls it where it is finished. Errors: `SystemError` where no thread can be started for the
  /// first callback of a pool.
  template <class F>
  void on_done(F callback) {
    internal::call_when_done<Future<T>>(state(), std::move(callback));
  }

  /// Runs `function` in this process when the task is finished, and returns the future of what it returns. It
  /// is called with the value, or with the finished `Future<T>&` where it takes one. In the first form an
  /// error of the task passes by it to the returned future. Where it returns a future itself (of the next
  /// task, say), the returned future is that one's: its value, or its error. Errors: as `on_done`.
  template <class F>
  auto then(F function) {
    return internal::continue_with<Future<T>, T>(state(), std::move(function));
  }

  auto operator co_await() const { return internal::Awaiter<T>{&state()}; }

 private:
  explicit Future(internal::StateHandle state) noexcept : FutureBase{std::move(state)} {}
  friend struct internal::FutureAccess;
};

/// A future that copies: all copies are the same task.
template <class T>
class SharedFuture : public FutureBase {
 public:
  SharedFuture() = default;
  /// As `Future::share`.
  SharedFuture(Future<T>&& future) : SharedFuture{future.share()} {}  // NOLINT(google-explicit-constructor)
  /// As `Future::get`; each caller gets a value of its own.
  T get() const {
    wait();
    return internal::take_value<T>(state());
  }
  /// As `Future::on_done` and `Future::then`; what takes the future gets a `SharedFuture<T>`.
  template <class F>
  void on_done(F callback) const {
    internal::call_when_done<SharedFuture<T>>(state(), std::move(callback));
  }
  template <class F>
  auto then(F function) const {
    return internal::continue_with<SharedFuture<T>, T>(state(), std::move(function));
  }
  auto operator co_await() const { return internal::Awaiter<T>{&state()}; }

 private:
  explicit SharedFuture(internal::StateHandle state) noexcept : FutureBase{std::move(state)} {}
  friend struct internal::FutureAccess;
};

/// When `wait` returns.
enum class ReturnWhen : unsigned char {
  first_completed,  ///< one is finished or cancelled
  first_exception,  ///< one ended with an error (a cancellation does not count), or all are finished
  all_completed
};

/// Which of the futures given to `wait` are finished: pointers to the caller's futures, in their order.
template <class F>
struct WaitResult {
  std::vector<F*> done;
  std::vector<F*> not_done;
};

namespace internal {
/// Blocks until the condition holds for the states, or the deadline passes.
void wait_for_states(const std::vector<FutureState*>& states, ReturnWhen when, Deadline deadline);

/// Hands out positions in the order in which their states finish.
class CompletionQueue {
 public:
  explicit CompletionQueue(const std::vector<FutureState*>& states);
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;
  /// The next finished position; nothing when the deadline passed. Call at most as often as there are
  /// distinct states.
  [[nodiscard]] std::optional<std::size_t> next(Deadline deadline);
  [[nodiscard]] std::size_t left() const noexcept { return left_; }

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
  std::size_t left_ = 0;
};
inline Deadline to_deadline(std::optional<std::chrono::nanoseconds> timeout) {
  if (!timeout) return std::nullopt;
  return deadline_after(*timeout);
}

/// A range of futures. So that `wait(&status)` stays the system's where all names of kindred are used.
template <class Range>
concept FutureRange = requires(Range& range) {
  requires std::derived_from<std::remove_cvref_t<decltype(*std::begin(range))>, FutureBase>;
  std::end(range);
};

template <class Range>
auto wait_before(Range& futures, ReturnWhen when, Deadline deadline) {
  using F = std::remove_reference_t<decltype(*std::begin(futures))>;
  std::vector<internal::FutureState*> states;
  std::vector<F*> distinct;
  std::unordered_set<const internal::FutureState*> seen;
  for (auto& future : futures) {
    auto& state = internal::FutureAccess::state(future);
    if (!seen.insert(&state).second) continue;
    states.push_back(&state);
    distinct.push_back(&future);
  }
  wait_for_states(states, when, deadline);
  WaitResult<F> result;
  for (std::size_t i = 0; i < states.size(); ++i)
    (states[i]->finished() ? result.done : result.not_done).push_back(distinct[i]);
  return result;
}
}  // namespace internal

/// Waits for several futures: a range of futures of one type. A future given twice counts once.
/// Blocks: until the condition holds or the timeout passes; it does not throw then, the rest is in
/// `not_done`.
template <internal::FutureRange Range>
auto wait(Range&& futures, ReturnWhen when = ReturnWhen::all_completed,
          std::optional<std::chrono::nanoseconds> timeout = {}) {
  return internal::wait_before(futures, when, internal::to_deadline(timeout));
}
/// The same with a time of any unit, also a fraction or the longest there is.
template <internal::FutureRange Range, class Rep, class Period>
auto wait(Range&& futures, ReturnWhen when, std::chrono::duration<Rep, Period> timeout) {
  return internal::wait_before(futures, when, internal::deadline_after(timeout));
}

/// The futures of a range, in the order in which they finish. An input range: made by `as_completed`, read
/// once.
template <class F>
class CompletionRange {
 public:
  CompletionRange(std::vector<F*> futures, const std::vector<internal::FutureState*>& states,
                  internal::Deadline deadline)
      : futures_{std::move(futures)},
        queue_{std::make_unique<internal::CompletionQueue>(states)},
        deadline_{deadline} {}

  class Iterator {
   public:
    using value_type = F;
    using difference_type = std::ptrdiff_t;
    F& operator*() const { return *range_->current_; }
    F* operator->() const { return range_->current_; }
    Iterator& operator++() {
      range_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const noexcept { return range_->current_ == nullptr; }

   private:
    explicit Iterator(CompletionRange* range) noexcept : range_{range} {}
    CompletionRange* range_;
    friend class CompletionRange;
  };

  Iterator begin() {
    if (!begun_) advance();
    begun_ = true;
    return Iterator{this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  void advance() {
    current_ = nullptr;
    if (queue_->left() == 0) return;
    const auto next = queue_->next(deadline_);
    if (!next) {
      throw TimeoutError{
          std::to_string(queue_->left()) + " of " + std::to_string(futures_.size()) +
          " futures were not finished when the timeout of as_completed passed. They go on: wait again, or cancel them."};
    }
    current_ = futures_[*next];
  }

  std::vector<F*> futures_;
  std::unique_ptr<internal::CompletionQueue> queue_;
  internal::Deadline deadline_;
  F* current_ = nullptr;
  bool begun_ = false;
};

namespace internal {
template <class Range>
auto completions(Range& futures, Deadline deadline) {
  using F = std::remove_reference_t<decltype(*std::begin(futures))>;
  std::vector<F*> distinct;
  std::vector<internal::FutureState*> states;
  std::unordered_set<const internal::FutureState*> seen;
  for (auto& future : futures) {
    auto& state = internal::FutureAccess::state(future);
    if (!seen.insert(&state).second) continue;
    states.push_back(&state);
    distinct.push_back(&future);
  }
  return CompletionRange<F>{std::move(distinct), states, deadline};
}
}  // namespace internal

/// Gives the futures of a range in the order in which they finish, each once, those that are finished already
/// first.
///
///     for (auto& future : kindred::as_completed(futures, 10s)) use(future.get());
///
/// Errors: `TimeoutError` from the loop when `timeout`, counted from this call, passes. A value belongs to
/// its future: the thread that drops the future frees it.
template <internal::FutureRange Range>
auto as_completed(Range&& futures, std::optional<std::chrono::nanoseconds> timeout = {}) {
  return internal::completions(futures, internal::to_deadline(timeout));
}
template <internal::FutureRange Range, class Rep, class Period>
auto as_completed(Range&& futures, std::chrono::duration<Rep, Period> timeout) {
  return internal::completions(futures, internal::deadline_after(timeout));
}

}  // namespace kindred
