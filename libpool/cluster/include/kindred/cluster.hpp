#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kindred/cluster_options.hpp"
#include "kindred/internal/cluster_core.hpp"
#include "kindred/internal/map_verbs.hpp"
#include "kindred/kindred.hpp"
#include "kindred/node_error.hpp"
#include "kindred/node_options.hpp"

namespace kindred {

/// An `Entry` for a program that runs on many machines. Make it first in `main`. Started by `kindred-node`,
/// the process serves as a node here, and never returns; a worker of a node goes the way of every worker.
///
/// Errors: as `Entry`; a process with only one of the two marks of a node (its argument and its environment)
/// is refused with a message on stderr and exit code 70.
class ClusterEntry : public Entry {
 public:
  ClusterEntry(int argc, char** argv);
};

/// A process pool whose workers are those of many machines, with the members of `ProcessPoolExecutor`.
///
///     kindred::ClusterEntry entry{argc, argv};
///     kindred::ClusterExecutor cluster{entry, {.name = "render", .servers = {"tls://nats.farm:4222"}}};
///     double a = cluster.submit(area, 2.0).get();
///
/// On each machine a `kindred-node` runs the same program, of the same build. This process is the head: it
/// keeps each task until its result is there, so nothing is lost with a server. A task without retries begins
/// at most once: where its node is lost, its future fails with `NodeLost`. With `TaskOptions::retries` it is
/// run again on another node.
///
/// `map` and `map_outcomes` are those of `ProcessPoolExecutor` (internal/map_verbs.hpp), but for two things:
/// items travel in chunks that take some milliseconds each, and a chunk is lost as a whole: where a worker
/// dies, every item of its chunk ends with `WorkerLost`. With `MapOptions::retries` the chunk is run again,
/// and with a `chunk_size` of 1 no other item pays.
///
/// The destructor is `shutdown({.wait = true})`. Threads: every member, any thread. Fork: the process that
/// made it.
class ClusterExecutor : public internal::MapVerbs<ClusterExecutor, internal::ClusterMapHome> {
 public:
  /// Errors: `UsageError` (an option; a program without build id; servers beyond loopback without TLS and
  /// credentials), `SystemError` (no server can be reached, or it refuses these credentials: its words are in
  /// the message). Blocks: until a server answers, at most `node_timeout`. Does not wait for nodes.
  ClusterExecutor(ClusterEntry& entry, ClusterOptions options);
  ClusterExecutor(const ClusterExecutor&) = delete;
  ClusterExecutor& operator=(const ClusterExecutor&) = delete;
  ~ClusterExecutor();

  /// As `ProcessPoolExecutor::submit`. Errors: `UsageError`, `BrokenProcessPool`. Blocks: while `max_pending`
  /// tasks or `max_ledger_bytes` are open.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto submit(F&& function, Args&&... args) {
    return *submit_call(false, nullptr, function, std::forward<Args>(args)...);
  }
  template <auto function, class... Args>
  auto submit(Args&&... args) {
    return *submit_call(false, nullptr, internal::FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto submit(TaskOptions options, F&& function, Args&&... args) {
    internal::check_cluster_options(options);
    return *submit_call(false, &options, function, std::forward<Args>(args)...);
  }
  template <auto function, class... Args>
  auto submit(TaskOptions options, Args&&... args) {
    internal::check_cluster_options(options);
    return *submit_call(false, &options, internal::FunctionConstant<function>{}, std::forward<Args>(args)...);
  }
  /// As `submit`, but nothing instead of blocking.
  template <class F, class... Args>
    requires(!std::is_same_v<std::decay_t<F>, TaskOptions>)
  auto try_submit(F&& function, Args&&... args) {
    return submit_call(true, nullptr, function, std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  auto try_submit(TaskOptions options, F&& function, Args&&... args) {
    internal::check_cluster_options(options);
    return submit_call(true, &options, function, std::forward<Args>(args)...);
  }

  /// Ends the job: no task is taken any more; those submitted still run, unless `cancel_pending`. Then its
  /// nodes take down their workers. Blocks: with `wait`, until all tasks have ended.
  void shutdown(ShutdownOptions options = {});

  /// The one log: this process's records, and those of every worker on every node. A record of a node has its
  /// name in the field `node`.
  [[nodiscard]] ExecutorLogger& logger() noexcept;
  [[nodiscard]] ClusterStats stats() const;
  /// The nodes of the cluster that were heard of within the lease, also those of other builds.
  [[nodiscard]] std::vector<NodeInfo> nodes() const;
  /// Calls `callback` when a node joins this job, leaves it or is lost: on a thread of the executor's, which
  /// must not wait there for a task. Replaces the former one. What it throws is logged.
  void on_node(std::function<void(const NodeEvent&)> callback);

  /// A future for a task of a detached job that an earlier process has submitted, or this one: by
  /// `Future::task_id`, or from `tasks()`. `T` is what its function returns. Each call fetches anew, until
  /// `keep_results` is over.
  ///
  /// Errors: `UsageError` where the job is not detached; from the future, where the engine knows no such
  /// task.
  template <class T>
  [[nodiscard]] Future<T> result(std::uint64_t task_id) {
    auto* const value = new internal::RemoteValue<T>{core_};
    internal::StateHandle state{value};
    internal::adopt_task(*core_, task_id, state, *value);
    return internal::FutureAccess::make<Future<T>>(std::move(state));
  }
  /// The tasks of the job by number: of a detached one all whose results are kept, of earlier processes, too
  /// (they come in within moments after the constructor); else those that have not ended.
  [[nodiscard]] std::vector<ClusterTaskInfo> tasks() const;
  /// Forgets a task: one that waits never runs, one that runs is killed, the result of one that has ended is
  /// removed.
  void drop(std::uint64_t task_id);

  // Shared objects live in one machine's memory.
  template <class... Args>
  void make_mutex(Args&&...) = delete;
  template <class... Args>
  void make_semaphore(Args&&...) = delete;
  template <class... Args>
  void make_event(Args&&...) = delete;
  template <class... Args>
  void make_barrier(Args&&...) = delete;
  template <class... Args>
  void make_counter(Args&&...) = delete;
  template <class T, class... Args>
  void make_channel(Args&&...) = delete;
  template <class T, class... Args>
  void make_array(Args&&...) = delete;

 private:
  template <class F, class... Args>
  auto submit_call(bool try_only, const TaskOptions* options, const F& function, Args&&... args) {
    using Function = std::decay_t<F>;
    using Types = internal::TaskTypes<Function, Args...>;
    static_assert(Types::check());
    using Result = Future<typename Types::result_t>;
    internal::ClusterSubmission submission{*core_};
    try {
      internal::encode_call<Function>(submission.encoder(), decayed<Function>(function),
                                      std::forward<Args>(args)...);
    } catch (...) {
      submission.arguments_failed();
    }
    auto* const value = new internal::RemoteValue<typename Types::result_t>{core_};
    internal::StateHandle state{value};
    const bool taken = submission.submit(internal::entry_info<Function, Args...>,
                                         internal::function_address<Function>(decayed<Function>(function)),
                                         options, state, *value, try_only);
    return taken ? std::optional<Result>{internal::FutureAccess::make<Result>(std::move(state))}
                 : std::optional<Result>{};
  }
  template <class Function, class F>
  static decltype(auto) decayed(const F& function) noexcept {
    if constexpr (std::is_pointer_v<Function>)
      return static_cast<Function>(function);
    else
      return (function);
  }
  [[nodiscard]] internal::ClusterCore& map_core() const noexcept { return *core_; }
  friend class internal::MapVerbs<ClusterExecutor, internal::ClusterMapHome>;

  std::shared_ptr<internal::ClusterCore> core_;
};

}  // namespace kindred
