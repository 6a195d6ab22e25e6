#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
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
/// The destructor is `shutdown({.wait = true})`.
///
/// Threads: every member, any thread. Fork: the process that made it; in a child every call throws
/// `UsageError`, and the destructor does nothing.
class ProcessPoolExecutor {
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

  /// Calls `function` with the items of one or more ranges (to the end of the shortest), in workers; returns
  /// a lazy range of the results, in order. The last argument may be `MapOptions`. An lvalue range is
  /// referred to and must outlive the result; an rvalue is moved in. See `BasicMapRange`.
  ///
  ///     for (double area : pool.map(area_of, radii, {.chunk_size = 8})) ...
  ///
  /// With `{.on_error = OnItemError::keep}` written in the call, it is `map_outcomes`.
  template <class F, class... Args>
  auto map(F&& function, Args&&... args) {
    return map_all<false>(function, std::forward<Args>(args)...);
  }
  // Those with the options last, so that they may be braces: `pool.map(add, left, right, {.chunk_size = 8})`.
  // Braces that say `.on_error = OnItemError::keep` fit both kinds of options: the const functions are the
  // worse match then, and nothing else tells them apart.
  template <class F, class Range>
  auto map(F&& function, Range&& range, MapOptions options) const {
    return map_all<false>(function, std::forward<Range>(range), std::move(options));
  }
  template <class F, class Range>
  auto map(F&& function, Range&& range, KeepingMapOptions options) {
    return map_all<true>(function, std::forward<Range>(range), MapOptions(std::move(options)));
  }
  template <class F, class First, class Second>
  auto map(F&& function, First&& first, Second&& second, MapOptions options) const {
    return map_all<false>(function, std::forward<First>(first), std::forward<Second>(second),
                          std::move(options));
  }
  template <class F, class First, class Second>
  auto map(F&& function, First&& first, Second&& second, KeepingMapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         MapOptions(std::move(options)));
  }
  template <class F, class First, class Second, class Third>
  auto map(F&& function, First&& first, Second&& second, Third&& third, MapOptions options) const {
    return map_all<false>(function, std::forward<First>(first), std::forward<Second>(second),
                          std::forward<Third>(third), std::move(options));
  }
  template <class F, class First, class Second, class Third>
  auto map(F&& function, First&& first, Second&& second, Third&& third, KeepingMapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         std::forward<Third>(third), MapOptions(std::move(options)));
  }
  /// The items in braces: `pool.map(area, {1.0, 2.0, 3.0})`.
  template <class F, class T>
  auto map(F&& function, std::initializer_list<T> items, MapOptions options = {}) const {
    return map_all<false>(function, std::vector<T>(items), std::move(options));
  }
  template <class F, class T>
  auto map(F&& function, std::initializer_list<T> items, KeepingMapOptions options) {
    return map_all<true>(function, std::vector<T>(items), MapOptions(std::move(options)));
  }
  /// For a function that is known at compile time: `pool.map<area>(radii)`.
  template <auto function, class... Args>
  auto map(Args&&... args) {
    return map(internal::FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  template <auto function, class Range>
  auto map(Range&& range, MapOptions options) const {
    return map_all<false>(internal::FunctionConstant<function>{}, std::forward<Range>(range),
                          std::move(options));
  }
  template <auto function, class Range>
  auto map(Range&& range, KeepingMapOptions options) {
    return map_all<true>(internal::FunctionConstant<function>{}, std::forward<Range>(range),
                         MapOptions(std::move(options)));
  }

  /// `map` that goes on where an item fails: its range yields an `Outcome` for each item, a value or an error
  /// with the item's index. `MapOptions::on_error` is not looked at.
  ///
  ///     for (auto& outcome : pool.map_outcomes(parse, files, {.item_timeout = 5s, .retries = 1})) ...
  template <class F, class... Args>
  auto map_outcomes(F&& function, Args&&... args) {
    return map_all<true>(function, std::forward<Args>(args)...);
  }
  template <class F, class Range>
  auto map_outcomes(F&& function, Range&& range, MapOptions options) {
    return map_all<true>(function, std::forward<Range>(range), std::move(options));
  }
  template <class F, class First, class Second>
  auto map_outcomes(F&& function, First&& first, Second&& second, MapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         std::move(options));
  }
  template <class F, class First, class Second, class Third>
  auto map_outcomes(F&& function, First&& first, Second&& second, Third&& third, MapOptions options) {
    return map_all<true>(function, std::forward<First>(first), std::forward<Second>(second),
                         std::forward<Third>(third), std::move(options));
  }
  template <class F, class T>
  auto map_outcomes(F&& function, std::initializer_list<T> items, MapOptions options = {}) {
    return map_all<true>(function, std::vector<T>(items), std::move(options));
  }
  template <auto function, class... Args>
  auto map_outcomes(Args&&... args) {
    return map_outcomes(internal::FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  template <auto function, class Range>
  auto map_outcomes(Range&& range, MapOptions options) {
    return map_outcomes(internal::FunctionConstant<function>{}, std::forward<Range>(range),
                        std::move(options));
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
  /// written. Perfetto (ui.perfetto.dev) and chrome://tracing open it: each run of a task is a slice on its
  /// worker's track, with an arrow from its submission, and from the task whose callback submitted it; log
  /// records, starts and deaths of workers are marks, waiting tasks and workers counters.
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
  // The last argument may be the options.
  template <bool keeps, class F, class... Args>
  auto map_all(F&& function, Args&&... args) const {
    constexpr std::size_t count = sizeof...(Args);
    static_assert(count > 0, "kindred: map needs at least one range of arguments");
    auto all = std::forward_as_tuple(std::forward<Args>(args)...);
    if constexpr (count == 0) {
      return internal::NoRange{};
    } else if constexpr (std::is_same_v<
                             std::remove_cvref_t<std::tuple_element_t<count - 1, std::tuple<Args...>>>,
                             MapOptions>) {
      return map_over<keeps>(function, std::get<count - 1>(all), all, std::make_index_sequence<count - 1>{});
    } else {
      return map_over<keeps>(function, MapOptions{}, all, std::make_index_sequence<count>{});
    }
  }
  template <bool keeps, class F, class All, std::size_t... I>
  auto map_over(F& function, MapOptions options, All& all, std::index_sequence<I...>) const {
    using Function = std::decay_t<F>;
    if constexpr (internal::check_map<Function, Held<std::tuple_element_t<I, All>>...>()) {
      return BasicMapRange<keeps, Function, Held<std::tuple_element_t<I, All>>...>{
          *core_, Function(function), std::move(options),
          std::forward<std::tuple_element_t<I, All>>(std::get<I>(all))...};
    } else {
      return internal::NoRange{};
    }
  }
  /// An lvalue range is held by reference, an rvalue by value.
  template <class Range>
  using Held = std::conditional_t<std::is_lvalue_reference_v<Range>, Range, std::remove_reference_t<Range>>;
  static void check(const TaskOptions& options);
  [[nodiscard]] internal::SharedObjectRegistry& shared();

  friend struct internal::ExecutorAccess;  ///< an executor over many machines stands on one of these

  internal::PoolCore* core_;
  ExecutorLogger logger_;
};

}  // namespace kindred
