#include <fmt/format.h>

#include <array>
#include <string>
#include <string_view>

#include "watch/pool_view.hpp"

// OpenMetrics 1.0: one family after the other, each with its TYPE and HELP and then all of its samples.
namespace kindred::internal {
namespace {

void append_label_value(TextBuffer& out, std::string_view value) {
  for (const char c : value) {
    if (c == '\n') {
      out.append("\\n");
    } else {
      if (c == '"' || c == '\\') out.push_back('\\');
      out.push_back(c);
    }
  }
}

class Families {
 public:
  Families(const PoolView& view, TextBuffer& out) : out_{out} {
    pool_ = fmt::format("{}/{}", view.pid, view.serial);
  }
  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    out_.append(fmt::format("# TYPE kindred_{} {}\n# HELP kindred_{} {}\n", name, type, name, help));
  }
  struct Label {
    std::string_view name;
    std::string_view value;
  };
  void sample(std::string_view suffix, std::initializer_list<Label> labels, std::string_view value) {
    out_.append(fmt::format("kindred_{}{}{{pool=\"{}\"", name_, suffix, pool_));
    for (const auto& label : labels) {
      out_.append(fmt::format(",{}=\"", label.name));
      append_label_value(out_, label.value);
      out_.push_back('"');
    }
    out_.append(fmt::format("}} {}\n", value));
  }
  void sample(std::string_view suffix, std::initializer_list<Label> labels, std::uint64_t value) {
    sample(suffix, labels, fmt::format("{}", value));
  }
  void seconds(std::string_view suffix, std::initializer_list<Label> labels, std::uint64_t nanoseconds) {
    sample(suffix, labels, fmt::format("{:.9f}", static_cast<double>(nanoseconds) / 1e9));
  }

 private:
  TextBuffer& out_;
  std::string pool_;
  std::string_view name_;
};

/// Prometheus keeps a series for each bucket, so every fourth power of two is enough there.
void put_histogram(Families& families, const TimeHistogram& histogram) {
  std::uint64_t under = 0;
  std::size_t bucket = 0;
  for (unsigned power = TimeHistogram::first_power; power <= TimeHistogram::first_power + 30; power += 2) {
    const std::uint64_t end = std::uint64_t{1} << power;
    while (bucket + 1 < TimeHistogram::buckets && TimeHistogram::end_of(bucket) <= end)
      under += histogram.in_bucket(bucket++);
    families.sample("_bucket", {{"le", fmt::format("{}", static_cast<double>(end) / 1e9)}}, under);
  }
  families.sample("_bucket", {{"le", "+Inf"}}, histogram.count());
  families.sample("_count", {}, histogram.count());
  families.seconds("_sum", {}, histogram.sum_nanoseconds());
}

void put_tasks(Families& families, const PoolView& view) {
  const PoolStats& stats = view.stats;
  families.family("tasks_submitted", "counter", "Tasks that were submitted.");
  families.sample("_total", {}, stats.submitted);
  families.family("tasks", "counter", "Tasks that ended, by how: done, failed, lost or cancelled.");
  families.sample("_total", {{"outcome", "done"}}, stats.done);
  families.sample("_total", {{"outcome", "failed"}}, stats.failed);
  families.sample("_total", {{"outcome", "lost"}}, stats.lost);
  families.sample("_total", {{"outcome", "cancelled"}}, stats.cancelled);
  families.family("task_retries", "counter", "Runs of tasks that were tried again.");
  families.sample("_total", {}, stats.retried);
  families.family("tasks_pending", "gauge", "Tasks that no worker has begun.");
  families.sample("", {}, stats.pending);
  families.family("tasks_running", "gauge", "Tasks that run now.");
  families.sample("", {}, stats.running);
  families.family("task_run_seconds", "histogram",
                  "From a task's begin to its end, of tasks that ended while the pool was watched.");
  put_histogram(families, view.run_time);
  families.family("task_queue_seconds", "histogram",
                  "From a task's submission to its begin, of tasks that ended while the pool was watched.");
  put_histogram(families, view.queue_time);
}

void put_workers(Families& families, const PoolView& view) {
  families.family("workers", "gauge", "Workers, by state.");
  constexpr std::array<std::string_view, 6> states{"starting", "initializing", "idle",
                                                   "running",  "leaving",      "dying"};
  for (const auto state : states) {
    std::uint64_t count = 0;
    for (const auto& worker : view.workers) count += worker.state == state ? 1U : 0U;
    families.sample("", {{"state", state}}, count);
  }
  families.family("workers_max", "gauge", "As many workers as may run at once.");
  families.sample("", {}, view.max_workers);
  families.family("worker_restarts", "counter", "Workers that died and were replaced, by how they died.");
  for (const auto& [kind, count] : view.restarts_by_kind)
    families.sample("_total", {{"reason", kind}}, count);
  families.family("worker_recycles", "counter", "Workers that ended in good order and were replaced.");
  std::uint64_t recycled = 0;
  for (const auto& worker : view.stats.per_worker) recycled += worker.recycled;
  families.sample("_total", {}, recycled);
  families.family("worker_resident_memory_bytes", "gauge", "Resident memory of a worker.");
  for (const auto& worker : view.stats.per_worker) {
    if (worker.pid != 0) families.sample("", {{"worker", std::to_string(worker.index)}}, worker.rss_bytes);
  }
  families.family("worker_cpu_seconds", "gauge",
                  "Processor time of the process that is a worker now; it begins anew with a restart.");
  for (std::size_t i = 0; i < view.workers.size(); ++i) {
    if (view.stats.per_worker[i].pid != 0)
      families.seconds("", {{"worker", std::to_string(view.stats.per_worker[i].index)}},
                       view.workers[i].cpu_nanoseconds);
  }
}

void put_log(Families& families, const PoolView& view) {
  const PoolStats& stats = view.stats;
  families.family("argument_bytes", "counter", "Encoded arguments of tasks.");
  families.sample("_total", {}, stats.argument_bytes);
  families.family("result_bytes", "counter", "Encoded results of tasks.");
  families.sample("_total", {}, stats.result_bytes);
  families.family("log_records", "counter",
                  "Log records, by what became of them: delivered to the sinks, dropped because a lane was "
                  "full, torn by a death.");
  families.sample("_total", {{"outcome", "delivered"}}, stats.log.delivered);
  families.sample("_total", {{"outcome", "dropped"}}, stats.log.dropped);
  families.sample("_total", {{"outcome", "torn"}}, stats.log.torn);
  families.family("log_bytes", "counter", "Bytes of log records, as they were taken out of the lanes.");
  families.sample("_total", {}, stats.log.bytes);
  families.family("trace_lost_events", "counter", "Events that a trace had no room for.");
  families.sample("_total", {}, view.trace_lost);
  families.family("pool_broken", "gauge", "1: the pool is broken, and takes no tasks.");
  families.sample("", {}, view.broken.empty() ? 0U : 1U);
  families.family("pool_start_time_seconds", "gauge", "When the pool was made, in seconds since 1970.");
  families.seconds("", {}, static_cast<std::uint64_t>(view.since.time_since_epoch().count()));
  families.family("pool", "info", "What the pool is.");
  families.sample("_info", {{"program", view.program}, {"start_method", view.start_method}}, 1);
}

}  // namespace

void append_view_metrics(const PoolView& view, TextBuffer& out) {
  Families families{view, out};
  put_tasks(families, view);
  put_workers(families, view);
  put_log(families, view);
}

}  // namespace kindred::internal
