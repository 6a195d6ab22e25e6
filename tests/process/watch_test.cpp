// What a pool tells those who look at it: by its door, in a metrics file, and in a trace.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <sys/ioctl.h>
#include <unistd.h>

#include <boost/json.hpp>

#include "kindred/internal/tail_client.hpp"
#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"
#include "watch/time_histogram.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;
namespace json = boost::json;

namespace {

/// All that this process's only pool answers to one question.
std::vector<std::string> ask(const std::string& word) {
  std::vector<std::string> lines;
  for (const auto& name : kindred::internal::door_names()) {
    if (name.pid != static_cast<std::uint32_t>(::getpid())) continue;
    const auto pool = kindred::internal::connect_to_pool(name, std::chrono::steady_clock::now() + 5s);
    REQUIRE(pool.has_value());
    kindred::internal::TailRequest request;
    request.ask = word;
    request.others.push_back({"once", true});
    kindred::internal::ask_pool(*pool, request);
    kindred::internal::PoolAnswers answers{pool->socket};
    while (const auto line = answers.next(std::chrono::steady_clock::now() + 20s)) lines.emplace_back(*line);
  }
  return lines;
}
json::value snapshot() {
  const auto lines = ask("pool");
  REQUIRE(lines.size() == 1);
  return json::parse(lines[0]);
}
/// Asks until what is looked for is there: the case's deadline ends it.
template <class Holds>
json::value snapshot_where(Holds&& holds) {
  for (;;) {
    auto view = snapshot();
    if (holds(view)) return view;
  }
}

std::uint64_t whole(const json::value& value) { return value.to_number<std::uint64_t>(); }
const json::object* named(const json::value& view, std::string_view name) {
  for (const auto& entry : view.at("names").as_array()) {
    if (entry.at("name").as_string() == name) return &entry.as_object();
  }
  return nullptr;
}

int say_much(int number) {
  for (int i = 0; i < 5; ++i) log_info("{} {}", number, std::string(1000, 'x'));
  return number + 1;
}
void throw_something() { throw std::runtime_error{"thrown"}; }
void say_and_die(int lines) {
  for (int i = 0; i < lines; ++i) log_warn("last words {}", i);
  std::raise(SIGKILL);
}
int say_and_add(int a, int b) {
  log_info("adding {}", a);
  return a + b;
}

/// The events of a whole trace file, which is parsed as JSON.
json::array events_of(const std::string& path) { return json::parse(read_file(path)).as_array(); }
std::string text_of(const json::value& event, std::string_view key) {
  const auto* const found = event.as_object().if_contains(key);
  return found == nullptr ? std::string{} : std::string{found->as_string()};
}
/// A run says how it ended only where it was not with a value.
std::string outcome_of(const json::value& run) {
  const auto text = text_of(run.at("args"), "outcome");
  CHECK(text != "value");
  return text.empty() ? "value" : text;
}
bool is_run(const json::value& event) {
  return text_of(event, "ph") == "X" && text_of(event, "cat") == "task";
}

}  // namespace

TEST_CASE("each duration is counted in the bucket whose ends it lies between") {
  using kindred::internal::TimeHistogram;
  for (std::size_t i = 0; i + 1 < TimeHistogram::buckets; ++i) {
    const auto end = TimeHistogram::end_of(i);
    CHECK(TimeHistogram::bucket_of(end - 1) == i);
    CHECK(TimeHistogram::bucket_of(end) == i + 1);
  }
  CHECK(TimeHistogram::bucket_of(0) == 0);
  CHECK(TimeHistogram::bucket_of(UINT64_MAX) == TimeHistogram::buckets - 1);
}

TEST_CASE_EACH_START_METHOD("the door tells what each worker does, which tasks ran, and who died of what") {
  ResourceAudit audit;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    pool.logger().add_sink([](const LogRecord&) {});
    pool.submit(add, 1, 2).get();
    auto view = snapshot();  // from now on the pool is watched
    CHECK(whole(view.at("pid")) == static_cast<std::uint64_t>(::getpid()));
    CHECK(view.at("start_method").as_string() == to_string(method));
    CHECK(whole(view.at("run_time").at("count")) == 0);

    for (int i = 0; i < 20; ++i) CHECK(pool.submit(add, i, 1).get() == i + 1);
    for (int i = 0; i < 3; ++i) CHECK_THROWS(pool.submit({.name = "thrower"}, throw_something).get());
    CHECK_THROWS_AS(pool.submit({.name = "killer"}, kill_itself).get(), WorkerLost);
    Event begun = pool.make_event();
    Event go = pool.make_event();
    auto waiting = pool.submit({.name = "waiter"}, begin_and_wait, begun, go);
    begun.wait();

    view = snapshot_where([](const json::value& now) { return !now.at("deaths").as_array().empty(); });
    CHECK(whole(view.at("totals").at("done")) == 21);
    CHECK(whole(view.at("totals").at("failed")) == 3);
    CHECK(whole(view.at("totals").at("lost")) == 1);
    CHECK(whole(view.at("totals").at("running")) == 1);
    CHECK(whole(view.at("run_time").at("count")) == 23);
    const auto* const added = named(view, "kindred::test::add(int, int)");
    const auto* const by_short_name = added != nullptr ? added : named(view, "kindred::test::add");
    REQUIRE_MESSAGE(by_short_name != nullptr, json::serialize(view.at("names")));
    CHECK(whole(by_short_name->at("ended")) == 20);
    REQUIRE(named(view, "thrower") != nullptr);
    CHECK(whole(named(view, "thrower")->at("failed")) == 3);
    REQUIRE(named(view, "killer") != nullptr);
    CHECK(whole(named(view, "killer")->at("lost")) == 1);

    const auto& death = view.at("deaths").at(0);
    CHECK(death.at("kind").as_string() == "SIGKILL");
    CHECK(death.at("task_name").as_string() == "killer");
    CHECK(whole(view.at("restarts_by_kind").at("SIGKILL")) == 1);
    bool one_runs = false;
    for (const auto& worker : view.at("workers").as_array()) {
      if (worker.at("state").as_string() != "running") continue;
      one_runs = true;
      CHECK(worker.at("task_name").as_string() == "waiter");
      CHECK(whole(worker.at("rss_bytes")) > 0);
    }
    CHECK(one_runs);
    go.set();
    CHECK(waiting.get() == 7);
  }
}

TEST_CASE_EACH_START_METHOD("the last lines of a death are those of the task that was lost") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.logger().add_sink([](const LogRecord&) {});
  for (int i = 0; i < 5; ++i) CHECK(pool.submit(say_and_add, i, 1).get() == i + 1);
  CHECK_THROWS_AS(pool.submit(say_and_die, 2).get(), WorkerLost);
  const auto view =
      snapshot_where([](const json::value& now) { return !now.at("deaths").as_array().empty(); });
  const auto& lines = view.at("deaths").at(0).at("last_lines").as_array();
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].as_string() == "[warn] last words 0");
  CHECK(lines[1].as_string() == "[warn] last words 1");
}

TEST_CASE("the metrics add up, in the door's answer and in the file that the pool writes") {
  const TemporaryFolder folder;
  const std::string path = folder / "pool.prom";
  {
    ProcessPoolExecutor pool{entry(), {.max_workers = 2, .metrics_file = path, .metrics_interval = 1h}};
    pool.logger().add_sink([](const LogRecord&) {});
    CHECK_CONTAINS(read_file(path), "kindred_tasks_total{");  // from the start
    for (int i = 0; i < 50; ++i) pool.submit(add, i, 1).get();
    CHECK_THROWS(pool.submit(throw_something).get());
    const auto lines = ask("metrics");
    REQUIRE(!lines.empty());
    CHECK(lines.back() == "d");
    const auto has = [&](std::string_view part) {
      return std::ranges::any_of(lines, [&](const auto& line) { return contains(line, part); });
    };
    CHECK(has("outcome=\"done\"} 50"));
    CHECK(has("outcome=\"failed\"} 1"));
  }
  const std::string text = read_file(path);  // written once more at the end
  CHECK_CONTAINS(text, "outcome=\"done\"} 50\n");
  CHECK_CONTAINS(text, "kindred_task_run_seconds_count{");
  CHECK(text.ends_with("# EOF\n"));
  // A bucket counts all that those before it count.
  std::map<std::string, std::uint64_t> last;
  std::uint64_t buckets = 0;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (!contains(line, "_bucket{")) continue;
    ++buckets;
    const auto name = line.substr(0, line.find('{'));
    const auto count = std::stoull(line.substr(line.rfind(' ') + 1));
    CHECK(count >= last[name]);
    last[name] = count;
  }
  CHECK(buckets == 2 * 17);
  CHECK(last["kindred_task_run_seconds_bucket"] == 51);
  CHECK(std::ranges::distance(std::filesystem::directory_iterator{folder.path()}) == 1);
}

TEST_CASE("a metrics file that cannot be written is told in the constructor") {
  CHECK_THROWS_CONTAINS(
      (ProcessPoolExecutor{entry(), ExecutorOptions{.metrics_file = "/nowhere/at/all/pool.prom"}}),
      SystemError, "/nowhere/at/all/pool.prom");
}

TEST_CASE_EACH_START_METHOD(
    "the slices of a trace add up to the stats, and show deaths, records and what caused what") {
  ResourceAudit audit;
  const TemporaryFolder folder;
  const std::string path = folder / "trace.json";
  PoolStats stats;
  std::uint64_t first_id = 0;
  std::uint64_t second_id = 0;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .trace = path}};
    pool.logger().add_sink([](const LogRecord&) {});
    std::vector<Future<int>> futures;
    for (int i = 0; i < 200; ++i) futures.push_back(pool.submit(say_and_add, i, 1));
    for (auto& future : futures) future.get();
    CHECK_THROWS(pool.submit({.name = "thrower"}, throw_something).get());
    CHECK_THROWS_AS(pool.submit({.name = "killer"}, kill_itself).get(), WorkerLost);
    auto first = pool.submit({.name = "first"}, add, 1, 2);
    first_id = first.task_id();
    auto then = first.then([&](int sum) {
      auto second = pool.submit({.name = "second"}, add, sum, 4);
      second_id = second.task_id();
      return second.get();
    });
    CHECK(then.get() == 7);
    stats = pool.stats();
  }
  const auto events = events_of(path);
  std::size_t values = 0;
  std::size_t failures = 0;
  std::size_t lost = 0;
  std::size_t records = 0;
  double sum_us = 0;
  double queued_us = 0;
  std::set<std::string> names;
  std::map<std::string, std::pair<int, int>> arrows;  // by id: begins, ends
  for (const auto& event : events) {
    names.insert(text_of(event, "name"));
    if (text_of(event, "cat") == "log") ++records;
    if (text_of(event, "ph") == "s") ++arrows[text_of(event, "id")].first;
    if (text_of(event, "ph") == "f") ++arrows[text_of(event, "id")].second;
    if (event.as_object().contains("flow_out")) ++arrows[text_of(event, "bind_id")].first;
    if (event.as_object().contains("flow_in")) ++arrows[text_of(event, "bind_id")].second;
    if (!is_run(event)) continue;
    const auto outcome = outcome_of(event);
    values += outcome == "value" ? 1U : 0U;
    failures += outcome == "failure" ? 1U : 0U;
    lost += outcome == "lost" ? 1U : 0U;
    if (outcome == "lost") continue;
    sum_us += event.at("dur").to_number<double>();
    queued_us += event.at("args").at("queued_us").to_number<double>();
  }
  CHECK(values == stats.done);
  CHECK(failures == stats.failed);
  CHECK(lost == stats.lost);
  CHECK(sum_us * 1e3 == doctest::Approx(static_cast<double>(stats.run_time.count())).epsilon(0.001));
  CHECK(queued_us * 1e3 == doctest::Approx(static_cast<double>(stats.queue_time.count())).epsilon(0.01));
  CHECK(records >= 200);
  CHECK(names.contains("adding 199"));
  CHECK(names.contains("worker 0 started"));
  CHECK((names.contains("worker 0 died") && names.contains("tasks")));
  for (const auto& [id, ends] : arrows) CHECK_MESSAGE((ends.first == 1 && ends.second == 1), id);
  CHECK(arrows.size() == values + failures + lost + 1);  // one to each run, and one from "first" to "second"
  CHECK_MESSAGE(arrows.contains("after " + std::to_string(second_id)), first_id);
  CHECK(events.back().at("args").at("lost_events").to_number<int>() == 0);
}

#ifdef KINDRED_WORD_COUNT
TEST_CASE_EACH_START_METHOD("the trace of word_count is whole, and its slices add up to the pool's stats") {
  const TemporaryFolder folder;
  const TemporaryFolder beside;
  for (int i = 0; i < 300; ++i)
    write_file(folder / ("file" + std::to_string(i)),
               std::string(static_cast<std::size_t>(i + 1) * 40, 'w') + " of words\n");
  const std::string path = beside / "trace.json";
  const auto outcome = run_program(
      KINDRED_WORD_COUNT,
      {folder.path(), "--start-method", std::string{to_string(method)}, "--workers", "2", "--trace", path});
  INFO(to_string(outcome));
  REQUIRE(outcome.code == 0);
  CHECK_CONTAINS(outcome.out, "900 words in 300 files");
  // What the program itself says of its calls.
  const auto at = outcome.err.find(" calls ran for ");
  REQUIRE(at != std::string::npos);
  const auto begin = outcome.err.rfind(' ', at - 1) + 1;
  const auto calls = std::stoul(outcome.err.substr(begin));
  const double run_seconds = std::stod(outcome.err.substr(at + std::string_view{" calls ran for "}.size()));

  const auto events = events_of(path);
  std::size_t runs = 0;
  double sum_us = 0;
  std::set<std::string> names;
  std::map<std::int64_t, std::vector<std::pair<double, double>>> slices;
  for (const auto& event : events) {
    CHECK_MESSAGE((event.is_object() && !text_of(event, "ph").empty()), json::serialize(event));
    if (!is_run(event)) continue;
    ++runs;
    CHECK(outcome_of(event) == "value");
    names.insert(text_of(event, "name"));
    sum_us += event.at("dur").to_number<double>();
    slices[event.at("tid").to_number<std::int64_t>()].emplace_back(event.at("ts").to_number<double>(),
                                                                   event.at("dur").to_number<double>());
  }
  CHECK(runs == calls);
  CHECK(sum_us / 1e6 == doctest::Approx(run_seconds).epsilon(0.001));
  CHECK(names.size() == 1);
  CHECK_CONTAINS(*names.begin(), "count_words");
  // A worker runs one call at a time: its slices do not overlap (to the nanosecond that the file has).
  CHECK((!slices.empty() && slices.size() <= 2));
  for (auto& [track, its] : slices) {
    std::ranges::sort(its);
    for (std::size_t i = 1; i < its.size(); ++i)
      CHECK(its[i - 1].first + its[i - 1].second <= its[i].first + 0.01);
  }
  CHECK(events.back().at("args").at("lost_events").to_number<int>() == 0);
}
#endif

TEST_CASE("a trace ends when it is told to, stays under its limit, and can be begun again") {
  const TemporaryFolder folder;
  ProcessPoolExecutor pool{entry(), {.max_workers = 2}};
  pool.logger().add_sink([](const LogRecord&) {});
  pool.trace(folder / "small.json", 65536);
  for (int i = 0; i < 2000; ++i) pool.submit(add, i, 1).get();
  pool.trace("");
  pool.submit({.name = "in between"}, add, 1, 2).get();
  pool.trace(folder / "second.json");
  pool.submit({.name = "the only one"}, add, 1, 2).get();
  pool.trace("");

  CHECK(std::filesystem::file_size(folder / "small.json") <= 65536 + 512);
  const auto small = events_of(folder / "small.json");
  CHECK(std::ranges::count_if(small, is_run) > 10);
  CHECK(small.back().at("args").at("lost_events").to_number<int>() > 1000);
  const auto second = events_of(folder / "second.json");
  CHECK(std::ranges::count_if(second, is_run) == 1);
  CHECK_THROWS_CONTAINS(pool.trace("/nowhere/at/all.json"), SystemError, "/nowhere/at/all.json");
  CHECK_THROWS_CONTAINS(pool.trace(folder / "x.json", 10), UsageError, "65536 or more");
}

TEST_CASE("times are counted from the first question on, whether a trace is written, ends or begins") {
  const TemporaryFolder folder;
  ProcessPoolExecutor pool{entry(), {.max_workers = 1, .trace = folder / "first.json"}};
  const auto counted = [] { return whole(snapshot().at("run_time").at("count")); };
  pool.submit({.name = "traced"}, add, 1, 2).get();
  CHECK(counted() == 0);
  pool.submit({.name = "traced"}, add, 1, 2).get();
  CHECK(counted() == 1);
  pool.trace("");
  for (int i = 0; i < 3; ++i) pool.submit({.name = "not traced"}, add, 1, 2).get();
  CHECK(counted() == 4);
  pool.trace(folder / "second.json");
  pool.submit({.name = "traced again"}, add, 1, 2).get();
  CHECK(counted() == 5);
  pool.trace("");
  CHECK(std::ranges::count_if(events_of(folder / "first.json"), is_run) == 2);
  CHECK(std::ranges::count_if(events_of(folder / "second.json"), is_run) == 1);
}

TEST_CASE("a trace of a process that is killed is whole but for its last bracket") {
  const TemporaryFolder folder;
  const std::string path = folder / "killed.json";
  const auto outcome = run_forked([&] {
    ProcessPoolExecutor pool{entry(), {.max_workers = 1, .trace = path}};
    for (int i = 0; i < 200; ++i) pool.submit(add, i, 1).get();
    pool.submit({.name = "the last one"}, add, 1, 1).get();
    // Whole lines only: a write that is under way would be cut by the kill.
    const auto is_written = [](const std::string& text) {
      return contains(text, "the last one") && text.ends_with(",\n");
    };
    while (!is_written(read_file(path))) std::this_thread::sleep_for(10ms);
    ::raise(SIGKILL);
  });
  CHECK(outcome.signal == SIGKILL);
  std::string text = read_file(path);
  while (text.ends_with('\n') || text.ends_with(',')) text.pop_back();
  CHECK(json::parse(text + "]").as_array().size() > 200);
}

TEST_CASE("visitors who take nothing do not slow the pool, and its end does not wait for them") {
  ResourceAudit audit;
  {
    ProcessPoolExecutor pool{entry(), {.max_workers = 2, .log = {.block_limit = 1h}}};
    int lines = 0;
    pool.logger().add_sink(
        [&lines](const LogRecord& record) { lines += record.message.size() > 1000 ? 1 : 0; });
    pool.submit(add, 1, 2).get();
    std::vector<kindred::internal::DoorPool> visitors;
    for (const auto& name : kindred::internal::door_names()) {
      if (name.pid != static_cast<std::uint32_t>(::getpid())) continue;
      for (int i = 0; i < 8; ++i) {
        visitors.push_back(*kindred::internal::connect_to_pool(name, std::chrono::steady_clock::now() + 5s));
        kindred::internal::TailRequest request;
        if (i % 2 == 0) {
          request.ask = "pool";
          request.others.push_back({"every_ms", std::int64_t{100}});
        }
        kindred::internal::ask_pool(visitors.back(), request);
      }
    }
    REQUIRE(visitors.size() == 8);
    for (int i = 0; i < 2000; ++i) CHECK(pool.submit(say_much, i).get() == i + 1);
    pool.logger().flush();
    CHECK(lines == 10'000);
    for (std::size_t i = 1; i < visitors.size(); i += 2) {
      int unread = 0;
      while (unread == 0) {  // the case's deadline ends it
        REQUIRE(::ioctl(visitors[i].socket.get(), FIONREAD, &unread) == 0);
        std::this_thread::yield();
      }
      CHECK(unread < 5'000'000);  // of ten million: there is no room for more
    }
    const auto begun = std::chrono::steady_clock::now();
    pool.shutdown();
    CHECK(std::chrono::steady_clock::now() - begun < 10s);
  }
}
