#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/segment.hpp"
#include "task/shared_options.hpp"
#include "task/task_store.hpp"

namespace kindred::internal {

struct WorkerSlot;

/// Copies up to 24 bytes, without a call.
inline void copy_small(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  if (bytes >= 8) {
    std::memcpy(to, from, 8);
    if (bytes > 16) std::memcpy(to + 8, from + 8, 8);
    std::memcpy(to + bytes - 8, from + bytes - 8, 8);
  } else {
    for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
  }
}

/// What a task or its result carries beside its bytes: rare, so apart.
struct Cargo {
  Attachments attachments;
  std::shared_ptr<SharedMemory> block;  // where the bytes lie instead; of a call it is a CallBlock
  std::size_t block_bytes = 0;
};

/// A task in the parent: its call until it is done, then its result. 128 bytes, two cache lines, small
/// arguments and results included.
///
/// Its references are those of its futures, and the timers' (`TaskPin`). The pool needs none for a task that
/// is not finished: the thread that drops the last one of such a task tells the pool (`forget`), and the pool
/// destroys the task when it finishes it.
class TaskState final : public FutureState {
 public:
  static constexpr std::size_t inline_bytes = 24;
  /// Where the task is: nowhere (being made, or finished), among the pending tasks, or with a worker.
  enum class Place : std::uint8_t { nowhere, pending, dispatched };

  /// Made in a cell of the pool's `TaskStore`, by which it keeps the pool. Has one reference, the caller's.
  TaskState(FutureHome* home, std::uint64_t task_id, CodeReference entry_code,
            CodeReference function_code) noexcept;

  [[nodiscard]] bool running() const override;
  bool cancel(Running how) override;
  [[nodiscard]] std::uint64_t task_id() const noexcept override { return id; }
  [[nodiscard]] std::vector<LogRecord> log() const override;

  void store(std::span<const std::byte> bytes) {
    if (bytes.size() > inline_bytes) [[unlikely]] {
      auto copy = std::make_unique_for_overwrite<std::byte[]>(bytes.size());
      copy_bytes(copy.get(), bytes.data(), bytes.size());
      return store(std::move(copy), bytes.size());
    }
    drop_bytes();
    size_ = static_cast<std::uint32_t>(bytes.size());
    copy_small(inline_, bytes.data(), bytes.size());
  }
  /// `size` is more than `inline_bytes`.
  void store(std::unique_ptr<std::byte[]> bytes, std::size_t size) noexcept {
    drop_bytes();
    data_ = bytes.release();
    size_ = static_cast<std::uint32_t>(size);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    if (cargo && cargo->block) return cargo->block->bytes().first(cargo->block_bytes);
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete): it takes a copy into `inline_` for one over `size_`
    return {size_ > inline_bytes ? data_ : inline_, size_};
  }
  void drop_bytes() noexcept {
    if (size_ > inline_bytes) [[unlikely]]
      delete[] data_;
    size_ = 0;
  }

  /// Call before it is finished as cancelled: its bytes are dropped. `how` is a literal that completes "the
  /// task was cancelled". The error is made when it is read: a shutdown may cancel a million tasks, and of
  /// most of them no reader asks why.
  void note_cancelled(const char* how) noexcept {
    drop_bytes();
    cancelled_how_ = how;
  }

  /// Drops a reference of the pool's own.
  void unpin(Locked locked) noexcept;
  /// Drops a reference; true: it was the last one.
  [[nodiscard]] bool drop(Locked) noexcept { return drop_reference(); }
  /// Call where it is open and has no reference: the pool then destroys it when it finishes it.
  void forget(Locked) noexcept;
  /// Call where it has no reference. Its home may be gone after this.
  void destroy() noexcept;

  const std::uint64_t id;
  const CodeReference entry;
  const CodeReference function;
  OptionsOfTask options;  // null: all defaults
  std::unique_ptr<Cargo> cargo;
  union {
    std::uint64_t submitted_ticks = 0;
    std::uint64_t ran_ticks;  // once it has ended in a worker
  };

  // Guarded by the pool's lock. Each place has its own facts, and only while the task is there.

  [[nodiscard]] bool is_pending() const noexcept { return place_ == Place::pending; }
  [[nodiscard]] bool is_dispatched() const noexcept { return place_ == Place::dispatched; }
  /// The worker that has the task.
  [[nodiscard]] WorkerSlot& worker() const noexcept {
    KINDRED_ASSERT(place_ == Place::dispatched);
    return *slot_;
  }
  /// The task's call in that worker's ring.
  [[nodiscard]] CallHeader& call() const noexcept {
    KINDRED_ASSERT(place_ == Place::dispatched);
    return *header_;
  }
  void dispatch_to(WorkerSlot& slot, CallHeader& call) noexcept {
    KINDRED_ASSERT(place_ == Place::nowhere);
    place_ = Place::dispatched;
    slot_ = &slot;
    header_ = &call;
  }
  /// The worker has the task no longer.
  void leave_worker() noexcept {
    KINDRED_ASSERT(place_ == Place::dispatched);
    place_ = Place::nowhere;
  }

  bool forgotten : 1 = false;       // only the pool refers to it
  bool is_prioritized : 1 = false;  // counted as such by `Completion`, until it has ended
  bool lost_priority : 1 = false;   // there was no memory for the list of its priority

  // What is counted for the attempt at hand ends with it: see end_attempt.

  /// The attempts that have ended in a worker.
  [[nodiscard]] std::uint16_t ended_attempts() const noexcept { return ended_attempts_; }
  /// The attempt that a worker has, or gets next.
  [[nodiscard]] AttemptId attempt() const noexcept {
    return attempt_id(id, static_cast<std::uint16_t>(ended_attempts_ + 1));
  }
  void end_attempt() noexcept {
    ++ended_attempts_;
    suspicions_ = 0;
  }
  /// After this many suspicions the attempt counts as begun, whatever its workers' words say: a task that
  /// writes over them must not run for ever.
  static constexpr unsigned max_suspicions = 8;
  /// A worker that had this attempt first in its ring died by its own doing, or became unresponsive, and had
  /// not begun the attempt by its word.
  void suspect() noexcept {
    if (suspicions_ < max_suspicions) ++suspicions_;
  }
  [[nodiscard]] bool is_suspect() const noexcept { return suspicions_ >= max_suspicions; }

 private:
  friend class PendingTasks;

  std::uint8_t suspicions_ : 4 = 0;
  Place place_ = Place::nowhere;
  std::uint16_t ended_attempts_ = 0;

  ~TaskState() override;
  void let_go() noexcept override { destroy(); }
  void release_open() noexcept override;
  [[nodiscard]] std::exception_ptr error_without_failure() const override;

  std::uint32_t size_ = 0;
  union {
    CallHeader* header_ = nullptr;  // dispatched
    TaskState* next_;               // pending: the next task in that list
  };
  union {
    WorkerSlot* slot_ = nullptr;  // dispatched
    TaskState* previous_;         // pending
  };
  union {
    std::byte inline_[inline_bytes];
    std::byte* data_;            // of more than that; owned
    const char* cancelled_how_;  // once it is cancelled: see note_cancelled
  };
};
static_assert(sizeof(TaskState) == TaskStore::cell_bytes && alignof(TaskState) <= TaskStore::cell_alignment);

/// Keeps a task for the time of a scope in which the pool's lock is held.
class TaskPin {
 public:
  TaskPin(Locked locked, TaskState& task) noexcept : locked_{locked}, task_{&task} { task.retain(); }
  TaskPin(const TaskPin&) = delete;
  TaskPin& operator=(const TaskPin&) = delete;
  ~TaskPin() { task_->unpin(locked_); }

 private:
  const Locked locked_;
  TaskState* const task_;
};

}  // namespace kindred::internal
