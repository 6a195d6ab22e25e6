#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kindred/call.hpp"
#include "kindred/count.hpp"
#include "kindred/log_options.hpp"
#include "kindred/start_method.hpp"
#include "kindred/worker_options.hpp"

namespace kindred {

enum class OnWorkerDeath : unsigned char {
  replace,    ///< the task that it had begun fails, the rest goes on; a new worker takes its place
  break_pool  ///< as in `concurrent.futures`: everything pending fails with `BrokenProcessPool`
};

/// A pool whose workers die over and over is broken instead of restarted for ever: it breaks at the death
/// that makes more than `count` within `period` without a task that succeeded in between.
struct RestartLimit {
  Count count = 64;
  std::chrono::nanoseconds period = std::chrono::seconds{10};
};

/// How an executor works. An aggregate for designated initialisers; all members have defaults. Checked as a
/// whole in the executor's constructor before anything is acquired: `UsageError` names the option, its value
/// and the range.
struct ExecutorOptions {
  /// See `StartMethod`. Default: `KINDRED_START_METHOD`, else forkserver.
  StartMethod start_method = default_start_method();
  /// Most workers at once, 1 to 4096; 0: the CPUs that this process may use, by affinity and cgroup quota.
  Count max_workers = 0;
  /// Called once in each worker before its first task. Where it fails, the pool is broken with its error as
  /// the cause.
  Call initializer = {};
  /// Called once in each worker that ends in good order, after its last task. A failure is logged.
  Call finalizer = {};
  /// A worker is replaced after this many tasks; 0: never. Stops leaks from growing.
  Count max_tasks_per_worker = 0;
  /// A worker whose resident memory is larger after a task is replaced, in bytes; 0: no limit. What the pool
  /// keeps mapped in it for large values does not count.
  Count max_rss_per_worker = 0;
  /// A worker without work for this long ends; the next task starts another. Nothing: never.
  std::optional<std::chrono::nanoseconds> idle_timeout = {};
  /// Backpressure: `submit` blocks, and `try_submit` refuses, while this many tasks wait that no worker has
  /// begun; 0: no limit.
  Count max_pending = 0;
  OnWorkerDeath on_worker_death = OnWorkerDeath::replace;
  RestartLimit restart_limit = {};
  /// forkserver only: called once in the fork server before any worker is forked, so that workers share what
  /// it loads, copy-on-write.
  std::vector<Call> preload = {};
  /// How long all of `preload` may take; then the server is killed, and the pool is broken with that as the
  /// cause. Nothing: for ever. Meanwhile tasks can be submitted, cancelled, run into their `queue_timeout`,
  /// and the pool ended.
  std::optional<std::chrono::nanoseconds> preload_timeout = std::chrono::minutes{5};
  WorkerOptions worker = {};
  LogOptions log = {};

  /// Start all workers in the constructor instead of on demand.
  bool start_all = false;
  /// How long an initializer may take; nothing: for ever.
  std::optional<std::chrono::nanoseconds> initializer_timeout = {};
  /// How long shutdown waits for a worker's finalizer and exit before it kills it.
  std::chrono::nanoseconds shutdown_grace = std::chrono::seconds{5};
  /// On `TaskOptions::timeout`, first SIGTERM and this much time, then SIGKILL. Nothing: SIGKILL at once.
  std::optional<std::chrono::nanoseconds> terminate_grace = {};
  /// A worker that was stopped by a signal (SIGSTOP, SIGTSTP ...) with a task at hand, and is not continued
  /// for this long, is killed, and its task fails with `WorkerLost`. It is told in the log within a second. A
  /// debugger's stop does not count. Nothing: it may stay stopped.
  std::optional<std::chrono::nanoseconds> stopped_limit = std::chrono::seconds{5};
  /// How deep pools may nest: a pool in a worker of a pool is depth 2.
  Count max_depth = 4;
  /// May waiting threads and workers spin for some tens of microseconds before they sleep? Off saves power,
  /// and costs latency. Where other programs want the cores, they sleep at once either way.
  bool spin = true;
  /// Ctrl-C (SIGINT to this process): the first cancels what is pending, lets running tasks end, and exits
  /// with code 130; the second kills the workers at once. Off: SIGINT does what the program says. One
  /// executor of a process at a time.
  bool handle_interrupt = false;

  /// Writes a trace of all tasks to this file, from the start to the end of the pool: see
  /// `ProcessPoolExecutor::trace`. Empty: none.
  std::string trace = {};
  /// A trace ends before its file gets larger; what comes after that is counted, and not written.
  Count trace_bytes = std::int64_t{256} << 20;
  /// Writes metrics in the OpenMetrics text format to this file, again and again and at the pool's end, for
  /// node_exporter's textfile collector (the name must end in `.prom` there). A new file is put in the old
  /// one's place each time. Empty: none. The executor's constructor throws `SystemError` where the file
  /// cannot be written.
  std::string metrics_file = {};
  /// How often.
  std::chrono::nanoseconds metrics_interval = std::chrono::seconds{15};

  void validate() const;
};

}  // namespace kindred
