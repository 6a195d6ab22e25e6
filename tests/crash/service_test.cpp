// A service's day in ten minutes: a pool of 4 whose tasks log, print, throw, run over their time and crash,
// whose workers are recycled; JSON and text files, rotated and packed; the flight recorder; spdlog set up by
// the initializer; a kindred-tail attached. Every line that was committed is in both files once and in order,
// and the files read back.
//   service_test [--seconds=N] [--seed=N]
// Without: KINDRED_TEST_SERVICE_SECONDS (600).
// ctest: LABELS long TIMEOUT 4600 COST 600
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "kindred/read_log.hpp"
#include "support/rows.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

namespace {

enum class Kind : int { plain, prints, throws, kills_itself, aborts, over_time };

void set_up_logging(std::string folder) {
  spdlog::register_logger(std::make_shared<spdlog::logger>(
      "billing", std::make_shared<spdlog::sinks::basic_file_sink_mt>(folder + "/billing.txt")));
  spdlog::get("billing")->set_pattern("%v");
}

/// Says in a file beside the pool how many lines of the task are committed by now: one write, never torn.
void tell(const std::string& oracle, std::uint64_t task, int lines) {
  const int file = ::open(oracle.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  std::string text = std::to_string(task) + " " + std::to_string(lines);
  text.resize(31, ' ');
  text += '\n';
  if (file < 0 || ::write(file, text.data(), text.size()) != static_cast<ssize_t>(text.size())) std::abort();
  ::close(file);
}

int serve(Worker& worker, std::string oracle, int kind, int lines) {
  const auto task = worker.task_id();
  const LogScope scope{{"task", task}};
  for (int line = 1; line <= lines; ++line) {
    log_debug("detail {} of {}", line, task);
    if (line % 5 == 0)
      spdlog::get("billing")->info("line {} of {}", line, task);
    else
      log_info("line {} of {}", line, task, kv("text", std::string(static_cast<std::size_t>(line) * 7, 'x')));
    tell(oracle, task, line);
    if (static_cast<Kind>(kind) == Kind::prints)
      std::printf("printed %d of %llu\n", line, static_cast<unsigned long long>(task));
  }
  switch (static_cast<Kind>(kind)) {
    case Kind::throws: throw std::runtime_error{"no luck"};
    case Kind::kills_itself: ::raise(SIGKILL); break;
    case Kind::aborts: std::abort();
    case Kind::over_time: std::this_thread::sleep_for(60s); break;
    default: break;
  }
  return lines;
}

/// What one file has of each task: how many lines, one after the other.
struct Reading {
  std::map<std::uint64_t, int> lines;
  std::uint64_t records = 0;
  std::uint64_t out_of_order = 0;
  std::uint64_t bad_lines = 0;
  std::uint64_t details = 0;
  std::uint64_t printed = 0;
  std::set<std::uint64_t> with_details;
};

Reading read_back(const std::string& path) {
  Reading reading;
  auto log = read_log(path, {.rotated = true});
  for (const auto& record : log) {
    ++reading.records;
    int line = 0;
    unsigned long long task = 0;
    if (std::sscanf(record.message.c_str(), "line %d of %llu", &line, &task) == 2) {
      int& latest = reading.lines[task];
      if (line != latest + 1 || record.task_id != task) ++reading.out_of_order;
      latest = line;
    } else if (std::sscanf(record.message.c_str(), "detail %d of %llu", &line, &task) == 2) {
      ++reading.details;
      reading.with_details.insert(task);
    } else if (record.origin == Origin::stdout) {
      ++reading.printed;
    }
  }
  reading.bad_lines = log.bad_lines();
  return reading;
}

std::map<std::uint64_t, int> told(const std::string& oracle) {
  std::map<std::uint64_t, int> lines;
  const std::string text = read_file(oracle);
  for (std::size_t at = 0; at + 32 <= text.size(); at += 32) {
    // Not by sscanf: it looks for the end of all that is left, each time.
    std::uint64_t task = 0;
    int line = 0;
    const char* const end = text.data() + at + 32;
    const auto first = std::from_chars(text.data() + at, end, task);
    if (first.ec != std::errc{} || first.ptr == end ||
        std::from_chars(first.ptr + 1, end, line).ec != std::errc{})
      continue;
    lines[task] = std::max(lines[task], line);
  }
  return lines;
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct Sums {
  std::uint64_t tasks = 0, failed = 0, lost = 0, over_time = 0;
  LogStats log;
  std::set<std::uint64_t> went_well;
  std::uint64_t given_to_sinks = 0;
};

/// Submits tasks of all kinds until the time is over, a few at a time, some dozens a second.
void serve_until(steady_clock::time_point end, ProcessPoolExecutor& pool, const std::string& oracle,
                 std::uint64_t seed, Sums& sums) {
  std::mt19937_64 random{seed};
  std::deque<Future<int>> running;
  const auto take_in = [&] {
    auto future = std::move(running.front());
    running.pop_front();
    const auto id = future.task_id();
    try {
      static_cast<void>(future.get());
      sums.went_well.insert(id);
    } catch (const WorkerLost&) {
      ++sums.lost;
    } catch (const TaskTimeout&) {
      ++sums.over_time;
    } catch (const TaskError&) {
      ++sums.failed;
    }
  };
  while (steady_clock::now() < end) {
    const auto dice = random() % 100;
    const Kind kind = dice < 60   ? Kind::plain
                      : dice < 80 ? Kind::prints
                      : dice < 90 ? Kind::throws
                      : dice < 95 ? Kind::kills_itself
                      : dice < 98 ? Kind::aborts
                                  : Kind::over_time;
    TaskOptions options{.name = "serve"};
    if (kind == Kind::over_time) options.timeout = 300ms;
    running.push_back(
        pool.submit(options, serve, oracle, static_cast<int>(kind), 1 + static_cast<int>(random() % 30)));
    ++sums.tasks;
    while (running.size() > 8) take_in();
    std::this_thread::sleep_for(std::chrono::milliseconds{5 + random() % 10});  // the load of a service
  }
  while (!running.empty()) take_in();
}

}  // namespace

TEST_CASE("a service run: every committed line is in the files once, in order, and the files read back") {
  const auto seconds =
      std::chrono::seconds{number_from("KINDRED_TEST_SERVICE_SECONDS", long_run() ? 600 : 20)};
  const auto seed = number_from("KINDRED_TEST_SEED", static_cast<std::uint64_t>(::getpid()));
  const Deadline deadline{seconds * 2 + 240s};
  CAPTURE(seed);
  TemporaryFolder folder;
  const std::string oracle = folder / "oracle";
  const auto json = folder / "service.json", text = folder / "service-{time}.log";
  write_file(oracle, "");
  Sums sums;
  std::unique_ptr<Program> tail;
  {
    ProcessPoolExecutor pool{entry(),
                             {.max_workers = 4,
                              .initializer = {set_up_logging, std::string{folder.path()}},
                              .max_tasks_per_worker = 50,
                              .restart_limit = {.count = 100'000, .period = 1s},
                              .worker = {.capture_output = true},
                              .log = {.flight_recorder = Level::debug}}};
    pool.logger().add_sink(sinks::json(json, {.rotate = {"1 MB", "1 min"}, .compression = Compression::zst}));
    pool.logger().add_sink(sinks::file(text, {.rotate = "1 MB", .compression = Compression::zst}));
    pool.logger().add_sink([&](const LogRecord&) { ++sums.given_to_sinks; });  // read when the pool is gone
    pool.submit(number, 1).get();
    tail = std::make_unique<Program>(
        "/bin/sh",
        std::vector<std::string>{"-c", fmt::format("exec {} {} --json -n all > {}", KINDRED_TEST_TAIL,
                                                   ::getpid(), folder / "tail.json")});
    serve_until(steady_clock::now() + seconds, pool, oracle, seed, sums);
    CHECK(pool.logger().flush());
    sums.log = pool.logger().stats();
  }
  const auto tail_end = tail->wait();
  const auto committed = told(oracle);
  std::uint64_t lines = 0;
  for (const auto& path : {json, text}) {
    CAPTURE(path);
    const Reading reading = read_back(path);
    CHECK(reading.bad_lines == 0);
    CHECK(reading.out_of_order == 0);
    CHECK(reading.records == sums.given_to_sinks);
    std::uint64_t missing = 0;
    lines = 0;
    for (const auto& [task, count] : committed) {
      const auto found = reading.lines.find(task);
      const int there = found == reading.lines.end() ? 0 : found->second;
      // One more may be committed than was told: the task was killed between the two.
      missing += there < count ? static_cast<std::uint64_t>(count - there) : 0;
      lines += static_cast<std::uint64_t>(count);
    }
    CHECK(missing == 0);
    CHECK(reading.details > 0);
    for (const auto task : reading.with_details) CHECK_FALSE(sums.went_well.contains(task));
  }
  CHECK(sums.log.dropped == 0);
  CHECK(sums.log.unreadable == 0);
  CHECK(sums.log.corrupt_sources == 0);
  CHECK(sums.log.committed == sums.log.delivered + sums.log.held_back);
  std::uint64_t shown = 0;
  for (const auto& record : read_log(folder / "tail.json"))
    shown += record.origin != Origin::lifecycle ? 1U : 0U;
  CHECK(shown > 0);
  CHECK((tail_end.code == 0 || tail_end.code == 1));
  std::uint64_t packed = 0;
  for (const auto& file : std::filesystem::directory_iterator{folder.path()})
    packed += file.path().extension() == ".zst" ? 1U : 0U;
  scorecard(
      37,
      fmt::format(
          "{} s, seed {}: {} tasks ({} threw, {} workers lost, {} over their time), {} committed lines each in 2 "
          "files once and in order, {} records, {} details held back, {} files packed, {} shown by the tail",
          seconds.count(), seed, sums.tasks, sums.failed, sums.lost, sums.over_time, lines,
          sums.given_to_sinks, sums.log.held_back, packed, shown));
}
