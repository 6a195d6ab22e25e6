#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kindred/barrier.hpp"
#include "kindred/channel.hpp"
#include "kindred/counter.hpp"
#include "kindred/entry.hpp"
#include "kindred/event.hpp"
#include "kindred/executor_logger.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/future.hpp"
#include "kindred/internal/map_verbs.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "kindred/internal/submission.hpp"
#include "kindred/internal/task_entry.hpp"
#include "kindred/map.hpp"
#include "kindred/map_options.hpp"
#include "kindred/mutex.hpp"
#include "kindred/outcome.hpp"
#include "kindred/semaphore.hpp"
#include "kindred/shared_array.hpp"
#include "kindred/stats.hpp"
#include "kindred/task_options.hpp"

namespace kindred::internal {
struct ExecutorAccess;
}

namespace kindred {

/// How `shutdown` goes.
struct ShutdownOptions {
  bool wait = true;             ///< until all tasks have ended and all workers are gone
  bool cancel_pending = false;  ///< tasks that no worker has begun are cancelled
};

/// A pool of worker processes that run functions of this program, and one log of all that they say.
///
///     kindred::Entry entry{argc, argv};
///     kindred::ProcessPoolExecutor pool{entry, {.max_workers = 4}};
///     double a = pool.submit(area, 2.0).get();
///
/// Owns one context: how its workers start and all that they share with this process, its logger included.
/// Workers start on demand. A task that kills its worker fails its own future (`WorkerLost`) and no other.
/// `map` and `map_outcomes` are in internal/map_verbs.hpp. The destructor is `shutdown({.wait = true})`.
///
/// Threads: every member, any thread. Fork: the process that made it; in a child every call throws
/// `UsageError`, and the destructor does nothing.
class ProcessPoolExecutor : public internal::MapVerbs<ProcessPoolExecutor, internal::LocalMapHome> {
 public:
  /// Errors: `UsageError` (an option, its value and range), `SystemError` (under `fork`, where the template
  /// cannot be forked). Under `spawn` and `forkserver` nothing is started before the first task (or
  /// `start_all`).
  explicit ProcessPoolExecutor(Entry& entry, ExecutorOptions options = {});
  ProcessPoolExecutor(const ProcessPoolExecutor&) = delete;
  ProcessPoolExecutor& operator=(const ProcessPoolExecutor&) = delete;
  ~ProcessPoolExecutor();

  /// Runs `function(args...)` in a worker. `function`: a function, a function pointer, a lambda without
  /// captures, or a function object whose members can be sent. Arguments are copied to the worker (see
  /// codec.hpp for what can cross); one may be moved in. A first parameter `kindred::Worker&` is the worker's
  /// own. Errors: `UsageError` (shut down; a handle of another executor), `BrokenProcessPool`, `SystemError`
  /// (no shared memory for large arguments). What an argument's own serialiser throws becomes the future's
  /// error. Blocks: only while `max_pending` tasks wait.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto submit(F&& function, Args&&... args) {
    return submit_call(nullptr, function, std::forward<Args>(args)...);
  }
  /// The same for a function that is known at compile time: `pool.submit<area>(2.0)`.
  template <auto function, class... Args>
  auto submit(Args&&... args) {
    return submit_call(nullptr, internal::FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  /// The same with options: `pool.submit({.timeout = 5s}, resize, image)`. Errors: also `UsageError` for an
  /// option out of range.
  template <class F, class... Args>
  auto submit(TaskOptions options, F&& function, Args&&... args) {
    check(options);
    return submit_call(&options, function, std::forward<Args>(args)...);
  }
  template <auto function, class... Args>
  auto submit(TaskOptions options, Args&&... args) {
    check(options);
    return submit_call(&options, internal::FunctionConstant<function>{}, std::forward<Args>(args)...);
  }

  /// As `submit`, but nothing instead of blocking where `max_pending` tasks wait.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto try_submit(F&& function, Args&&... args) {
    return try_submit_call(nullptr, function, std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto try_submit(TaskOptions options, F&& function, Args&&... args) {
    check(options);
    return try_submit_call(&options, function, std::forward<Args>(args)...);
  }

  /// Ends the pool: no task is taken any more; those submitted still run, unless `cancel_pending`. Again:
  /// waits for the same end. Blocks: with `wait`, until all tasks ended, and at most `shutdown_grace` for the
  /// workers after that. Called from a callback of a future, or in a worker's death, it does not wait for
  /// itself.
  void shutdown(ShutdownOptions options = {});
  /// Sends SIGTERM to all workers and closes the pool: running tasks fail with `WorkerLost`, pending ones
  /// with `BrokenProcessPool`. As in Python 3.14. Blocks: until they are gone, at most `shutdown_grace`, then
  /// as `kill_workers`.
  void terminate_workers();
  /// The same with SIGKILL, at once, subprocesses of tasks included.
  void kill_workers();
  /// Changes `max_workers`. Workers beyond it end after the calls that they have. Errors: `UsageError` (0, or
  /// more than 4096).
  void resize(Count max_workers);

  /// This process's end of the unified log.
  [[nodiscard]] ExecutorLogger& logger() noexcept;
  [[nodiscard]] PoolStats stats() const;
  /// Begins a trace file, in the place of one that is there, or (empty path) ends the one that is being
  /// written. Perfetto (ui.perfetto.dev) and chrome://tracing open it. Each run of a task is a slice on its
  /// worker's track, with an arrow from its submission (of many short runs, to some), and from the task whose
  /// callback submitted it. Records, starts and deaths of workers are marks; queue and workers are counters.
  ///
  /// The file holds what ends from now on. A thread of low priority writes it: what the thread has no time
  /// for, and what would make the file larger than `max_bytes`, is lost, and counted in the file's last
  /// event. A second call ends the first trace. Costs: see libpool/doc/trace.md; nothing while no trace is
  /// written. Errors: `SystemError` (the file cannot be made), `UsageError` (it is no regular file; another
  /// process). Blocks: for the disk. Threads: any thread.
  void trace(const std::string& path, Count max_bytes = std::int64_t{256} << 20);
  [[nodiscard]] StartMethod start_method() const noexcept;
  [[nodiscard]] std::size_t max_workers() const noexcept;
  /// Pids of the workers that live now.
  [[nodiscard]] std::vector<std::uint32_t> worker_pids() const;

  /// Sets or replaces the initializer before the first task, so that it may take shared objects of this
  /// executor. Errors: `UsageError` once workers may have started.
  void set_initializer(Call initializer);

  // Shared objects: made here, on this executor's context; they cross as arguments to its workers, and to no
  // other's. Errors: `SystemError` (memory, descriptors), `UsageError` (a number out of range).
  [[nodiscard]] Mutex make_mutex() { return shared().make_mutex(); }
  [[nodiscard]] Semaphore make_semaphore(std::ptrdiff_t permits) { return shared().make_semaphore(permits); }
  [[nodiscard]] Event make_event() { return shared().make_event(); }
  [[nodiscard]] Barrier make_barrier(std::ptrdiff_t count) { return shared().make_barrier(count); }
  [[nodiscard]] Counter make_counter(std::int64_t start = 0) { return shared().make_counter(start); }
  template <class T>
  [[nodiscard]] Channel<T> make_channel(std::size_t capacity, std::size_t bytes = 0) {
    return shared().template make_channel<T>(capacity, bytes);
  }
  template <class T>
  [[nodiscard]] SharedArray<T> make_array(std::size_t size, ArrayAccess access = ArrayAccess::maker_writes) {
    return shared().template make_array<T>(size, access);
  }

 private:
  template <class F, class... Args>
  auto submit_call(const TaskOptions* options, const F& function, Args&&... args) {
    using Function = std::decay_t<F>;
    using Types = internal::TaskTypes<Function, Args...>;
    static_assert(Types::check(), "kindred: this call cannot be sent to a worker: the reason stands above");
    internal::Submission submission{*core_};
    try {
      internal::encode_call<Function>(submission.encoder(), decayed<Function>(function),
                                      std::forward<Args>(args)...);
    } catch (...) {
      submission.arguments_failed();
    }
    return internal::FutureAccess::make<Future<typename Types::result_t>>(
        submission.submit(internal::entry_info<Function, Args...>,
                          internal::function_address<Function>(decayed<Function>(function)), options));
  }
  template <class F, class... Args>
  auto try_submit_call(const TaskOptions* options, const F& function, Args&&... args) {
    using Function = std::decay_t<F>;
    using Types = internal::TaskTypes<Function, Args...>;
    static_assert(Types::check(), "kindred: this call cannot be sent to a worker: the reason stands above");
    using Result = Future<typename Types::result_t>;
    internal::Submission submission{*core_};
    try {
      internal::encode_call<Function>(submission.encoder(), decayed<Function>(function),
                                      std::forward<Args>(args)...);
    } catch (...) {
      submission.arguments_failed();
    }
    auto state =
        submission.try_submit(internal::entry_info<Function, Args...>,
                              internal::function_address<Function>(decayed<Function>(function)), options);
    return state ? std::optional<Result>{internal::FutureAccess::make<Result>(std::move(*state))}
                 : std::optional<Result>{};
  }
  /// A function as a pointer to it; anything else as it is.
  template <class Function, class F>
  static decltype(auto) decayed(const F& function) noexcept {
    if constexpr (std::is_pointer_v<Function>)
      return static_cast<Function>(function);
    else
      return (function);
  }
  static void check(const TaskOptions& options);
  [[nodiscard]] internal::SharedObjectRegistry& shared();

  [[nodiscard]] internal::PoolCore& map_core() const noexcept { return *core_; }

  friend class internal::MapVerbs<ProcessPoolExecutor, internal::LocalMapHome>;
  friend struct internal::ExecutorAccess;  ///< an executor over many machines stands on one of these

  internal::PoolCore* core_;
  ExecutorLogger logger_;
};

}  // namespace kindred
