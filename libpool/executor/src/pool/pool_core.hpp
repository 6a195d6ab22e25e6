#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kindred/executor_options.hpp"
#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "kindred/internal/submission.hpp"
#include "kindred/stats.hpp"
#include "pool/pool_window.hpp"
#include "pool/rooms.hpp"
#include "pool/surroundings.hpp"

namespace kindred::internal {

/// An executor's inside: puts the rooms together, and offers what users of the pool do. Counted by reference;
/// each task keeps it, too, by its cell.
///
/// Threads: the callers', the supervisor's, the callback runner's, and the log's. One lock guards tasks and
/// workers.
class PoolCore final : public FutureHome, private PoolEvents {
 public:
  PoolCore(ExecutorOptions options, CollectorKey key, Surroundings surroundings = {});
  PoolCore(const PoolCore&) = delete;
  PoolCore& operator=(const PoolCore&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release(std::size_t count = 1) noexcept {
    if (references_.fetch_sub(count, std::memory_order_acq_rel) == count) delete this;
  }
  /// Drops the executor's reference. After that only callbacks make tasks, and each task that is left keeps
  /// the pool by a reference of its own.
  void release_by_executor() noexcept;

  // --- tasks
  void require_here(const char* what) const;  ///< Errors: `UsageError` in another process
  void require_open();                        ///< Errors: `UsageError`, `BrokenProcessPool`
  /// Returns the new task; nothing where there is no space and the call may not block.
  [[nodiscard]] std::optional<StateHandle> submit(Submission& submission, const EntryInfo& entry,
                                                  const void* function, const TaskOptions* options,
                                                  bool may_block);
  void set_initializer(Call initializer);
  void finish_local(FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure);

  // --- futures
  bool wait(FutureState& state, Deadline deadline) override;
  void add_callback(FutureState& state, std::function<void()> action, const void* owner) override;
  void add_continuation(FutureState& state, std::function<void(Locked)> action, const void* owner) override;
  void withdraw(FutureState& state, const void* owner) noexcept override;
  bool cancel(TaskState& task, Running how) override;
  [[nodiscard]] bool is_running(const TaskState& task) const override;
  [[nodiscard]] std::vector<LogRecord> log_of(std::uint64_t task_id) override;
  [[nodiscard]] bool drop_last_of_open(TaskState& task) noexcept override;
  void give_back_cell(void* of_a_task) noexcept override;
  [[nodiscard]] TaskFacts facts_of(const TaskState& task) const override;
  /// Threads that wait for several futures.
  [[nodiscard]] Waiters& waiters() noexcept { return wait_.waiters; }
  void wake_from_outside(Waiter& waiter) noexcept;

  // --- the pool as a whole
  void shutdown(bool wait, bool cancel_pending);
  void end_workers(bool kill);
  void resize(std::size_t workers);
  void close();  ///< the destructor's: shuts down, and ends all threads
  void
  abandon_after_fork();  ///< the destructor's in the child of a fork: touches nothing that the parent shares
  [[nodiscard]] PoolStats stats();
  [[nodiscard]] std::vector<std::uint32_t> worker_pids();
  void trace(const std::string& path, std::uint64_t max_bytes);  ///< an empty path ends it
  [[nodiscard]] SharedObjectRegistry& shared_objects();

  [[nodiscard]] bool here() const noexcept { return process_id() == owner_pid_; }
  [[nodiscard]] Context& context() noexcept { return context_; }
  [[nodiscard]] Collector& collector() noexcept { return collector_; }
  [[nodiscard]] const ExecutorOptions& options() const noexcept { return options_; }
  [[nodiscard]] std::size_t max_workers() const noexcept { return links_.slots.max(); }
  [[nodiscard]] std::size_t workers_beside_caller() const noexcept {
    return std::clamp<std::size_t>(usable_cpus_ - 1, 1, max_workers());
  }
  [[nodiscard]] CallBlocks& call_blocks() noexcept { return links_.idle_memory.call_blocks(); }

 private:
  friend struct PoolTestAccess;
  struct NewTask;
  ~PoolCore();

  // What the rooms set going: see `PoolEvents`.
  void wake_leader(Locked locked) noexcept override;
  void wake_followers(Locked locked, const FutureState& state) noexcept override;
  void all_ended(Locked locked) noexcept override;
  void wake_supervisor(Locked locked) override;
  void wake_supervisor_at(Locked locked, Time at) override;
  void end_queue_limit(Locked locked, TaskState& task) noexcept override;
  void look_at_log(Locked) noexcept override;

  void check_depth() const;
  void check_all_gone();
  void begin();
  [[nodiscard]] std::vector<std::byte> encode_setup();
  [[nodiscard]] std::string name_for_log(std::uint64_t reported_code) const;
  void kill_corrupted(SourceId source, std::string_view what);
  void require_accepting(Locked) const;
  [[nodiscard]] bool has_space(Locked locked) const noexcept;
  [[nodiscard]] bool wait_for_space(PoolGuard& guard, bool may_block);
  [[nodiscard]] std::unique_ptr<Failure> fill(TaskState& task, Submission& submission);
  void look_for_results(Locked locked);
  void note_continuation(Locked locked);
  [[nodiscard]] bool cancel_dispatched(Locked locked, TaskState& task, Running how);
  [[nodiscard]] bool on_own_thread() const noexcept;
  [[nodiscard]] Ground ground() noexcept;

  std::atomic<std::size_t> references_{1};
  bool executor_gone_ = false;
  std::uint64_t next_task_id_ = 1;
  const ExecutorOptions options_;
  const Surroundings surroundings_;
  const std::uint32_t owner_pid_;
  const unsigned usable_cpus_;
  const bool light_side_ =
      register_light_side();  // of the barriers that a worker, or a thread of ours, makes before it sleeps
  Call initializer_;
  Context context_;  // member order is shutdown order: the context goes last
  Collector collector_;
  SharedObjectRegistry shared_objects_;
  mutable TaskRoom tasks_;
  LinkRoom links_;
  DispatchRoom dispatch_;
  WaitRoom wait_;
  SuperviseRoom supervise_;
  PoolWindow window_;
};

}  // namespace kindred::internal
