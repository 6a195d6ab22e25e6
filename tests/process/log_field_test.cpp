// What people do with a pool's log in the field: spdlog set up late, fields over co_await, recycled workers
// with a flight recorder, tasks that return strings, floods of one message.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/dist_sink.h>
#include <spdlog/spdlog.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

// Not in the unnamed namespace: there the compiler gives a function no ABI tag.
std::string returns_a_string(int value) {
  log_info("in it");
  return std::to_string(value);
}

namespace {

/// The records of a pool, for a test.
class Seen {
 public:
  explicit Seen(ProcessPoolExecutor& pool) : pool_{pool} {
    sink_ = pool.logger().add_sink([this](const LogRecord& record) {
      const std::scoped_lock lock{mutex_};
      records_.push_back(record);
    });
  }
  Seen(const Seen&) = delete;
  Seen& operator=(const Seen&) = delete;
  ~Seen() { pool_.logger().remove_sink(sink_); }  // the pool outlives it, and may log to its end
  std::vector<LogRecord> all() {
    CHECK(pool_.logger().flush());
    const std::scoped_lock lock{mutex_};
    return records_;
  }
  std::size_t count(std::string_view message) {
    std::size_t found = 0;
    for (const auto& record : all()) found += record.message == message ? 1U : 0U;
    return found;
  }

 private:
  ProcessPoolExecutor& pool_;
  SinkId sink_{};
  std::mutex mutex_;
  std::vector<LogRecord> records_;
};

// --- spdlog, set up by code that knows nothing of a pool ---

using spdlog::logger;
using FileSink = spdlog::sinks::basic_file_sink_mt;

void set_up(std::string how, std::string folder) {
  const auto path = folder + "/" + how;
  if (how == "factory") spdlog::basic_logger_mt(how, path);
  if (how == "register")
    spdlog::register_logger(std::make_shared<logger>(how, std::make_shared<FileSink>(path)));
  if (how == "initialize")
    spdlog::initialize_logger(std::make_shared<logger>(how, std::make_shared<FileSink>(path)));
  if (how == "default")
    spdlog::set_default_logger(std::make_shared<logger>(how, std::make_shared<FileSink>(path)));
  if (how == "pattern") {
    spdlog::set_pattern("%v");
    spdlog::basic_logger_mt(how, path);
  }
  if (how == "own pattern") spdlog::basic_logger_mt(how, path)->set_pattern("%H %v");
  if (how == "dist") {
    auto sink = std::make_shared<spdlog::sinks::dist_sink_mt>();
    sink->add_sink(std::make_shared<FileSink>(path));
    spdlog::register_logger(std::make_shared<logger>(how, sink));
  }
  if (how == "dropped") {
    spdlog::drop_all();
    spdlog::set_default_logger(spdlog::basic_logger_mt(how, path));
  }
  if (how == "pushed") {
    spdlog::register_logger(spdlog::default_logger()->clone(how));
    spdlog::get(how)->sinks().push_back(std::make_shared<FileSink>(path));
  }
}
void set_up_and_log(std::string how, std::string folder) {
  set_up(how, folder);
  spdlog::get(how)->info("of its own task");
}
void log_by(std::string how, std::string text) { spdlog::get(how)->info(text); }
void set_pattern_of(std::string how) { spdlog::get(how)->set_pattern("%v"); }

const std::vector<std::string> ways{"factory", "register",    "initialize", "default", "pattern",
                                    "dist",    "own pattern", "dropped",    "pushed"};

// --- fields over co_await ---

struct Job {
  struct promise_type {
    Job get_return_object() { return {}; }
    std::suspend_never initial_suspend() { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};
int wait_for(Event go, int value) {
  go.wait();
  return value;
}
Job request(ProcessPoolExecutor& pool, Event go, int number, std::atomic<int>& done) {
  LogScope scope{{"request", number}};
  log_info("before");
  const int first = co_await pool.submit(wait_for, go, number);
  log_info("between");
  LogScope step{{"step", 2}};
  const int second = co_await pool.submit(wait_for, go, number);
  log_info("after {}", first + second);
  ++done;
}

// --- the flight recorder ---

int fine(int value) {
  log_debug("detail");
  return value;
}
int dies(int value) {
  log_debug("detail of the dying");
  std::abort();
  return value;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "spdlog loggers that a program's own set-up makes in an initializer are bridged") {
  for (const auto& how : ways) {
    CAPTURE(how);
    TemporaryFolder folder;
    ProcessPoolExecutor pool{
        entry(),
        {.start_method = method, .max_workers = 1, .initializer = {set_up, how, std::string{folder.path()}}}};
    Seen seen{pool};
    pool.submit(log_by, how, std::string{"from a task"}).get();
    REQUIRE(seen.count("from a task") == 1);
    CHECK(seen.all().back().logger == how);
  }
}

TEST_CASE_EACH_START_METHOD("spdlog loggers that a task makes are bridged from the next task on, once") {
  TemporaryFolder folder;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  Seen seen{pool};
  for (const auto& how : ways) {
    CAPTURE(how);
    pool.submit(set_up_and_log, how, std::string{folder.path()}).get();
    pool.submit(log_by, how, how + " next").get();
    CHECK(seen.count(how + " next") == 1);
    // A pattern of its own, given later, does not lead it away.
    pool.submit(set_pattern_of, how).get();
    pool.submit(log_by, how, how + " again").get();
    CHECK(seen.count(how + " again") == 1);
  }
}

TEST_CASE_EACH_START_METHOD(
    "a LogScope goes over co_await with its coroutine, and leaves no field on other records") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  Seen seen{pool};
  const auto go = pool.make_event();
  std::atomic<int> done{0};
  for (int i = 1; i <= 20; ++i) request(pool, go, i, done);
  log_info("main goes on");
  go.set();
  const Deadline deadline{60s};
  while (done < 20) std::this_thread::yield();
  pool.submit({.name = "after all"}, number, 1).then([](Future<int>) { log_info("callback"); }).wait();
  log_info("main is done");
  int after = 0;
  for (const auto& record : seen.all()) {
    if (record.origin != Origin::log || record.worker >= 0) continue;
    CAPTURE(record.message);
    const auto& fields = record.fields;
    if (record.message == "before" || record.message == "between") {
      REQUIRE(fields.size() == 1);
      CHECK(fields[0].key == "request");
    } else if (record.message.starts_with("after ")) {
      REQUIRE(fields.size() == 2);
      CHECK(record.message == "after " + std::to_string(2 * std::get<std::int64_t>(fields[0].value)));
      CHECK(fields[1].key == "step");
      ++after;
    } else {
      CHECK(fields.empty());
    }
  }
  CHECK(after == 20);
}

TEST_CASE_EACH_START_METHOD(
    "the flight recorder keeps the details of tasks that went well, also when a worker leaves") {
  std::vector<std::string> seen;
  {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method,
                              .max_workers = 1,
                              .max_tasks_per_worker = 10,
                              .log = {.flight_recorder = Level::debug}}};
    pool.logger().add_sink([&](const LogRecord& record) { seen.push_back(record.message); });
    for (int i = 0; i < 35; ++i) pool.submit(fine, i).get();
    CHECK_THROWS_AS(pool.submit(dies, 1).get(), WorkerLost);
    pool.submit(fine, 1).get();
  }
  CHECK(std::ranges::count(seen, "detail") == 0);
  CHECK(std::ranges::count(seen, "detail of the dying") == 1);
}

TEST_CASE_EACH_START_METHOD("a task that returns a string has its function's plain name") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  Seen seen{pool};
  pool.submit(returns_a_string, 1).get();
  CHECK(seen.all().back().task_name == "returns_a_string");
}
