#include <fmt/format.h>

#include <string_view>

#include "kindred/internal/escape.hpp"
#include "watch/pool_view.hpp"

namespace kindred::internal {
namespace {

/// Members of an object, with the commas between them.
class Json {
 public:
  explicit Json(TextBuffer& out) : out_{out} {}
  void open(char bracket) {
    separate();
    out_.push_back(bracket);
    first_ = true;
  }
  void close(char bracket) {
    out_.push_back(bracket);
    first_ = false;
  }
  void key(std::string_view name) {
    text(name);
    out_.push_back(':');
    first_ = true;
  }
  void text(std::string_view value) {
    separate();
    out_.push_back('"');
    static_cast<void>(append_json_escaped(out_, value));
    out_.push_back('"');
  }
  void number(std::uint64_t value) {
    separate();
    out_.append_number(value);
  }
  void seconds(std::int64_t nanoseconds) {
    separate();
    out_.append(fmt::format("{:.9f}", static_cast<double>(nanoseconds) / 1e9));
  }
  void member(std::string_view name, std::string_view value) {
    key(name);
    text(value);
  }
  void member(std::string_view name, std::uint64_t value) {
    key(name);
    number(value);
  }
  void member_seconds(std::string_view name, std::int64_t nanoseconds) {
    key(name);
    seconds(nanoseconds);
  }

 private:
  void separate() {
    if (!first_) out_.push_back(',');
    first_ = false;
  }
  TextBuffer& out_;
  bool first_ = true;
};

std::int64_t since_epoch(SystemTime time) { return time.time_since_epoch().count(); }

void put_worker(Json& json, const WorkerStats& stats, const WorkerView& view) {
  json.open('{');
  json.member("index", static_cast<std::uint64_t>(stats.index));
  json.member("state", view.state);
  json.member("pid", stats.pid);
  json.member("incarnation", stats.incarnation);
  json.member("done", stats.tasks_done);
  json.member("failed", stats.tasks_failed);
  json.member("lost", stats.tasks_lost);
  json.member("restarts", stats.restarts);
  json.member("recycled", stats.recycled);
  json.member_seconds("run_seconds", stats.run_time.count());
  json.member_seconds("queue_seconds", stats.queue_time.count());
  json.member("records", stats.records);
  json.member("dropped_records", stats.dropped_records);
  json.member("rss_bytes", stats.rss_bytes);
  json.member_seconds("cpu_seconds", static_cast<std::int64_t>(view.cpu_nanoseconds));
  json.member("task", stats.running_task);
  json.member("task_name", view.task_name);
  json.member_seconds("running_seconds", static_cast<std::int64_t>(view.running_nanoseconds));
  json.member("handed", view.handed);
  json.close('}');
}

void put_histogram(Json& json, const TimeHistogram& histogram) {
  json.open('{');
  json.member("count", histogram.count());
  json.member_seconds("sum", static_cast<std::int64_t>(histogram.sum_nanoseconds()));
  json.key("buckets");  // [seconds that all of the bucket are under, how many]; without end: -1
  json.open('[');
  for (std::size_t i = 0; i < TimeHistogram::buckets; ++i) {
    if (histogram.in_bucket(i) == 0) continue;
    json.open('[');
    if (i + 1 == TimeHistogram::buckets)
      json.seconds(-1'000'000'000);
    else
      json.seconds(static_cast<std::int64_t>(TimeHistogram::end_of(i)));
    json.number(histogram.in_bucket(i));
    json.close(']');
  }
  json.close(']');
  json.close('}');
}

void put_name(Json& json, const TaskNameView& name) {
  json.open('{');
  json.member("name", name.name);
  json.member("ended", name.ended);
  json.member("failed", name.failed);
  json.member("lost", name.lost);
  json.member_seconds("run_seconds", static_cast<std::int64_t>(name.run_nanoseconds));
  json.member_seconds("queue_seconds", static_cast<std::int64_t>(name.queue_nanoseconds));
  json.member_seconds("longest_seconds", static_cast<std::int64_t>(name.longest_nanoseconds));
  json.close('}');
}

void put_death(Json& json, const WorkerDeath& death) {
  json.open('{');
  json.member_seconds("time", since_epoch(death.time));
  json.member("worker", static_cast<std::uint64_t>(death.worker));
  json.member("incarnation", death.incarnation);
  json.member("pid", death.pid);
  json.member("kind", death.kind);
  json.member("reason", death.reason);
  json.member("task", death.task_id);
  json.member("task_name", death.task_name);
  json.member("hint", death.hint);
  json.member("crash", death.crash);
  json.member("stack", death.stack);
  json.key("last_lines");
  json.open('[');
  for (const auto& line : death.last_lines) json.text(line);
  json.close(']');
  json.close('}');
}

void put_totals(Json& json, const PoolStats& stats) {
  json.key("totals");
  json.open('{');
  json.member("submitted", stats.submitted);
  json.member("done", stats.done);
  json.member("failed", stats.failed);
  json.member("lost", stats.lost);
  json.member("cancelled", stats.cancelled);
  json.member("retried", stats.retried);
  json.member("pending", stats.pending);
  json.member("running", stats.running);
  json.member("workers", stats.workers);
  json.member("restarts", stats.restarts);
  json.member_seconds("run_seconds", stats.run_time.count());
  json.member_seconds("queue_seconds", stats.queue_time.count());
  json.member("argument_bytes", stats.argument_bytes);
  json.member("result_bytes", stats.result_bytes);
  json.member("rss_bytes", stats.rss_bytes);
  json.close('}');
  json.key("log");
  json.open('{');
  json.member("committed", stats.log.committed);
  json.member("delivered", stats.log.delivered);
  json.member("dropped", stats.log.dropped);
  json.member("torn", stats.log.torn);
  json.member("late", stats.log.late);
  json.member("bytes", stats.log.bytes);
  json.close('}');
}

}  // namespace

void append_view_json(const PoolView& view, TextBuffer& out) {
  Json json{out};
  json.open('{');
  json.member("pid", view.pid);
  json.member("serial", view.serial);
  json.member("program", view.program);
  json.member("start_method", view.start_method);
  json.member("level", view.level);
  json.member_seconds("now", since_epoch(view.now));
  json.member_seconds("since", since_epoch(view.since));
  json.member("max_workers", view.max_workers);
  json.member("closed", view.closed ? 1 : 0);
  json.member("broken", view.broken);
  json.member("trace_lost", view.trace_lost);
  put_totals(json, view.stats);
  json.key("workers");
  json.open('[');
  for (std::size_t i = 0; i < view.workers.size(); ++i)
    put_worker(json, view.stats.per_worker[i], view.workers[i]);
  json.close(']');
  json.key("queue_time");
  put_histogram(json, view.queue_time);
  json.key("run_time");
  put_histogram(json, view.run_time);
  json.key("names");
  json.open('[');
  for (const auto& name : view.names) put_name(json, name);
  json.close(']');
  json.key("deaths");
  json.open('[');
  for (const auto& death : view.deaths) put_death(json, *death);
  json.close(']');
  json.key("restarts_by_kind");
  json.open('{');
  for (const auto& [kind, count] : view.restarts_by_kind) json.member(kind, count);
  json.close('}');
  json.close('}');
}

}  // namespace kindred::internal
