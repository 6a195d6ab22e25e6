#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <queue>
#include <string>
#include <thread>
#include <vector>

#include "callback_runner.hpp"
#include "dispatch/placement.hpp"
#include "dispatch/run_average.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/interrupt.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "kindred/internal/submission.hpp"
#include "kindred/stats.hpp"
#include "kindred/task_error.hpp"
#include "memory_blocks.hpp"
#include "pool_lock.hpp"
#include "supervise/restart_policy.hpp"
#include "task_state.hpp"
#include "waiting_tasks.hpp"
#include "watch/pool_watch.hpp"
#include "worker_slot.hpp"

namespace kindred::internal {

struct CrashReport;

using SteadyTime = std::chrono::steady_clock::time_point;

/// A thread that waits for results, on its own stack. `signal` is raised to wake it.
struct Waiter {
  std::atomic<std::uint32_t> signal{0};
  const FutureState* target = nullptr;  ///< null: a group
};

/// An executor's inside: submits, hands out calls, takes in results, waits, and supervises. Counted by
/// reference; each task keeps it, too, by its room.
///
/// Threads: the callers', the supervisor's (deaths, starts, timers, bells), the callback runner's, and the
/// log's. One lock guards tasks and slots. It is held for short steps only, never over a call that may block,
/// a start, a burial, or user code.
class PoolCore {
 public:
  PoolCore(ExecutorOptions options, CollectorKey key);
  PoolCore(const PoolCore&) = delete;
  PoolCore& operator=(const PoolCore&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release(std::size_t count = 1) noexcept {
    if (references_.fetch_sub(count, std::memory_order_acq_rel) == count) delete this;
  }

  /// The executor lets go: no task is made after that but by its callbacks. The rooms that are out keep the
  /// pool by references from then on.
  void release_by_executor() noexcept;

  // --- submitting and handing out: submit.cpp, dispatch.cpp
  void require_open();  ///< Errors: `UsageError`, `BrokenProcessPool`
  [[nodiscard]] std::optional<StateHandle> submit(Submission& submission, const EntryInfo& entry,
                                                  const void* function, const TaskOptions* options,
                                                  bool may_block);
  void set_initializer(Call initializer);

  // --- waiting: waiting.cpp
  bool wait(FutureState& state, Deadline deadline);
  /// `ready` is asked under the lock. `waiter.signal` must be raised, by `wake`, whenever it may have become
  /// true.
  bool wait_group(const std::function<bool()>& ready, Waiter& waiter, Deadline deadline);
  void wake(Waiter& waiter) noexcept;  ///< under the lock
  void wake_from_outside(Waiter& waiter) noexcept;
  void add_continuation(FutureState& state, std::function<void()> action, bool in_line);
  void finish_local(FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure);
  [[nodiscard]] bool cancel(TaskState& task, Running how);
  [[nodiscard]] bool is_running(const TaskState& task) const;

  // --- the pool as a whole: lifecycle.cpp
  void shutdown(bool wait, bool cancel_pending);
  void end_workers(bool kill);
  void resize(std::size_t workers);
  void close();    ///< the destructor's: shuts down, and ends all threads
  void forsake();  ///< the destructor's in the child of a fork: touches nothing that the parent shares
  [[nodiscard]] PoolStats stats();
  [[nodiscard]] std::vector<std::uint32_t> worker_pids();
  void require_here(const char* what) const;  ///< Errors: `UsageError` in another process
  [[nodiscard]] SharedObjectRegistry& shared_objects();
  [[nodiscard]] std::vector<LogRecord> log_of(std::uint64_t task_id);
  void trace(const std::string& path, std::uint64_t max_bytes);  ///< an empty path ends it

  [[nodiscard]] bool here() const noexcept { return process_id() == owner_pid_; }
  [[nodiscard]] Context& context() noexcept { return context_; }
  [[nodiscard]] Collector& collector() noexcept { return collector_; }
  [[nodiscard]] const ExecutorOptions& options() const noexcept { return options_; }
  [[nodiscard]] std::size_t max_workers() const noexcept {
    return max_workers_.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::string task_name(const TaskState& task) const;
  [[nodiscard]] CallBlocks& call_blocks() noexcept { return call_blocks_; }
  void block_freed() noexcept;                    ///< any thread
  void give_back_room(void* of_a_task) noexcept;  ///< any thread; the pool may be gone after it
  /// Drops the last reference of a task that was open a moment ago, on any thread; true: the caller is to
  /// destroy it.
  [[nodiscard]] bool drop_last_of_open(TaskState& task) noexcept;

 private:
  using Lock = std::unique_lock<PoolLock>;
  ~PoolCore();

  // What must happen once the lock is given back: users' objects are destroyed and callbacks queued outside
  // of it.
  struct Afterwards {
    ContinuationQueue callbacks;
    std::vector<std::uint64_t> failed_tasks;  ///< whose flight records are to be let go
  };

  struct NewTask;
  /// Does `max_pending` allow another task?
  [[nodiscard]] bool has_room() const noexcept {
    const auto limit = static_cast<std::size_t>(options_.max_pending.value());
    return limit == 0 || waiting_.size() + in_flight_ < limit + live_workers();
  }
  [[nodiscard]] bool wait_for_room(Lock& lock, bool may_block);  ///< false: there is none
  void require_accepting() const;  ///< under the lock. Errors: `UsageError`, `BrokenProcessPool`

  // --- dispatch.cpp; all under the lock
  [[nodiscard]] double ticks_of(double nanoseconds) const noexcept {
    return nanoseconds * ticks_a_nanosecond_;
  }
  [[nodiscard]] WorkerSlot* choose_slot(std::uint64_t now) noexcept;
  [[nodiscard]] WorkerSlot* favourite(std::uint64_t now) const noexcept;
  [[nodiscard]] static bool front_is_unbegun(WorkerSlot& slot) noexcept;
  [[nodiscard]] static bool has_lost_a_call(WorkerSlot& slot) noexcept;
  void look_at_unbegun_later() noexcept;  ///< for a waiter that is about to sleep: a worker that was handed
                                          ///< something may be stopped
  void look_again_soon() noexcept;
  /// No result came, and no bell rang: the next look is later. The log's bell may have been lost, too.
  void look_found_nothing() noexcept {
    look_again_.found_nothing();
    collector_.look_again();
  }
  void look_again_at(SteadyTime at) noexcept;
  [[nodiscard]] bool runs_long(WorkerSlot& slot, std::uint64_t now) const noexcept;  ///< the call at hand
  [[nodiscard]] static bool still_silent(
      WorkerSlot& slot) noexcept;  ///< for a silent one: looks whether it has passed what was taken back
  [[nodiscard]] bool is_unresponsive(const WorkerSlot& slot, std::uint64_t now)
      const noexcept;  ///< neither a begin nor a result, by our clock
  bool hand(TaskState& task, WorkerSlot& slot,
            std::uint64_t now);  ///< false: no room, in its ring, its socket or our memory
  bool hand_plain(TaskState& task, WorkerSlot& slot, std::uint64_t now);
  bool hand_or_throw(TaskState& task, WorkerSlot& slot, std::uint64_t now);
  [[nodiscard]] static std::span<std::byte> room_for_call(WorkerSlot& slot, std::size_t size) noexcept;
  [[nodiscard]] static CallHeader* write_header(std::byte* at, const TaskState& task) noexcept;
  void publish_call(TaskState& task, WorkerSlot& slot, CallHeader& header, std::size_t size,
                    std::uint64_t now);
  void place(TaskState& task, std::uint64_t now);  ///< to a worker, or to those that wait
  void refill();                                   ///< those that wait, to workers
  void wake_worker(WorkerSlot& slot) noexcept;
  static void raise_wake(WorkerSlot& slot) noexcept;
  [[nodiscard]] std::size_t hand_ahead_limit(const WorkerSlot& slot) const noexcept;
  [[nodiscard]] bool send_attachments(WorkerSlot& slot, const TaskState& task,
                                      std::vector<std::uint64_t>& ids);
  bool send_modules(
      WorkerSlot& slot,
      CodeReference reference);         ///< all up to the one that it names; false: the socket takes no more
  void move_to_block(TaskState& task);  ///< its arguments, out of ordinary memory. Errors: `SystemError`
  [[nodiscard]] static std::uint64_t send_block(WorkerSlot& slot,
                                                CallBlock& block);  ///< its number there; 0: not now
  void want_workers();  ///< asks the supervisor for more where the work asks for it
  [[nodiscard]] RebalancePlan<WorkerSlot> plan_rebalance(std::uint64_t now);
  void rebalance();  ///< takes calls back from a busy worker for an idle one
  bool take_back(WorkerSlot& slot, std::size_t position, bool requeue);  ///< false: it has begun
  void take_back_all(WorkerSlot& slot, std::size_t but_first = 0);
  void mark_unresponsive(WorkerSlot& slot);
  static void begin_silence(WorkerSlot& slot) noexcept;
  void arm(WorkerSlot& slot, std::uint64_t bits, bool anew) noexcept;
  void arm_all() noexcept;
  [[nodiscard]] bool pump();  ///< takes in all results that are there; true: there were some
  bool pump_slot(WorkerSlot& slot);
  using ResultTimes = RunAverage::Batch;
  void take_result(WorkerSlot& slot, std::span<const std::byte> message, ResultTimes& times);
  void take_rare_result(WorkerSlot& slot, TaskState& task, const ResultHeader& result,
                        std::span<const std::byte> value, std::span<const std::byte> ids, ResultTimes& times);
  void pass_call(WorkerSlot& slot, TaskState& task, const ResultHeader& result, ResultTimes& times) noexcept;
  void finish_with_value(WorkerSlot& slot, TaskState& task);
  void note_times(WorkerSlot& slot, const ResultTimes& times) noexcept;
  bool take_cargo(WorkerSlot& slot, const ResultHeader& result, std::span<const std::byte> value,
                  std::span<const std::byte> ids, std::unique_ptr<Cargo>& cargo,
                  std::unique_ptr<Failure>& missing);
  bool take_messages(WorkerSlot& slot);  ///< from its socket; false: nothing more will come
  [[nodiscard]] std::shared_ptr<SharedMemory> received_memory(WorkerSlot& slot, std::uint64_t id,
                                                              std::size_t bytes);
  void release_idle_blocks();
  void condemn(WorkerSlot& slot, std::string why);  ///< it corrupted its memory or its socket: kills it

  // --- finishing tasks; under the lock
  /// No failure where there should be one: memory ended, and its futures say so.
  void finish(TaskState& task, Outcome outcome, std::unique_ptr<Failure> failure = {});
  template <class Make>
  void finish_with(TaskState& task, Outcome outcome, const Make& make_failure) {
    std::unique_ptr<Failure> failure;
    try {
      failure = make_failure();
    } catch (const std::bad_alloc&) {}
    finish(task, outcome, std::move(failure));
  }
  void note_flight(std::uint64_t task_id) noexcept;
  void end(FutureState& state, Outcome outcome,
           std::unique_ptr<Failure> failure);  ///< it may be gone after this, if nobody holds it
  void flush_afterwards(Lock& lock);           ///< gives the lock back
  [[nodiscard]] TaskFacts facts(const TaskState& task, const WorkerSlot* slot) const;
  [[nodiscard]] bool try_again(TaskState& task);
  void cancel_waiting();
  void finish_cancelled(TaskState& task, const char* how);
  void fail_waiting(const std::function<std::unique_ptr<Failure>()>& make);
  [[nodiscard]] static std::unique_ptr<Failure> make_encoded_failure(std::span<const std::byte> bytes,
                                                                     ContextId context, TaskFacts facts);
  [[nodiscard]] std::string name_of_code(CodeReference reference) const;
  [[nodiscard]] std::string name_of_reported_code(
      CodeReference reference) const;  ///< which a worker wrote: it may be anything
  void break_pool(Lock& lock, std::exception_ptr cause, const std::string& text);

  // --- watch/pool_watch.cpp: what is noted and told for those who look at the pool. The `watch_...`
  // functions under the lock; these of the hot path only while `watching_`
  [[nodiscard]] TaskNameEntry& name_entry(const TaskState& task);
  void watch_result(WorkerSlot& slot, std::span<const std::byte> message) noexcept;
  void watch_queue() noexcept;
  void watch_submit(std::uint64_t task_id, std::uint64_t now) noexcept;
  void watch_worker(const WorkerSlot& slot, bool started) noexcept;
  void watch_run_without_end(const WorkerSlot& slot, const TaskState& task, bool lost) noexcept;
  void watch_burial(const WorkerSlot& slot, bool good_order, bool cancelled, const ExitReason& reason,
                    const SourceEnd& end, const CrashReport& crash, const TaskState* lost);
  [[nodiscard]] WorkerView look_at(WorkerSlot& slot, std::uint64_t now) const;  ///< under the lock
  void look_at_all(PoolView& view, std::vector<std::optional<SourceId>>& sources);
  [[nodiscard]] PoolView look_inside();  ///< under the gate's lock, not under ours
  static void answer_pool(ViewGate& gate, const TailRequest& request, TailVisit& visit);
  static void answer_metrics(ViewGate& gate, TailVisit& visit);
  [[nodiscard]] std::string metrics_text();
  void end_trace() noexcept;
  void begin_watching();
  void end_watching() noexcept;
  /// Counts all but what `add_log_and_memory` adds. Under the lock.
  [[nodiscard]] PoolStats count_all(std::vector<std::optional<SourceId>>& sources) const;
  void add_log_and_memory(PoolStats& all, const std::vector<std::optional<SourceId>>& sources) const;

  // --- supervisor.cpp
  void wake_idle_supervisor();
  void start_supervisor();  ///< under the lock
  void supervise();
  void answer_tail();
  void heed(Lock& lock, std::uint64_t token);
  bool supervise_once(Lock& lock, std::vector<std::uint64_t>& tokens);  ///< false: it is over
  void kick() { context_.service_bell().ring(); }
  /// Gives the lock away meanwhile, but never waits. False: a worker cannot be started yet, or never.
  [[nodiscard]] bool prepare_launcher(Lock& lock);
  void listen_to_launcher(bool on);  ///< Errors: `SystemError`
  /// A worker on its way, and what it was greeted with.
  struct StartInHand {
    WorkerSlot* slot = nullptr;
    AskedWorker asked;
    std::shared_ptr<Segment> segment;
    std::optional<SourceId> source;
    std::array<Descriptor, 4> captures;
  };
  // These four give the lock away meanwhile, or take it.
  void begin_start(Lock& lock, WorkerSlot& slot);
  void check_start(Lock& lock);
  void go_on_with_start(Lock& lock, std::exception_ptr failure);
  void start_failed(Lock& lock, const std::exception_ptr& failure);
  void ask_and_greet(StartInHand& start);                            ///< not under the lock
  void begin_work(StartInHand& start, const StartedWorker& worker);  ///< not under the lock
  void drop_start();                                                 ///< not under the lock
  void adopt_worker(StartInHand& start, StartedWorker worker);       ///< under the lock

  // --- supervise/burial.cpp
  struct Obituary;                          ///< what the system and the worker's memory say of its death
  void bury(Lock& lock, WorkerSlot& slot);  ///< gives the lock away meanwhile
  /// False: the fork server has not said yet how the worker ended. Gives the lock away meanwhile.
  [[nodiscard]] bool begin_burial(Lock& lock, WorkerSlot& slot);
  [[nodiscard]] bool died_by_our_kill(const WorkerSlot& slot) const noexcept;
  [[nodiscard]] Obituary take_obituary(Lock& lock, WorkerSlot& slot);  ///< gives the lock away meanwhile
  [[nodiscard]] DeathVerdict judge_death(WorkerSlot& slot, const Obituary& obituary);
  [[nodiscard]] std::optional<InFlight> sort_out_calls(WorkerSlot& slot, bool own_doing);
  void tell_death(Lock& lock, WorkerSlot& slot, const Obituary& obituary, const DeathVerdict& verdict,
                  const InFlight* lost);  ///< may give the lock away meanwhile
  struct StartFailure {
    std::exception_ptr cause;  ///< none: the start has not failed
    std::string text;
  };
  [[nodiscard]] StartFailure start_failure_of(const WorkerSlot& slot, const Obituary& obituary,
                                              const DeathVerdict& verdict) const;
  void lose(const InFlight& entry, const WorkerSlot& slot, const Obituary& obituary,
            const DeathVerdict& verdict);
  void clear(WorkerSlot& slot);
  [[nodiscard]] TaskFacts facts_about(const WorkerSlot& slot, std::string what) const;
  void drain_captured(WorkerSlot& slot, const TaskFacts& task);

  [[nodiscard]] WorkerSlot* free_slot();
  void check_interrupt(Lock& lock);
  void want_workers_now();
  [[nodiscard]] bool check_queue_timeout(TaskState& task);  ///< true: the task has failed by it
  void check_attempt(TaskState& task, SteadyTime now);      ///< its time limits, while a worker has it
  void check_timers();
  void check_stopped(WorkerSlot& slot, SteadyTime now);
  void note_forked_child(WorkerSlot& slot, std::uint32_t pid);
  void check_slots(Lock& lock);  ///< gives the lock away meanwhile
  void check_worker(WorkerSlot& slot, SteadyTime now);
  void check_deferred_looks(SteadyTime now);
  void start_wanted(Lock& lock, SteadyTime now);  ///< gives the lock away meanwhile
  void end_when_all_left(Lock& lock);
  [[nodiscard]] Deadline next_deadline();
  [[nodiscard]] Deadline next_deadline_of(const WorkerSlot& slot) const;
  void add_timer(SteadyTime at, TaskState& task);
  void kill(WorkerSlot& slot, WorkerSlot::KillReason reason) noexcept;
  static void kill_slot_with(WorkerSlot& slot, int signal) noexcept;
  bool condemn_task(WorkerSlot& slot, InFlight& entry, InFlight::Condemned why, int signal);
  static void ask_to_stop(WorkerSlot& slot, InFlight& entry) noexcept;
  [[nodiscard]] bool lead(Lock& lock, const std::function<bool()>& ready, Waiter& waiter, Deadline deadline);
  void nap(Lock& lock, Deadline deadline);
  void sleep_as_leader(Lock& lock, const std::function<bool()>& ready, Deadline deadline);
  [[nodiscard]] Deadline next_look(Deadline deadline);
  int tell_cpu() noexcept;  ///< returns where this thread runs, and tells the workers, who yield to it only
                            ///< if they run there
  enum class Neighbour : std::uint8_t { none, short_task, long_task };
  [[nodiscard]] Neighbour neighbour_on(
      int cpu) const noexcept;  ///< the worker that has calls and ran on that core last
  [[nodiscard]] bool saturated() const noexcept;
  void spread_over_cores() noexcept;  ///< has workers that share a core go apart, where there are as many
                                      ///< cores as workers with calls
  void ask_to_leave(WorkerSlot& slot);
  void note(Level level, std::string message, const WorkerSlot* slot = nullptr,
            const TaskState* task = nullptr, std::uint32_t attempt = 0, const std::string& backtrace = {});
  [[nodiscard]] std::size_t live_workers() const noexcept;
  /// No task, and no callback that might submit one.
  [[nodiscard]] bool nothing_left() const {
    return outstanding_ == 0 && afterwards_.callbacks.empty() && callbacks_.idle();
  }
  void callbacks_idle();

  friend class Submission;
  friend class TaskState;

 public:
  [[nodiscard]] static PoolCore* pool_of(const FutureState& state) noexcept { return state.pool_; }
  [[noreturn]] static void throw_unreadable(TaskState& task);
  [[nodiscard]] TaskFacts facts_of(const TaskState& task) const;
  [[nodiscard]] std::vector<std::byte> encode_pool_part();

 private:
  std::atomic<std::size_t> references_{1};
  bool executor_gone_ = false;
  const ExecutorOptions options_;
  const std::uint32_t owner_pid_;
  const bool light_side_ =
      register_light_side();  // of the barriers that a worker, or a thread of ours, makes before it sleeps
  Call initializer_;
  Attachments start_attachments_;  // what initializer and finalizer need, sent to each worker at its start
  Context context_;                // member order is shutdown order: the context goes last
  Collector collector_;
  std::unique_ptr<SharedObjectRegistry> shared_objects_;
  const std::shared_ptr<ViewGate> view_gate_ = std::make_shared<ViewGate>();
  CodeReference worker_main_ = 0;
  const double ticks_a_nanosecond_ = ticks_per_nanosecond();
  TaskStore tasks_;
  CallBlocks call_blocks_{[this] { block_freed(); }};
  CallbackRunner callbacks_{[this] { callbacks_idle(); }};
  std::unique_ptr<InterruptWatch> interrupt_;

  mutable PoolLock mutex_{light_side_};
  std::atomic<std::size_t> max_workers_;
  std::vector<std::unique_ptr<WorkerSlot>> slots_;  // never shrinks
  struct {
    WorkerSlot* slot = nullptr;
    std::uint64_t until = 0;  ///< ticks
  } favourite_;               // the worker that was chosen last
  WaitingTasks waiting_;
  std::uint64_t next_task_id_ = 1;
  std::uint32_t next_owner_ = 2;
  std::size_t outstanding_ = 0;  // tasks submitted and not finished
  std::size_t in_flight_ = 0;    // of these, in rings
  std::size_t with_continuations_ = 0;
  std::uint32_t submits_since_pump_ = 0;
  bool uses_priorities_ = false;  // has a task ever had one?
  bool bells_stale_ = false;      // what is armed may not be what is wanted
  Afterwards afterwards_;
  const PlacementTimes times_{ticks_a_nanosecond_};
  RunAverage average_;
  std::uint64_t bounded_waiting_ = 0;
  std::condition_variable_any room_;     // for max_pending
  std::condition_variable_any changed_;  // tasks finished, workers gone: shutdown waits on it

  // Waiting threads: one leads (spins, or sleeps on the waiter bell), the others follow it.
  Waiter* leader_ = nullptr;
  bool leader_sleeps_ = false;  // until it is rung for a result
  int told_cpu_ = -1;
  bool woke_somebody_ = false;  // since a leader last looked
  bool leader_naps_ = false;    // for a moment; it is rung only if its own wait is over
  std::vector<Waiter*> followers_;

  // Supervision.
  std::thread supervisor_;
  bool supervisor_runs_ = false;
  bool stop_supervisor_ = false;
  bool watched_by_timer_ = false;  // the supervisor looks again soon, whoever rings
  std::uint64_t submitted_seen_ = 0;
  std::uint64_t submitted_at_last_look_ = 0;
  SteadyTime supervisor_sleeps_until_ = SteadyTime::min();
  std::unique_ptr<EventPoll> poll_;
  struct Timer {
    SteadyTime at;
    TaskPin pin;
    friend bool operator<(const Timer& a, const Timer& b) noexcept {
      return a.at > b.at;
    }  // the earliest on top
  };
  std::priority_queue<Timer> timers_;
  std::uint64_t rebalance_due_ = 0;  // ticks; 0: nothing waits behind a call that may be long
  Deadline rebalance_at_;
  LookAgain look_again_;                      // where a ring of a worker may have been lost
  std::atomic<bool> blocks_are_free_{false};  // is there a free block that the supervisor is to look after?
  Deadline release_blocks_at_;
  std::size_t wanted_ = 0;  // workers to start
  struct {
    Deadline preparing_since;            // the fork server preloads
    int news = -1;                       // the descriptor of it that is in the poll
    std::unique_ptr<StartInHand> start;  // asked for, and not answered yet
    Deadline tidy_at;                    // what dead workers have left is ended
  } launching_;                          // of the supervisor's thread alone
  RestartLimiter crashes_{options_.restart_limit.count.value(), options_.restart_limit.period};
  StartBackoff starts_;
  bool closed_ = false;
  bool finishes_chains_ = true;  // closed, but callbacks of what was accepted may still submit
  bool ended_ = false;           // all workers and the supervisor are gone
  std::unique_ptr<Failure> broken_;
  std::string broken_text_;
  PoolStats totals_;
  struct {
    std::uint64_t run = 0;
    std::uint64_t queue = 0;
  } total_ticks_;
  std::uint64_t supervisor_wakeups_ = 0;
  Deadline tail_again_;                          // when its next knock is heard
  int tail_fd_ = -1;                             // where kindred-tail knocks
  std::optional<std::uint64_t> oom_kills_seen_;  // none before the supervisor's first sleep
  bool watching_ = false;                        // results are noted in `watch_`
  const std::unique_ptr<PoolWatch> watch_ = std::make_unique<PoolWatch>();
  unsigned usable_cpus_ = 1;
  int kill_all_ = 0;  // the signal that all workers are ended with
};

}  // namespace kindred::internal
