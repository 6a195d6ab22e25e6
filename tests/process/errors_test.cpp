// What a user reads: each error of misuse names the fact, the values and the mend; and each figure of stats()
// is what happened.
#include <csignal>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

void throws() { throw std::runtime_error{"thrown on purpose"}; }
void preload_nothing() {}
void preload_in_a_worker(Worker&) {}
std::vector<char> rest_and_log(const std::vector<char>& bytes, int records) {
  std::this_thread::sleep_for(20ms);
  for (int i = 0; i < records; ++i) log_info("record {}", i);
  return std::vector<char>(bytes.size() / 2, 'r');
}
void log_without_end(int records) {
  for (int i = 0; i < records; ++i) log_info("{}", std::string(500, 'x'));
}

std::string text_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UsageError& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return error.what();
  }
  return "no error";
}
std::string refusal(ExecutorOptions options) {
  return text_of([&] { const ProcessPoolExecutor pool{entry(), std::move(options)}; });
}

}  // namespace

TEST_CASE(
    "each executor option out of range is refused by name, value and range, before anything is acquired") {
  ResourceAudit audit;
  const auto below = StartMethod::fork;
  struct Case {
    ExecutorOptions options;
    const char* text;
  };
  const std::vector<Case> cases{
      {{.start_method = static_cast<StartMethod>(9)},
       "ExecutorOptions::start_method is 9. Use fork, spawn or forkserver."},
      {{.start_method = below, .max_workers = -1},
       "ExecutorOptions::max_workers is -1. Use 1 to 4096, or 0 for the CPUs that this process may use."},
      {{.start_method = below, .max_workers = 4097}, "ExecutorOptions::max_workers is 4097. Use 1 to 4096"},
      {{.start_method = below, .max_workers = std::numeric_limits<std::uint64_t>::max()},
       "ExecutorOptions::max_workers is 9223372036854775807."},
      {{.start_method = below, .max_tasks_per_worker = -3},
       "ExecutorOptions::max_tasks_per_worker is -3. Use 1 or more, or 0 for no limit."},
      {{.start_method = below, .max_rss_per_worker = -1},
       "ExecutorOptions::max_rss_per_worker is -1. Use a number of bytes, or 0 for no limit."},
      {{.start_method = below, .idle_timeout = 0s},
       "ExecutorOptions::idle_timeout is 0 ns. Use a time greater than 0, or none."},
      {{.start_method = below, .max_pending = -1},
       "ExecutorOptions::max_pending is -1. Use 1 or more, or 0 for no limit."},
      {{.start_method = below, .on_worker_death = static_cast<OnWorkerDeath>(7)},
       "ExecutorOptions::on_worker_death is 7. Use replace or break_pool."},
      {{.start_method = below, .restart_limit = {.count = -1}},
       "ExecutorOptions::restart_limit.count is -1. Use 0 or more."},
      {{.start_method = below, .restart_limit = {.period = 0s}},
       "ExecutorOptions::restart_limit.period is 0 ns. Use a time greater than 0."},
      {{.start_method = below, .preload = {{preload_nothing}}},
       "ExecutorOptions::preload is set with start method fork. Use it with forkserver"},
      {{.start_method = StartMethod::forkserver, .preload = {Call{}}},
       "ExecutorOptions::preload is an empty call. Use {function, arguments...}."},
      {{.start_method = StartMethod::forkserver, .preload = {{preload_in_a_worker}}},
       "ExecutorOptions::preload is a function that takes kindred::Worker&. Use one that does not"},
      {{.start_method = below, .worker = {.env = {{"A=B", "c"}}}},
       "ExecutorOptions::worker.env is a variable named 'A=B'. Use names without '=' that are not empty."},
      {{.start_method = below, .worker = {.nice = 20}}, "ExecutorOptions::worker.nice is 20. Use -20 to 19."},
      {{.start_method = below, .log = {.level = static_cast<Level>(77)}}, "LogOptions::level is 77"},
      {{.start_method = below, .log = {.when_full = static_cast<WhenFull>(9)}},
       "LogOptions::when_full is 9; it must be block, drop_newest or drop_oldest."},
      {{.start_method = below, .log = {.block_limit = -1ms}},
       "LogOptions::block_limit is -1 ms; it must be between 0 and 24 hours."},
      {{.start_method = below, .log = {.keep_bytes = 1}},
       "LogOptions::keep_bytes is 1; it must be from 65536 (64 KiB) to 64 GiB."},
      {{.start_method = below, .log = {.lane_bytes = 20'000}},
       "LogOptions::lane_bytes is 20000; it must be a power of two from 16384 to 8388608."},
      {{.start_method = below, .log = {.thread_lane_bytes = 1}},
       "LogOptions::thread_lane_bytes is 1; it must be a power of two"},
      {{.start_method = below, .log = {.thread_lanes = 49}},
       "LogOptions::thread_lanes is 49; it must be from 1 to 48."},
      {{.start_method = below, .log = {.site_bytes = 5}},
       "LogOptions::site_bytes is 5; it must be a multiple of 4096 up to 16 MiB."},
      {{.start_method = below, .log = {.sink_failures = 0}},
       "LogOptions::sink_failures is 0; it must be at least 1."},
      {{.start_method = below, .log = {.flight_bytes = 3}}, "LogOptions::flight_bytes is 3"},
      {{.start_method = below, .initializer_timeout = -1s},
       "ExecutorOptions::initializer_timeout is -1000000000 ns. Use a time greater than 0, or none."},
      {{.start_method = below, .shutdown_grace = -1ns},
       "ExecutorOptions::shutdown_grace is -1 ns. Use 0 or more."},
      {{.start_method = below, .terminate_grace = 0s},
       "ExecutorOptions::terminate_grace is 0 ns. Use a time greater than 0, or none."},
      {{.start_method = below, .max_depth = 0}, "ExecutorOptions::max_depth is 0. Use 1 to 64."},
  };
  for (const auto& [options, text] : cases) CHECK_CONTAINS(refusal(options), text);
}

TEST_CASE_EACH_START_METHOD(
    "worker options that the system refuses break the pool at the first start, with option, value and mend") {
  ResourceAudit audit;
  struct Case {
    WorkerOptions options;
    const char* text;
    const char* mend;
  };
  for (const auto& [options, text, mend] : {
           Case{{.cwd = "/no/such/folder"},
                "entering WorkerOptions::cwd '/no/such/folder': No such file or directory",
                "Name a directory that the worker may enter"},
           Case{{.cpu_affinity = {1023}},
                "setting WorkerOptions::cpu_affinity {1023}: Invalid argument",
                "Name CPUs that this process may use"},
           Case{{.rlimits = {{999, 1}}},
                "setting WorkerOptions::rlimits[999] to 1",
                "Use a RLIMIT_ number, and a value up to the hard limit"},
       }) {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .worker = options}};
    pool.logger().add_sink([](const LogRecord&) {});
    std::string broken;
    try {
      pool.submit(number, 1).get();
    } catch (const BrokenProcessPool& error) {
      broken = error.what();
    }
    CHECK_CONTAINS(broken, "could not be set up");
    CHECK_CONTAINS(broken, text);
    CHECK_CONTAINS(broken, mend);
    CHECK_THROWS_AS(pool.submit(number, 1), BrokenProcessPool);
  }
}

TEST_CASE(
    "map options, limits of shared objects and of resize out of range are refused with value and range") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::spawn, .max_workers = 1}};
  const std::vector<int> items{1, 2};
  CHECK_CONTAINS(text_of([&] { (void)pool.map(number, items, {.chunk_size = -1}); }), "chunk_size is -1");
  CHECK_CONTAINS(text_of([&] { (void)pool.map(number, items, {.buffer_size = -1}); }), "buffer_size is -1");
  CHECK_CONTAINS(text_of([&] { (void)pool.map(number, items, {.timeout = -1s}); }), "timeout is -1");
  CHECK_CONTAINS(text_of([&] { pool.resize(0); }), "resize to 0 workers. Use 1 to 4096.");
  CHECK_CONTAINS(text_of([&] { pool.resize(5000); }), "resize to 5000 workers. Use 1 to 4096.");
  CHECK_CONTAINS(text_of([&] { (void)pool.make_semaphore(-1); }), "-1");
  CHECK_CONTAINS(text_of([&] { (void)pool.make_barrier(0); }), "0");
  CHECK_CONTAINS(text_of([&] { (void)pool.submit({.retries = 60001}, number, 1); }),
                 "TaskOptions::retries is 60001. Use 0 to 60000.");
  CHECK_CONTAINS(text_of([&] { (void)pool.submit({.queue_timeout = 0s}, number, 1); }),
                 "TaskOptions::queue_timeout is 0 ns. Use a time greater than 0, or none.");
  CHECK_CONTAINS(text_of([&] { (void)pool.submit({.name = std::string(5000, 'n')}, number, 1); }),
                 "TaskOptions::name has 5000 bytes. Use 4096 or less.");
  CHECK(pool.stats().submitted == 0);
}

TEST_CASE(
    "an unknown start method is refused with those that there are, from a program and from the environment") {
  CHECK_CONTAINS(text_of([] { (void)parse_start_method("threads"); }),
                 "unknown start method 'threads'. Use one of: fork, spawn, forkserver.");
  ::setenv("KINDRED_START_METHOD", "Spawn", 1);
  CHECK_CONTAINS(
      text_of([] { (void)default_start_method(); }),
      "the environment variable KINDRED_START_METHOD holds an unknown start method 'Spawn'. Use one of: fork, spawn, forkserver.");
  ::setenv("KINDRED_START_METHOD", "spawn", 1);
  CHECK(default_start_method() == StartMethod::spawn);
  ::unsetenv("KINDRED_START_METHOD");
  CHECK(default_start_method() == StartMethod::forkserver);
}

TEST_CASE_EACH_START_METHOD("a closed pool, a broken one and one with Ctrl-C handled twice say what to do") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .handle_interrupt = true}};
  CHECK_CONTAINS(
      refusal({.start_method = method, .handle_interrupt = true}),
      "ExecutorOptions::handle_interrupt is set for a second executor of this process. Set it for one of them.");
  CHECK(pool.submit(number, 1).get() == 1);
  CHECK_CONTAINS(text_of([&] { pool.set_initializer({number, 1}); }),
                 "set_initializer after the first task was submitted");
  pool.shutdown();
  const char* const closed =
      "submit on an executor that has been shut down. Submit before shutdown, or make another executor.";
  CHECK_CONTAINS(text_of([&] { (void)pool.submit(number, 1); }), closed);
  CHECK_CONTAINS(text_of([&] { (void)pool.try_submit(number, 1); }), closed);
  CHECK_CONTAINS(text_of([&] { (void)pool.map(number, std::vector{1}); }), closed);
  ProcessPoolExecutor ended{entry(), {.start_method = method, .max_workers = 1}};
  ended.kill_workers();
  CHECK_THROWS_CONTAINS(ended.submit(number, 1), BrokenProcessPool,
                        "the workers were ended by kill_workers before this task began");
}

TEST_CASE_EACH_START_METHOD("stats() counts what happened, for each worker and for the pool") {
  ResourceAudit audit;
  constexpr std::size_t bytes = 100'000;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method,
                            .max_workers = 1,
                            .log = {.when_full = WhenFull::drop_newest, .lane_bytes = 16 * 1024}}};
  std::uint64_t delivered = 0;
  pool.logger().add_sink(
      [&](const LogRecord& record) { delivered += record.origin == Origin::log ? 1U : 0U; });

  // Four done, which wait for 0, 20, 40 and 60 ms, and for the one that holds the worker until all are
  // submitted; one throws, one dies and is tried again, once.
  {
    const auto begun = pool.make_event(), go = pool.make_event();
    auto holds = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    std::vector<Future<std::vector<char>>> done;
    for (int i = 0; i < 4; ++i) done.push_back(pool.submit(rest_and_log, std::vector<char>(bytes, 'a'), 5));
    go.set();
    CHECK(holds.get() == 7);
    for (auto& future : done) CHECK(future.get().size() == bytes / 2);
  }
  CHECK_THROWS_AS(pool.submit(throws).get(), TaskError);
  CHECK_THROWS_AS(pool.submit({.retries = 1}, kill_itself).get(), WorkerLost);
  {
    const auto begun = pool.make_event(), go = pool.make_event();
    auto running = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    auto pending = pool.submit(number, 1), cancelled = pool.submit(number, 2);
    CHECK(cancelled.cancel());
    const auto now = pool.stats();
    CHECK(now.running == 1);
    CHECK(now.pending == 1);
    CHECK(now.workers == 1);
    CHECK(now.per_worker.at(0).running_task == running.task_id());
    CHECK(now.per_worker.at(0).pid == pool.worker_pids().at(0));
    CHECK(now.per_worker.at(0).rss_bytes > 1U << 20U);
    CHECK(now.rss_bytes == now.per_worker.at(0).rss_bytes);
    go.set();
    running.get();
    pending.get();
  }
  CHECK(pool.logger().flush());

  auto stats = pool.stats();
  CHECK(stats.submitted == 10);
  CHECK(stats.done == 7);
  CHECK(stats.failed == 1);
  CHECK(stats.lost == 1);
  CHECK(stats.cancelled == 1);
  CHECK(stats.retried == 1);
  CHECK(stats.restarts == 2);
  CHECK(stats.pending + stats.running == 0);
  CHECK(stats.run_time >= 80ms);
  CHECK(stats.queue_time >= 120ms);  // 0 + 20 + 40 + 60
  CHECK(stats.argument_bytes >= 4 * bytes);
  CHECK(stats.argument_bytes < 4 * bytes + 1000);
  CHECK(stats.result_bytes >= 2 * bytes);
  CHECK(stats.result_bytes < 2 * bytes + 1000);
  CHECK(stats.log.committed == 20);
  CHECK(stats.log.delivered == 20);
  CHECK(delivered == 20);
  CHECK(stats.log.dropped == 0);
  CHECK(stats.supervisor_wakeups > 0);
  REQUIRE(stats.per_worker.size() == 1);
  const auto& worker = stats.per_worker[0];
  CHECK(worker.index == 0);
  CHECK(worker.incarnation == 2);
  CHECK(worker.tasks_done == 7);
  CHECK(worker.tasks_failed == 1);
  CHECK(worker.tasks_lost == 2);  // the same task twice
  CHECK(worker.restarts == 2);
  CHECK(worker.recycled == 0);
  CHECK(worker.run_time == stats.run_time);
  CHECK(worker.queue_time == stats.queue_time);
  CHECK(worker.result_bytes == stats.result_bytes);
  CHECK(worker.records == 20);
  CHECK(worker.dropped_records == 0);
  CHECK(worker.running_task == 0);

  // A sink that is slower than the worker: what is dropped is counted.
  const auto slow = pool.logger().add_sink([](const LogRecord&) { std::this_thread::sleep_for(200us); });
  pool.submit(log_without_end, 2000).get();
  CHECK(pool.logger().flush());
  stats = pool.stats();
  CHECK(stats.per_worker[0].dropped_records > 0);
  CHECK(stats.per_worker[0].records + stats.per_worker[0].dropped_records == 2020);
  CHECK(stats.log.dropped == stats.per_worker[0].dropped_records);
  CHECK(stats.log.committed == stats.per_worker[0].records);
  CHECK(pool.logger().remove_sink(slow));
}

#ifdef KINDRED_WORD_COUNT
TEST_CASE("word_count says what is wrong with its arguments, and counts the files that it cannot read") {
  ResourceAudit audit;
  struct Case {
    std::vector<std::string> arguments;
    const char* text;
  };
  for (const auto& [arguments, text] : {
           Case{{"/no/such/place"}, "word_count: there is no /no/such/place"},
           Case{{}, "word_count: no path is given"},
           Case{{".", "--start-method", "threads"},
                "word_count: unknown start method 'threads'. Use one of: fork, spawn, forkserver."},
           Case{{".", "--workers", "many"}, "word_count: --workers is 'many', which is no number"},
           Case{{".", "--workers", "9999"},
                "word_count: ExecutorOptions::max_workers is 9999. Use 1 to 4096"},
           Case{{".", "--colour", "red"}, "word_count: unknown option --colour"},
           Case{{".", "--stop-words", "/no/such/words"},
                "word_count: cannot read the stop words in /no/such/words"},
       }) {
    const auto outcome = run_program(KINDRED_WORD_COUNT, arguments);
    INFO(to_string(outcome));
    CHECK(outcome.code == 2);
    CHECK_CONTAINS(outcome.err, text);
    CHECK(outcome.out.empty());
  }
  TemporaryFolder folder;
  write_file(folder / "readable", "three words here");
  // Nobody can read it, root included.
  const auto outcome = run_program(KINDRED_WORD_COUNT, {folder.path(), "/proc/self/mem"});
  INFO(to_string(outcome));
  CHECK(outcome.code == 0);
  CHECK_CONTAINS(outcome.err, "cannot read /proc/self/mem: Input/output error");
  CHECK_CONTAINS(outcome.err, "1 counted, 1 not readable");
  CHECK_CONTAINS(outcome.out, "3 words in 1 file;");
}
#endif
