// What programs that look at a pool are sent: JSON, metrics, their file, and the trace.
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

#include "support/test.hpp"
#include "unit/log_support.hpp"
#include "watch/metrics_file.hpp"
#include "watch/pool_view.hpp"
#include "watch/trace_feed.hpp"
#include "watch/trace_writer.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

PoolView some_view() {
  PoolView view;
  view.pid = 77;
  view.start_method = "fork";
  view.program = "/bin/a \"quoted\" one";
  view.stats.submitted = 5;
  view.stats.done = 4;
  view.stats.per_worker.push_back({.index = 0, .pid = 78});
  view.workers.push_back({.runs = true, .state = "running", .task_name = "a task"});
  view.names.push_back({.name = "a task", .ended = 4});
  view.restarts_by_kind["SIGKILL"] = 2;
  return view;
}

}  // namespace

TEST_CASE("a view is one JSON object on one line, with its texts escaped") {
  TextBuffer out;
  append_view_json(some_view(), out);
  const std::string text{out.view()};
  CHECK(text.front() == '{');
  CHECK(text.back() == '}');
  CHECK(text.find('\n') == std::string::npos);
  CHECK_CONTAINS(text, R"(\"quoted\")");
  CHECK_CONTAINS(text, R"("a task")");
  CHECK_CONTAINS(text, R"("submitted":5)");
}

TEST_CASE("metrics have a type before their first sample, and labels by kind of death") {
  TextBuffer out;
  append_view_metrics(some_view(), out);
  const std::string text{out.view()};
  CHECK(text.find("# EOF") == std::string::npos);
  const auto type = text.find("# TYPE kindred_");
  REQUIRE(type != std::string::npos);
  CHECK(type < text.find("\nkindred_"));
  CHECK_CONTAINS(text, "SIGKILL");
  CHECK(text.back() == '\n');
}

TEST_CASE("a metrics file is there at once, and has its last text at the end; no unfinished one stays") {
  const TemporaryFolder folder;
  const std::string path = folder / "pool.prom";
  std::string text = "first\n";
  {
    MetricsFile file{path, 1h, [&] { return text; }};
    CHECK(read_file(path) == "first\n");
    text = "last\n";
  }
  CHECK(read_file(path) == "last\n");
  int files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator{folder.path()}) ++files;
  CHECK(files == 1);
}

TEST_CASE("a metrics file that cannot be written is refused at the beginning, with its path") {
  CHECK_THROWS_CONTAINS((MetricsFile{"/nowhere/pool.prom", 1h, [] { return std::string{}; }}), SystemError,
                        "/nowhere/pool.prom");
}

TEST_CASE("a feed that is full counts what it has no room for, and gives the rest in order") {
  TraceFeed feed;
  for (std::uint64_t i = 0; i < TraceFeed::capacity + 3; ++i) feed.put({.task_id = i});
  CHECK(feed.lost() == 3);
  std::vector<TraceEvent> events;
  const auto keep = [&](const TraceEvent& event) { events.push_back(event); };
  feed.take(keep);
  REQUIRE(events.size() == TraceFeed::capacity);
  CHECK(events.front().task_id == 0);
  CHECK(events.back().task_id == TraceFeed::capacity - 1);
  feed.put({.task_id = 9});
  events.clear();
  feed.take(keep);
  REQUIRE(events.size() == 1);
  CHECK(events[0].task_id == 9);
}

TEST_CASE(
    "a trace is a JSON array with the runs that were fed, and what its file has no room for is counted") {
  for (const std::uint64_t max_bytes : {std::uint64_t{1} << 20U, std::uint64_t{1} << 16U}) {
    CAPTURE(max_bytes);
    const TemporaryFolder folder;
    const std::string path = folder / "trace.json";
    TestLog log;
    const auto feed = std::make_shared<TraceFeed>();
    const TaskNameEntry name{.given = "a run"};
    TraceWriter trace{{.path = path,
                       .max_bytes = max_bytes,
                       .pid = 77,
                       .program = "a program",
                       .feed = feed,
                       .records = log.collector.records(false),
                       .name_of_code = [](CodeReference) { return std::string{}; }}};
    const std::uint64_t now = ticks();
    for (std::uint64_t i = 0; i < 2000; ++i)
      feed->put({.attempt = 1,
                 .worker = 0,
                 .name = &name,
                 .task_id = i + 1,
                 .submitted = now,
                 .begun = now,
                 .ended = now + 10});
    const std::uint64_t lost = trace.end();
    const std::string text = read_file(path);
    CHECK(text.front() == '[');
    CHECK(text.find_last_of(']') != std::string::npos);
    CHECK_CONTAINS(text, "a run");
    CHECK(text.size() <= max_bytes);
    CHECK((lost == 0) == (max_bytes == std::uint64_t{1} << 20U));
  }
}
