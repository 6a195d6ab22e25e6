#include <fmt/format.h>

#include <initializer_list>
#include <string_view>
#include <utility>

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
  void members(std::initializer_list<std::pair<std::string_view, std::uint64_t>> numbers) {
    for (const auto& [name, value] : numbers) member(name, value);
  }
  void member_seconds(std::string_view name, std::int64_t nanoseconds) {
    key(name);
    seconds(nanoseconds);
  }
  void members_seconds(std::initializer_list<std::pair<std::string_view, std::int64_t>> times) {
    for (const auto& [name, nanoseconds] : times) member_seconds(name, nanoseconds);
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
  json.member("state", view.state);
  json.member("task_name", view.task_name);
  json.members({{"index", static_cast<std::uint64_t>(stats.index)},
                {"pid", stats.pid},
                {"incarnation", stats.incarnation},
                {"done", stats.tasks_done},
                {"failed", stats.tasks_failed},
                {"lost", stats.tasks_lost},
                {"restarts", stats.restarts},
                {"recycled", stats.recycled},
                {"records", stats.records},
                {"dropped_records", stats.dropped_records},
                {"rss_bytes", stats.rss_bytes},
                {"task", stats.running_task},
                {"handed", view.handed}});
  json.members_seconds({{"run_seconds", stats.run_time.count()},
                        {"queue_seconds", stats.queue_time.count()},
                        {"cpu_seconds", static_cast<std::int64_t>(view.cpu_nanoseconds)},
                        {"running_seconds", static_cast<std::int64_t>(view.running_nanoseconds)}});
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
  json.members({{"ended", name.ended}, {"failed", name.failed}, {"lost", name.lost}});
  json.members_seconds({{"run_seconds", static_cast<std::int64_t>(name.run_nanoseconds)},
                        {"queue_seconds", static_cast<std::int64_t>(name.queue_nanoseconds)},
                        {"longest_seconds", static_cast<std::int64_t>(name.longest_nanoseconds)}});
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
  json.members({{"submitted", stats.submitted},
                {"done", stats.done},
                {"failed", stats.failed},
                {"lost", stats.lost},
                {"cancelled", stats.cancelled},
                {"retried", stats.retried},
                {"pending", stats.pending},
                {"running", stats.running},
                {"workers", stats.workers},
                {"restarts", stats.restarts},
                {"argument_bytes", stats.argument_bytes},
                {"result_bytes", stats.result_bytes},
                {"rss_bytes", stats.rss_bytes}});
  json.members_seconds(
      {{"run_seconds", stats.run_time.count()}, {"queue_seconds", stats.queue_time.count()}});
  json.close('}');
  json.key("log");
  json.open('{');
  json.members({{"committed", stats.log.committed},
                {"delivered", stats.log.delivered},
                {"dropped", stats.log.dropped},
                {"torn", stats.log.torn},
                {"late", stats.log.late},
                {"bytes", stats.log.bytes}});
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
