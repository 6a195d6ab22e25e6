#include "kindred/executor_options.hpp"

#include "kindred/error.hpp"
#include "kindred/internal/task_entry.hpp"

namespace kindred {
namespace {

void require(bool holds, const std::string& option, const std::string& value, const std::string& range) {
  if (!holds) throw UsageError{"ExecutorOptions::" + option + " is " + value + ". Use " + range + "."};
}

void require_count(Count count, std::int64_t least, std::int64_t most, const std::string& option,
                   const std::string& range) {
  require(count.value() >= least && count.value() <= most, option, std::to_string(count.value()), range);
}

void require_positive(const std::optional<std::chrono::nanoseconds>& time, const std::string& option) {
  require(!time || time->count() > 0, option, time ? std::to_string(time->count()) + " ns" : "",
          "a time greater than 0, or none");
}

}  // namespace

void ExecutorOptions::validate() const {
  require(start_method <= StartMethod::forkserver, "start_method",
          std::to_string(static_cast<int>(start_method)), "fork, spawn or forkserver");
  require_count(max_workers, 0, 4096, "max_workers",
                "1 to 4096, or 0 for the CPUs that this process may use");
  require_count(max_tasks_per_worker, 0, INT64_MAX, "max_tasks_per_worker", "1 or more, or 0 for no limit");
  require_count(max_rss_per_worker, 0, INT64_MAX, "max_rss_per_worker",
                "a number of bytes, or 0 for no limit");
  require_count(max_pending, 0, INT64_MAX, "max_pending", "1 or more, or 0 for no limit");
  require_count(restart_limit.count, 0, INT64_MAX, "restart_limit.count", "0 or more");
  require_count(max_depth, 1, 64, "max_depth", "1 to 64");
  require(restart_limit.period.count() > 0, "restart_limit.period",
          std::to_string(restart_limit.period.count()) + " ns", "a time greater than 0");
  require(shutdown_grace.count() >= 0, "shutdown_grace", std::to_string(shutdown_grace.count()) + " ns",
          "0 or more");
  require_count(trace_bytes, 1 << 16, INT64_MAX, "trace_bytes", "65536 or more");
  require(metrics_interval.count() > 0, "metrics_interval", std::to_string(metrics_interval.count()) + " ns",
          "a time greater than 0");
  require_positive(idle_timeout, "idle_timeout");
  require_positive(initializer_timeout, "initializer_timeout");
  require_positive(terminate_grace, "terminate_grace");
  require_positive(preload_timeout, "preload_timeout");
  require_positive(stopped_limit, "stopped_limit");
  require(on_worker_death <= OnWorkerDeath::break_pool, "on_worker_death",
          std::to_string(static_cast<int>(on_worker_death)), "replace or break_pool");
  require(preload.empty() || start_method == StartMethod::forkserver, "preload",
          "set with start method " + std::string{to_string(start_method)},
          "it with forkserver, where workers are forked from the process that it runs in");
  for (const Call& call : preload) {
    require(static_cast<bool>(call), "preload", "an empty call", "{function, arguments...}");
    require(!call.model()->entry()->takes_worker, "preload", "a function that takes kindred::Worker&",
            "one that does not: it runs in the fork server, which is no worker");
  }
  require(worker.nice >= -20 && worker.nice <= 19, "worker.nice", std::to_string(worker.nice), "-20 to 19");
  for (const auto& [name, value] : worker.env) {
    require(!name.empty() && name.find('=') == std::string::npos && name.find('\0') == std::string::npos,
            "worker.env", "a variable named '" + name + "'", "names without '=' that are not empty");
  }
  if (worker.sandbox) worker.sandbox->validate();
  log.validate();
}

}  // namespace kindred
