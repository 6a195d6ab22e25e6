#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/locked.hpp"

namespace kindred {

/// What `Future::cancel` may do to a task that has begun.
enum class Running : unsigned char {
  leave,  ///< nothing: only a task that has not begun is cancelled
  ask,    ///< its stop token is set; it ends when it likes, and its result counts
  kill    ///< its worker is killed; only this task is lost, and its future is cancelled
};

struct LogRecord;

}  // namespace kindred

namespace kindred::internal {

class PoolCore;

/// Why a task has no value. Makes a new exception object for each reader, so that no two threads share one.
class Failure {
 public:
  Failure() = default;
  Failure(const Failure&) = delete;
  Failure& operator=(const Failure&) = delete;
  virtual ~Failure() = default;
  [[nodiscard]] virtual std::exception_ptr make() const = 0;
  /// Must the failed task keep its call's arguments, because they are needed again?
  [[nodiscard]] virtual bool keeps_call() const noexcept { return false; }
};

template <class E>
class StoredFailure final : public Failure {
 public:
  explicit StoredFailure(E error) : error_{std::move(error)} {}
  [[nodiscard]] std::exception_ptr make() const override { return std::make_exception_ptr(error_); }

 private:
  E error_;
};

/// A failure that is one exception object, shared by its readers.
class SharedFailure final : public Failure {
 public:
  // It is kept, not thrown. NOLINTNEXTLINE(bugprone-throw-keyword-missing)
  explicit SharedFailure(std::exception_ptr error) : error_{std::move(error)} {}
  [[nodiscard]] std::exception_ptr make() const override { return error_; }

 private:
  std::exception_ptr error_;
};

enum class Outcome : std::uint8_t { open, value, failure, cancelled };

/// What shall be done when a state is finished. It moves on as a whole, so that finishing a state needs no
/// memory.
struct Continuations {
  template <class Action>
  struct Note {
    Action action;
    const void* owner;  ///< by which it can be withdrawn; null: it cannot
  };
  std::vector<Note<std::function<void(Locked)>>> in_line;  ///< on the thread that finishes it
  std::vector<Note<std::function<void()>>> callbacks;      ///< later, on the callback thread
  std::unique_ptr<Continuations> next;                     ///< in a queue of them
  std::uint64_t of_task = 0;                               ///< the task whose end they follow; 0: none
};

class FutureState;
class TaskState;
struct TaskFacts;

/// What futures and tasks ask of the pool that they belong to. The pool implements it; they know nothing else
/// of it. It lives as long as any of them: see `TaskStore` and `LocalState`.
class FutureHome {
 public:
  virtual bool wait(FutureState& state, Deadline deadline) = 0;
  /// Errors: `UsageError` in a process that is not the pool's, `SystemError` where no thread can be started.
  virtual void add_callback(FutureState& state, std::function<void()> action, const void* owner) = 0;
  virtual void add_continuation(FutureState& state, std::function<void(Locked)> action,
                                const void* owner) = 0;
  virtual void withdraw(FutureState& state, const void* owner) noexcept = 0;
  virtual bool cancel(TaskState& task, Running how) = 0;
  [[nodiscard]] virtual bool is_running(const TaskState& task) const = 0;
  /// What an error says of the task.
  [[nodiscard]] virtual TaskFacts facts_of(const TaskState& task) const = 0;
  [[nodiscard]] virtual std::vector<LogRecord> log_of(std::uint64_t task_id) = 0;
  /// Drops the last reference of a task that was open a moment ago, on any thread; true: the caller is to
  /// destroy it.
  [[nodiscard]] virtual bool drop_last_of_open(TaskState& task) noexcept = 0;
  /// Any thread; the pool may be gone after it.
  virtual void give_back_cell(void* of_a_task) noexcept = 0;

 protected:
  ~FutureHome() = default;
};

/// The state that the futures of one result share. Once finished it is never open again. Counts references.
class FutureState {
 public:
  explicit FutureState(bool local) noexcept : local_{local} {}
  FutureState(const FutureState&) = delete;
  FutureState& operator=(const FutureState&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (!finished()) [[unlikely]]
      return release_open();
    if (drop_reference()) let_go();
  }

  // Order: acquire, pairs with the release in `conclude`: value and failure are there.
  [[nodiscard]] bool finished() const noexcept { return finished_.load(std::memory_order_acquire); }
  [[nodiscard]] Outcome outcome() const noexcept { return finished() ? outcome_ : Outcome::open; }
  /// Blocks until it is finished or the deadline passes; true: finished. Errors: `UsageError` in a process
  /// that is not the pool's.
  bool wait(Deadline deadline);
  [[nodiscard]] virtual bool running() const { return false; }
  virtual bool cancel(Running how);
  [[nodiscard]] virtual std::uint64_t task_id() const noexcept { return 0; }
  [[nodiscard]] virtual std::vector<LogRecord> log() const;
  /// Throws what the outcome is, unless it is a value. Call when finished. Inline: a
  /// function of ours that the unwinder has to pass costs it some 7,000 instructions.
  void require_value() const {
    if (outcome_ != Outcome::value) [[unlikely]]
      std::rethrow_exception(exception());
  }
  [[nodiscard]] bool local() const noexcept { return local_; }  ///< a `LocalState`?
  [[nodiscard]] std::exception_ptr exception() const;           ///< when finished; null for a value
  /// Returns why there is no value; null: there is one, or no memory for the reason, or the task was
  /// cancelled. Call when finished.
  [[nodiscard]] const Failure* failure() const noexcept { return failure_; }

  /// Runs `action` once when finished: now and here if it is finished already, else on the pool's callback
  /// thread.
  void on_finished(std::function<void()> action, const void* owner = nullptr);
  /// The same, but on the very thread that finishes it, while the pool's lock is held: only for short work of
  /// ours that never throws.
  void on_finished_inline(std::function<void(Locked)> action, const void* owner = nullptr);
  /// Takes out what was noted for `owner`, where it is still open. What was to run on the callback thread may
  /// run all the same, where it has just finished.
  void withdraw(const void* owner) noexcept;

  /// A thread will sleep until it is finished, and must be woken.
  void note_sleeper(Locked) noexcept { has_sleepers_ = true; }
  [[nodiscard]] bool has_sleepers(Locked) const noexcept { return has_sleepers_; }
  /// For an open state: has it neither a continuation nor a thread that sleeps until it is finished?
  [[nodiscard]] bool ends_unnoticed(Locked) const noexcept {
    return continuations_ == nullptr && !has_sleepers_;
  }
  /// Returns the continuations of an open state, which owns them; null: it has none yet.
  [[nodiscard]] Continuations*& continuations(Locked) noexcept { return continuations_; }
  /// Finishes it, and takes the failure over. Its continuations were taken out before. From here on whoever
  /// holds it may be done with it, and it may be gone.
  void conclude(Locked, Outcome outcome, Failure* failure) noexcept {
    failure_ = failure;
    outcome_ = outcome;
    finished_.store(true, std::memory_order_release);
  }
  [[nodiscard]] FutureHome* home() const noexcept { return home_; }

 protected:
  virtual ~FutureState();
  /// Was this the last reference?
  [[nodiscard]] bool drop_reference() noexcept {
    // Order: acquire, pairs with the release of those that let go before: the thread that holds the last
    // reference is alone, and need not write that down.
    return references_.load(std::memory_order_acquire) == 1 ||
           references_.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  /// The last reference was dropped.
  virtual void let_go() noexcept { delete this; }
  /// What a finished state throws that has neither a value nor a failure.
  [[nodiscard]] virtual std::exception_ptr error_without_failure() const;
  /// Drops a reference, where the state was still open when `release` looked.
  virtual void release_open() noexcept {
    if (drop_reference()) let_go();
  }
  std::atomic<std::uint32_t> references_{1};
  std::atomic<bool> finished_{false};
  Outcome outcome_ = Outcome::open;
  const bool local_;
  bool has_sleepers_ = false;                 // guarded by the pool's lock
  FutureHome* home_ = nullptr;                // this state keeps it alive
  union {                                     // both owned
    Continuations* continuations_ = nullptr;  // while it is open; guarded by the pool's lock
    Failure* failure_;                        // once it is finished; null: see `failure`
  };
};

/// A state that a continuation in this process will finish.
class LocalState : public FutureState {
 public:
  explicit LocalState(PoolCore* pool);
  void fail(std::exception_ptr error);
  /// The same with a failure that makes a new exception for each reader; `cancelled`: that is the outcome.
  void fail(std::unique_ptr<Failure> failure, bool cancelled);
  void finish();  ///< after the derived class has stored its value

 protected:
  ~LocalState() override;
};

template <class T>
class LocalValue : public LocalState {
 public:
  using LocalState::LocalState;
  std::optional<T> value;
};
template <>
class LocalValue<void> : public LocalState {
 public:
  using LocalState::LocalState;
};

/// Bytes of a finished task's value, and what travelled with them.
struct ValueBytes {
  std::span<const std::byte> bytes;
  Attachments* attachments;
  ContextId context;
};
[[nodiscard]] ValueBytes value_bytes(FutureState& state);
/// Call in a handler: the decoder of a result threw. The error that it throws says that the result could not
/// be read.
[[noreturn]] void throw_unreadable_result(FutureState& state);

/// Owns a reference to a state, which it takes over: boost::intrusive_ptr would add one, and leak that one.
class StateHandle {
 public:
  StateHandle() noexcept = default;
  explicit StateHandle(FutureState* state) noexcept : state_{state} {}
  StateHandle(StateHandle&& other) noexcept : state_{std::exchange(other.state_, nullptr)} {}
  StateHandle(const StateHandle& other) noexcept : state_{other.state_} {
    if (state_ != nullptr) state_->retain();
  }
  StateHandle& operator=(StateHandle other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~StateHandle() {
    if (state_ != nullptr) state_->release();
  }
  [[nodiscard]] FutureState* get() const noexcept { return state_; }
  FutureState* operator->() const noexcept { return state_; }
  explicit operator bool() const noexcept { return state_ != nullptr; }

 private:
  FutureState* state_ = nullptr;
};

}  // namespace kindred::internal
