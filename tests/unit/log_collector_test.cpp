// From log calls in several processes to one log: delivery, order, death, full lanes.

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "collect/drain.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/sinks.hpp"
#include "unit/log_support.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

kindred::internal::Deadline in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

// ThreadSanitizer ends a process that starts a thread where its parent had several at the fork.
#ifdef __SANITIZE_THREAD__
constexpr bool may_start_threads = false;
#else
constexpr bool may_start_threads = true;
#endif

/// A sink that stands still until it is let go.
struct StandingSink {
  std::mutex lock;
  std::atomic<bool> inside{false};
  AnySink sink() {
    return AnySink{[this](const LogRecord&) {
      inside = true;
      const std::lock_guard hold{lock};
    }};
  }
  void wait_until_inside() const {
    while (!inside) std::this_thread::yield();
  }
};

std::uint64_t dropped_by_notes(const std::vector<LogRecord>& records) {
  std::uint64_t count = 0;
  for (const auto& record : records) {
    unsigned long long n = 0;
    if (record.origin == Origin::lifecycle &&
        std::sscanf(record.message.c_str(), "worker %*d: %llu record", &n) == 1)
      count += n;
  }
  return count;
}

std::vector<LogRecord> of_origin(const std::vector<LogRecord>& records, Origin origin) {
  std::vector<LogRecord> found;
  std::copy_if(records.begin(), records.end(), std::back_inserter(found),
               [origin](const auto& record) { return record.origin == origin; });
  return found;
}

/// Sequences of a thread may jump only where a note on drops was given.
void check_sequences_without_gaps(const std::vector<LogRecord>& records) {
  std::map<std::pair<int, std::uint32_t>, std::uint64_t> last;
  for (const auto& record : records) {
    if (record.origin != Origin::log) continue;
    auto& before = last[{record.worker, record.tid}];
    REQUIRE(record.sequence == before + 1);
    before = record.sequence;
  }
}

}  // namespace

TEST_CASE("each line of a file is of its own record, however tasks, threads, loggers and scopes change") {
  // No sink asks for whole records: each line is made from a record's bytes, and from what is remembered of
  // its lane.
  TestLog log{{},
              {.task_name = [](std::uint64_t function) { return "function " + std::to_string(function); }},
              false};
  const TemporaryFolder folder;
  const std::string text = folder / "text.log";
  const std::string same = folder / "same.log";
  const std::string json = folder / "json.log";
  log.logger.add_sink(sinks::file(text));
  log.logger.add_sink(sinks::file(same));
  log.logger.add_sink(sinks::json(json));
  LogProcess worker{log, 3, [] {
                      const Logger other = Logger{"other"}.with({{"user", 7}});
                      for (std::uint32_t task = 1; task < 40; ++task) {
                        enter_task({.task_id = task / 2,
                                    .attempt = task % 3,
                                    .function_reference = task % 4,
                                    .name = task % 5 == 0 ? "by name" : ""});
                        log_info("task {} {}", task, "begins\n");
                        log_warn("task {}", task);
                        other.info("of another logger {}", task / 8.0, kv("n", task));
                        {
                          const LogScope scope{{"scope", task}};
                          log_info("within a scope {}", "\xff é");
                        }
                        if (may_start_threads && task % 10 == 0)
                          std::thread{[task] { log_error("of a thread {}", task); }}.join();
                        leave_task();
                        log_info("outside");
                      }
                    }};
  CHECK(worker.end().complete);
  CHECK(log.logger.flush());
  PatternFormatter pattern{""};
  JsonFormatter as_json{{}, to_string(StartMethod::fork)};
  TextBuffer lines;
  TextBuffer objects;
  std::size_t records = 0;
  for (const auto& record : log.logger.kept_records()) {
    pattern.append(record, lines);
    lines.push_back('\n');
    as_json.append(record, objects);
    objects.push_back('\n');
    ++records;
  }
  CHECK(records == 39 * 5 + (may_start_threads ? 3 : 0));
  CHECK(read_file(text) == lines.view());
  CHECK(read_file(same) == lines.view());
  CHECK(read_file(json) == objects.view());
}

TEST_CASE("a record knows its process, thread, task and place") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  TestLog log{{},
              {.task_name = [](std::uint64_t function) { return "function " + std::to_string(function); }}};
  LogProcess process{log, 3,
                     [] {
                       log_info("before");
                       enter_task({.task_id = 41, .attempt = 2, .function_reference = 7, .name = {}});
                       log_warn("in {}", "task");
                       std::thread{[] { log_error("in a thread of the task"); }}.join();
                       leave_task();
                       enter_task({.task_id = 42, .attempt = 1, .function_reference = 7, .name = "by name"});
                       log_info("named");
                       leave_task();
                       log_info("after");
                     },
                     5};
  const auto pid = static_cast<std::uint32_t>(process.pid());
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == 5);
  for (const auto& record : records) {
    CHECK(record.worker == 3);
    CHECK(record.incarnation == 5);
    CHECK(record.pid == pid);
    CHECK(record.source.file == std::string_view{__FILE__});
    CHECK(record.source.line > 0);
    CHECK(!record.source.function.empty());
    CHECK(record.origin == Origin::log);
    CHECK(!record.late);
  }
  CHECK(records[0].task_id == 0);
  CHECK(records[0].task_name.empty());
  CHECK(records[1].task_id == 41);
  CHECK(records[1].task_name == "function 7");
  CHECK(records[1].attempt == 2);
  CHECK(records[1].message == "in task");
  CHECK(records[1].level == Level::warn);
  CHECK(records[1].tid == pid);
  CHECK(records[2].task_id == 41);
  CHECK(records[2].tid != pid);
  CHECK(records[2].sequence == 1);
  CHECK(records[3].task_id == 42);
  CHECK(records[3].task_name == "by name");
  CHECK(records[4].task_id == 0);
  CHECK(records[4].task_name.empty());
  CHECK(records[4].sequence == 4);
}

TEST_CASE("the time of a record is the wall clock at its call, and never runs back") {
  TestLog log;
  const auto before = std::chrono::system_clock::now() - 10ms;
  LogProcess process{log, 0, [] {
                       for (int i = 0; i < 2000; ++i) log_info("{}", i);
                     }};
  process.end();
  const auto after = std::chrono::system_clock::now() + 10ms;
  const auto records = log.records();
  REQUIRE(records.size() == 2000);
  CHECK(std::is_sorted(records.begin(), records.end(),
                       [](const auto& a, const auto& b) { return a.time < b.time; }));
  CHECK(records.front().time >= before);
  CHECK(records.back().time <= after);
}

TEST_CASE("records of the parent and of workers are one log") {
  TestLog log;
  Gate gate;
  LogProcess process{log, 0, [&gate] {
                       gate.pass();
                       log_info("second");
                     }};
  log.logger.info("first");
  gate.open();
  process.end();
  log_info("third");  // the only live executor's
  const auto records = log.records();
  REQUIRE(records.size() == 3);
  CHECK(records[0].message == "first");
  CHECK(records[0].worker == -1);
  CHECK(records[0].pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(records[1].message == "second");
  CHECK(records[2].message == "third");
}

TEST_CASE("fields of loggers, scopes and calls arrive with their types") {
  TestLog log;
  LogProcess process{log, 0, [] {
                       const Logger net = Logger{"net"}.with({{"host", "a"}, {"port", 80}});
                       net.info("plain");
                       {
                         const LogScope outer{{"request", 17}, {"user", std::string{"ada"}}};
                         net.info("in scope", kv("took", 0.5));
                         const LogScope inner{{"user", "bob"}, {"deep", true}};
                         log_info("deeper");
                       }
                       net.with({{"port", 81u}}).info("other port");
                       log_info("bare");
                     }};
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == 5);
  const auto field = [](const LogRecord& record, std::string_view key) -> const FieldValue& {
    for (const auto& one : record.fields) {
      if (one.key == key) return one.value;
    }
    FAIL("no field " << std::string{key});
    throw 0;
  };
  CHECK(records[0].logger == "net");
  CHECK(records[0].fields.size() == 2);
  CHECK(std::get<std::int64_t>(field(records[0], "port")) == 80);
  CHECK(records[1].fields.size() == 5);
  CHECK(std::get<std::int64_t>(field(records[1], "request")) == 17);
  CHECK(std::get<std::string>(field(records[1], "user")) == "ada");
  CHECK(std::get<double>(field(records[1], "took")) == 0.5);
  CHECK(records[1].message == "in scope");
  CHECK(records[2].logger.empty());
  CHECK(records[2].fields.size() == 3);
  CHECK(std::get<std::string>(field(records[2], "user")) == "bob");
  CHECK(std::get<bool>(field(records[2], "deep")));
  CHECK(records[3].logger == "net");
  CHECK(std::get<std::uint64_t>(field(records[3], "port")) == 81);
  CHECK(records[3].fields.size() == 2);
  CHECK(records[4].fields.empty());
  CHECK(records[4].logger.empty());
}

TEST_CASE("the fields of a scope or a logger travel once, not with each record") {
  TestLog log;
  constexpr int lines = 1000;
  LogProcess process{log, 0, [] {
                       const LogScope scope{{"request", std::string(1000, 'r')}};
                       const Logger net = Logger{"net"}.with({{"host", std::string(1000, 'h')}});
                       for (int i = 0; i < lines; ++i) net.info("{}", i);
                     }};
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == lines);
  for (const auto& record : records) REQUIRE(record.fields.size() == 2);
  CHECK(log.logger.stats().bytes < lines * 64);
}

TEST_CASE("a thousand loggers with fields of their own, used in turn, keep them apart") {
  TestLog log;
  LogProcess process{log, 0, [] {
                       std::vector<Logger> loggers;
                       for (int i = 0; i < 1000; ++i)
                         loggers.push_back(Logger{"l" + std::to_string(i)}.with({{"n", i}}));
                       for (int round = 0; round < 3; ++round) {
                         for (int i = 0; i < 1000; ++i) loggers[static_cast<std::size_t>(i)].info("{}", i);
                       }
                     }};
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == 3000);
  bool right = true;
  for (const auto& record : records) {
    right = right && record.logger == "l" + record.message && record.fields.size() == 1 &&
            std::get<std::int64_t>(record.fields[0].value) == std::stol(record.message);
  }
  CHECK(right);
}

TEST_CASE("what cannot go into a record as it is, is formatted by the caller") {
  struct Local {};
  TestLog log;
  LogProcess process{log, 0, [] {
                       log_info("{:{}}|{:.{}f}", 7, 5, 3.14159, 2);
                       log_info(fmt::runtime(std::string{"runtime {}"}), 1);
                       log_info(fmt::runtime("{:d} does not fit"), "text");
                       long double wide = 1.5L;
                       log_info("{} {}", wide, "and a string", kv("k", 1));
                       log_info("{:p}", static_cast<const void*>(nullptr));
                     }};
  process.end();
  const auto messages = log.messages();
  REQUIRE(messages.size() == 5);
  CHECK(messages[0] == "    7|3.14");
  CHECK(messages[1] == "runtime 1");
  CHECK_CONTAINS(messages[2], "{:d} does not fit (this message could not be formatted: ");
  CHECK(messages[3] == "1.5 and a string");
  CHECK(messages[4] == "0x0");
}

TEST_CASE("a custom level carries its name and counts as its base") {
  static const auto audit = define_level("collector-audit", 35, "bold");
  LogOptions options;
  options.level = Level::warn;
  TestLog log{options};
  LogProcess process{log, 0, [] {
                       kindred::log(audit, "seen");
                       Logger{"x"}.log(audit, "seen too");
                       static const auto quiet = define_level("collector-quiet", 12);
                       kindred::log(quiet, "not seen");
                     }};
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].level == Level::warn);
  CHECK(records[0].level_name == "collector-audit");
  CHECK(records[1].level_name == "collector-audit");
}

TEST_CASE("a level that is changed in the parent is in force at the next call of a running process") {
  TestLog log;
  Gate step;
  Gate done;
  LogProcess process{log, 2, [&] {
                       const Logger net{"net.http"};
                       for (int i = 0; i < 6; ++i) {
                         step.pass();
                         log_debug("debug {}", i);
                         net.debug("net {}", i);
                         done.open();
                       }
                     }};
  const auto go = [&] {
    step.open();
    done.pass();
  };
  go();  // 0: info
  log.logger.set_level("net", Level::debug);
  go();  // 1: net only
  log.logger.set_level(Level::debug);
  go();  // 2: both
  log.logger.set_level("net.http", Level::off);
  go();  // 3: debug only
  log.logger.set_level(2, Level::error);
  go();  // 4: none (this worker), net.http is off
  log.logger.set_level("net.http", Level::trace);
  go();  // 5: net only
  process.end();
  CHECK(log.messages() == std::vector<std::string>{"net 1", "debug 2", "net 2", "debug 3", "net 5"});
}

TEST_CASE("there is room for forty levels by name, and an error for one more") {
  TestLog log;
  for (int i = 0; i < 40; ++i) log.logger.set_level("name" + std::to_string(i), Level::debug);
  log.logger.set_level("name7", Level::warn);
  CHECK_THROWS_CONTAINS(log.logger.set_level("one.more", Level::debug), UsageError,
                        "'one.more' would be the 41st");
  CHECK_THROWS_CONTAINS(log.logger.set_level(std::string(63, 'x'), Level::debug), UsageError, "has 63 bytes");
  CHECK(!log.logger.named("name7").enabled(Level::info));
  CHECK(log.logger.named("name8").enabled(Level::debug));
  CHECK(!log.logger.named("other").enabled(Level::debug));
}

TEST_CASE(
    "each of many threads keeps its order, more threads than lanes too, and no record is lost or doubled") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  constexpr int threads = 14;
  constexpr int each = 3000;
  TestLog log;
  LogProcess process{log, 0, [] {
                       std::vector<std::thread> all;
                       for (int t = 0; t < threads; ++t) {
                         all.emplace_back([t] {
                           const LogScope scope{{"thread", t}};
                           for (int i = 0; i < each; ++i) log_info("{} {}", t, i);
                         });
                       }
                       for (auto& thread : all) thread.join();
                     }};
  const auto end = process.end();
  CHECK(end.records == threads * each);
  CHECK(end.dropped == 0);
  const auto records = log.records();
  REQUIRE(records.size() == threads * each);
  std::map<int, int> next;
  std::map<int, std::set<std::uint32_t>> tids;
  bool right = true;
  for (const auto& record : records) {
    int t = 0;
    int i = 0;
    right = right && std::sscanf(record.message.c_str(), "%d %d", &t, &i) == 2 && i == next[t]++;
    right = right && record.fields.size() == 1 && std::get<std::int64_t>(record.fields[0].value) == t;
    tids[t].insert(record.tid);
  }
  CHECK(right);
  std::set<std::uint32_t> distinct;
  for (const auto& [t, of_thread] : tids) {
    CHECK(of_thread.size() == 1);
    distinct.insert(*of_thread.begin());
  }
  CHECK(distinct.size() == threads);
  check_sequences_without_gaps(records);
}

TEST_CASE("threads that come and go use the same lanes one after the other") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  TestLog log;
  LogProcess process{log, 0, [] {
                       for (int i = 0; i < 200; ++i) std::thread{[i] { log_info("{}", i); }}.join();
                     }};
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == 200);
  for (int i = 0; i < 200; ++i) {
    REQUIRE(records[static_cast<std::size_t>(i)].message == std::to_string(i));
    REQUIRE(records[static_cast<std::size_t>(i)].sequence == 1);
  }
}

TEST_CASE("the log is in the order of one clock over processes and threads") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  // Each record tells the clock before and after its call. Where one call ended before another one began,
  // they must be in that order.
  constexpr int processes = 4;
  constexpr int threads = 3;
  const int each = long_run() ? 20'000 : 2'000;
  LogOptions options;
  options.hold_limit = 10s;  // on a busy machine a thread may be away from the middle of a record for long
  TestLog log{options};
  std::vector<std::unique_ptr<LogProcess>> all;
  for (int w = 0; w < processes; ++w) {
    all.push_back(std::make_unique<LogProcess>(log, w, [each] {
      std::vector<std::thread> crew;
      for (int t = 0; t < threads; ++t) {
        crew.emplace_back([each] {
          std::uint64_t before_last = 0;
          std::uint64_t after_last = 0;
          for (int i = 0; i <= each; ++i) {
            const auto before = ordered_ticks();
            log_info("{} {}", before_last, after_last);  // of the call before this one
            before_last = before;
            after_last = ordered_ticks();
          }
        });
      }
      for (auto& thread : crew) thread.join();
    }));
  }
  for (auto& process : all) CHECK(process->wait() == 0);  // before any is finished, as below
  for (auto& process : all) process->end();
  const auto records = log.records();
  REQUIRE(records.size() == static_cast<std::size_t>(processes * threads * (each + 1)));
  // The call that record k of a thread tells of is record k-1 of the thread.
  std::map<std::pair<int, std::uint32_t>, std::size_t> latest;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> span(records.size(), {0, ~std::uint64_t{0}});
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto key = std::pair{records[i].worker, records[i].tid};
    unsigned long long before = 0;
    unsigned long long after = 0;
    REQUIRE(std::sscanf(records[i].message.c_str(), "%llu %llu", &before, &after) == 2);
    if (const auto found = latest.find(key); found != latest.end()) span[found->second] = {before, after};
    latest[key] = i;
  }
  std::uint64_t youngest_begin = 0;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (span[i].second < youngest_begin) ++wrong;
    youngest_begin = std::max(youngest_begin, span[i].first);
  }
  CHECK(wrong == 0);
  CHECK(log.logger.stats().late == 0);
  check_sequences_without_gaps(records);
}

TEST_CASE("all that a killed process has committed is in the sinks when its end is told, and nothing else") {
  const int kills = long_run() ? 300 : 25;
  for (int round = 0; round < kills; ++round) {
    TestLog log;
    SharedPages shared{4096};
    auto& committed = *new (shared.bytes().data()) std::atomic<std::uint64_t>{0};
    LogProcess process{log, 0, [&committed] {
                         for (std::uint64_t i = 1;; ++i) {
                           log_info("record {}", i);
                           committed.store(i, std::memory_order_release);
                         }
                       }};
    while (committed < 500U + static_cast<unsigned>(round) * 37U) yield_cpu();
    ::kill(process.pid(), SIGKILL);
    CHECK(WIFSIGNALED(process.wait()));
    const auto end = process.finish();
    const std::uint64_t told = committed.load();
    CHECK(end.complete);
    CHECK(!end.corrupt);
    CHECK(end.dropped == 0);
    CHECK(end.records >= told);
    CHECK(end.records <= told + 1);
    CHECK(end.torn <= 1);
    const auto records = log.seen();  // without a flush
    REQUIRE(records.size() == end.records);
    for (std::size_t i = 0; i < records.size(); ++i)
      REQUIRE(records[i].message == "record " + std::to_string(i + 1));
    REQUIRE(end.last_lines.size() == 10);
    CHECK(end.last_lines.back() == "[info] record " + std::to_string(end.records));
    CHECK(end.last_lines.front() == "[info] record " + std::to_string(end.records - 9));
  }
}

TEST_CASE("a record that a process had begun when it died is counted as torn") {
  TestLog log;
  LogProcess process{log, 0, [] {
                       log_info("whole");
                       LaneState* const lane = thread_lane.lane;
                       if (lane == nullptr || lane->ring.reserve(64) == nullptr) std::abort();
                       static_cast<void>(lane->ring.enter());
                       ::kill(::getpid(), SIGKILL);
                     }};
  CHECK(WIFSIGNALED(process.wait()));
  const auto end = process.finish();
  CHECK(end.records == 1);
  CHECK(end.torn == 1);
  CHECK(log.logger.stats().torn == 1);
  CHECK(log.messages() == std::vector<std::string>{"whole"});
}

namespace {

/// In a process of its own: logs a record, and is stopped in the middle of a second one until it may go on.
void log_with_a_stop(const Gate& entered, const Gate& go_on) {
  log_info("warm up");
  LaneState* const lane = thread_lane.lane;
  if (lane->ring.reserve(128) == nullptr) std::abort();
  const std::uint64_t early = lane->ring.enter();
  entered.open();
  go_on.pass();
  // The rest of the call: a copy of the first record, with the time of the entry.
  std::byte* const at = lane->ring.reserve(128);
  const std::uint32_t words[2] = {16, 0};
  std::memcpy(at, words, sizeof words);
  std::memcpy(at + 8, &early, sizeof early);
  lane->ring.commit(16);
  wake_collector(*lane);
}

/// A log with two records, of which the older one is stopped in the middle of its call in a worker, and the
/// younger one is the parent's.
struct HeldUpLog {
  explicit HeldUpLog(std::chrono::milliseconds hold_limit)
      : log{[&] {
          LogOptions options;
          options.hold_limit = hold_limit;
          return options;
        }()} {
    entered.pass();
    log.logger.info("of the parent");
  }
  void go_on() {
    may_go_on.open();
    slow.end();
  }
  TestLog log;
  Gate entered;
  Gate may_go_on;
  LogProcess slow{log, 0, [this] { log_with_a_stop(entered, may_go_on); }};
};

}  // namespace

TEST_CASE("a thread that is stopped in the middle of a log call holds younger records up") {
  HeldUpLog held{1h};
  TestLog& log = held.log;
  CHECK(!log.logger.flush(50ms));
  CHECK(log.seen().size() <= 1);
  held.go_on();
  CHECK(log.messages() == std::vector<std::string>{"warm up", "warm up", "of the parent"});
  CHECK(log.logger.stats().late == 0);
}

TEST_CASE(
    "a thread that is stopped in the middle of a log call holds the others up for the hold limit at most, and its record is marked late") {
  HeldUpLog held{50ms};
  TestLog& log = held.log;
  const auto records = log.records();  // the flush waits for the hold limit, and not for ever
  REQUIRE(records.size() == 2);
  CHECK(records[1].message == "of the parent");
  held.go_on();
  const auto all = log.records();
  REQUIRE(all.size() == 3);
  CHECK(all[2].worker == 0);
  CHECK(all[2].late);
  CHECK(log.logger.stats().late == 1);
}

TEST_CASE(
    "the end of a dead process does not wait for a living one that is stopped in the middle of a log call") {
  LogOptions options;
  options.hold_limit = 60s;
  TestLog log{options};
  Gate entered;
  LogProcess stopped{log, 0, [&] {
                       log_info("warm up");
                       if (thread_lane.lane->ring.reserve(64) == nullptr) std::abort();
                       static_cast<void>(thread_lane.lane->ring.enter());
                       entered.open();
                       ::pause();
                     }};
  entered.pass();
  LogProcess dead{log, 1, [] { log_info("last words"); }};
  CHECK(dead.wait() == 0);
  const auto end = dead.finish(in(20s));
  CHECK(end.complete);
  CHECK(end.records == 1);
  const auto records = log.seen();
  CHECK(std::any_of(records.begin(), records.end(),
                    [](const auto& record) { return record.message == "last words"; }));
}

TEST_CASE("a full lane makes its writer wait, and nothing is lost") {
  TestLog log;
  StandingSink standing;
  log.logger.add_sink(standing.sink());
  LogProcess process{log, 0, [] {
                       for (int i = 0; i < 20'000; ++i) log_info("{} {}", i, "some text that fills the lane");
                     }};
  standing.wait_until_inside();
  const auto end = process.end();
  CHECK(end.dropped == 0);
  CHECK(end.records == 20'000);
}

namespace {

/// A worker that has logged more than its lane holds, while the sink stood still.
class OverfullLane {
 public:
  /// In the worker, `fill` runs while the sink stands still, and `afterwards` when it has been let go.
  OverfullLane(
      WhenFull policy, const std::function<void()>& fill, const std::function<void()>& afterwards = [] {})
      : log{[&] {
              LogOptions options;
              options.when_full = policy;
              return options;
            }(),
            {},
            true} {
    const std::lock_guard hold{standing_.lock};
    log.logger.add_sink(standing_.sink());
    process_ = std::make_unique<LogProcess>(log, 4, [&] {
      fill();
      filled_.open();
      afterwards();
    });
    filled_.pass();
  }
  /// Waits for the worker's end. Some of its `count` records must have been dropped, and the notes in the log
  /// must say how many. Returns the others.
  std::vector<LogRecord> end(std::uint64_t count) {
    const auto end = process_->end();
    CHECK(end.dropped > 0);
    CHECK(end.records + end.dropped == count);
    const auto records = log.records();
    CHECK(dropped_by_notes(records) == end.dropped);
    CHECK(log.logger.stats().dropped == end.dropped);
    return of_origin(records, Origin::log);
  }
  TestLog log;

 private:
  StandingSink standing_;
  Gate filled_;
  std::unique_ptr<LogProcess> process_;
};

}  // namespace

TEST_CASE("a full lane under drop_newest costs records, all of them counted, and reported at their place") {
  Gate go_on;
  OverfullLane lane{WhenFull::drop_newest,
                    [] {
                      for (int i = 0; i < 20'000; ++i) log_info("{}", i);
                    },
                    [&] {
                      go_on.pass();
                      log_info("room again");
                    }};
  CHECK(lane.log.logger.flush());
  go_on.open();
  const auto logged = lane.end(20'001);
  CHECK(logged.back().message == "room again");
  CHECK(logged.back().sequence == 20'001);
  bool right = true;
  for (const auto& record : logged) {
    if (&record != &logged.back()) right = right && record.sequence == std::stoull(record.message) + 1;
  }
  CHECK(right);
}

TEST_CASE("a full lane under drop_oldest keeps the youngest records, and counts the others exactly") {
  OverfullLane lane{WhenFull::drop_oldest, [] {
                      const LogScope scope{{"kept", true}};
                      const Logger named{"name"};
                      enter_task({.task_id = 9, .attempt = 1, .function_reference = 0, .name = "task"});
                      for (int i = 0; i < 50'000; ++i) named.info("{}", i);
                    }};
  const auto logged = lane.end(50'000);
  CHECK(logged.back().message == "49999");
  bool right = true;
  for (const auto& record : logged) {
    right = right && record.sequence == std::stoull(record.message) + 1 && record.logger == "name" &&
            record.fields.size() == 1 && record.task_id == 9 && record.task_name == "task";
  }
  CHECK(right);
}

TEST_CASE("records are dropped by the oldest while the collector reads: none twice, none unaccounted for") {
  LogOptions options;
  options.when_full = WhenFull::drop_oldest;
  options.lane_bytes = 16 * 1024;
  TestLog log{options};
  LogProcess process{log, 0, [] {
                       for (int i = 0; i < 300'000; ++i) log_info("{} {}", i, 0.5);
                     }};
  const auto end = process.end();
  CHECK(end.records + end.dropped == 300'000);
  CHECK(!end.corrupt);
  const auto records = of_origin(log.records(), Origin::log);
  std::uint64_t last = 0;
  bool right = true;
  for (const auto& record : records) {
    right = right && record.sequence > last && record.message == std::to_string(record.sequence - 1) + " 0.5";
    last = record.sequence;
  }
  CHECK(right);
  CHECK(last == 300'000);
}

TEST_CASE("a hung sink costs a writer one wait under the blocking policy, then records, and no task hangs") {
  LogOptions options;
  options.block_limit = 50ms;
  TestLog log{options};
  StandingSink standing;
  std::unique_ptr<LogProcess> process;
  {
    const std::lock_guard hold{standing.lock};
    log.logger.add_sink(standing.sink());
    process = std::make_unique<LogProcess>(log, 0, [] {
      for (int i = 0; i < 30'000; ++i) log_info("{}", i);  // would take 25,000 waits of 50 ms
    });
    CHECK(process->wait() == 0);
    const auto end = process->finish(in(20ms));
    CHECK(!end.complete);
  }
  CHECK(log.logger.flush());
  const auto records = log.records();
  const auto logged = of_origin(records, Origin::log);
  CHECK(logged.size() + dropped_by_notes(records) == 30'000);
}

TEST_CASE("a message of five megabytes arrives whole under each policy") {
  for (const auto policy : {WhenFull::block, WhenFull::drop_newest, WhenFull::drop_oldest}) {
    INFO("policy ", static_cast<int>(policy));
    LogOptions options;
    options.when_full = policy;
    TestLog log{options};
    std::string large(5'000'000, 'x');
    for (std::size_t i = 0; i < large.size(); i += 997) large[i] = static_cast<char>(i % 256);
    LogProcess process{log, 0, [&large] {
                         log_info("before");
                         log_info("{}", large, kv("size", large.size()));
                         log_info("after");
                       }};
    process.end();
    const auto records = log.records();
    REQUIRE(records.size() == 3);
    CHECK(records[1].message == large);
    REQUIRE(records[1].fields.size() == 1);
    CHECK(std::get<std::uint64_t>(records[1].fields[0].value) == 5'000'000);
    CHECK(records[2].message == "after");
    check_sequences_without_gaps(records);
    const auto kept = log.logger.kept_records();
  }
}

TEST_CASE("hostile bytes in a message arrive as they are") {
  TestLog log;
  const std::string text{"a\0b\n\x1b[31m\xff\xfe \xe2\x80\xae end", 19};
  LogProcess process{log, 0, [&text] { log_info("{}", text); }};
  process.end();
  CHECK(log.messages() == std::vector<std::string>{text});
}

namespace {
template <int N>
void log_from_its_own_site() {
  log_info("site {}", N);
}
template <int... N>
void log_from_many_sites(std::integer_sequence<int, N...>) {
  (log_from_its_own_site<N>(), ...);
}
}  // namespace

TEST_CASE("sites that find no room in the dictionary travel with their records") {
  LogOptions options;
  options.site_bytes = 4096;
  TestLog log{options};
  LogProcess process{log, 0, [] {
                       for (int round = 0; round < 3; ++round)
                         log_from_many_sites(std::make_integer_sequence<int, 100>{});
                       log_info("{}", std::string(100'000, 'y'));
                     }};
  process.end();
  const auto records = log.records();
  REQUIRE(records.size() == 301);
  bool right = true;
  for (std::size_t i = 0; i < 300; ++i) {
    const auto n = std::to_string(i % 100);
    right = right && records[i].message == "site " + n &&
            records[i].source.function.find("= " + n) != std::string_view::npos;
  }
  CHECK(right);
  CHECK(records[300].message == std::string(100'000, 'y'));
}

TEST_CASE("records that the parent makes are merged by their time") {
  TestLog log;
  log.logger.info("one");
  const auto between = ticks();
  log.logger.info("three");
  LogRecord record;
  record.message = "two";
  record.origin = Origin::stdout;
  record.worker = 6;
  record.level = Level::warn;
  const LogRecord also = record;
  log.collector.emit(std::move(record), between);
  log.logger.info("four");
  LogRecord last = also;
  last.message = "five";
  log.collector.emit(std::move(last));
  auto records = log.records();
  REQUIRE(records.size() == 5);
  // "two" may have come too late to be put in front of "three"; then it says so.
  const auto two =
      std::find_if(records.begin(), records.end(), [](const auto& r) { return r.message == "two"; });
  REQUIRE(two != records.end());
  CHECK((two == records.begin() + 1 || two->late));
  CHECK(two->origin == Origin::stdout);
  CHECK(two->worker == 6);
  CHECK(records[4].message == "five");
  CHECK(records[4].time > records[0].time);
  CHECK(log.logger.stats().emitted == 2);
}

TEST_CASE(
    "a process that writes nonsense is reported once and read no further; the others are not disturbed") {
  std::atomic<int> reports{0};
  std::string what;
  TestLog log{{}, {.task_name = {}, .corrupt = [&](SourceId, std::string_view text) {
                     what = text;
                     ++reports;
                   }}};
  Gate healthy_go;
  LogProcess healthy{log, 0, [&] {
                       log_info("healthy 1");
                       healthy_go.pass();
                       log_info("healthy 2");
                     }};
  LogProcess hostile{log, 1, [] {
                       log_info("good");
                       LaneState* const lane = thread_lane.lane;
                       std::byte* const at = lane->ring.reserve(32);
                       std::memset(at, 0xff, 32);
                       static_cast<void>(lane->ring.enter());
                       lane->ring.commit(32);
                       wake_collector(*lane);
                       ::pause();
                     }};
  while (reports == 0) std::this_thread::yield();
  healthy_go.open();
  healthy.end();
  ::kill(hostile.pid(), SIGKILL);
  hostile.wait();
  const auto end = hostile.finish();
  CHECK(end.corrupt);
  CHECK(end.records == 1);
  CHECK(reports == 1);
  CHECK(!what.empty());
  CHECK(log.logger.stats().corrupt_sources == 1);
  const auto records = log.records();
  CHECK(std::count_if(records.begin(), records.end(),
                      [](const auto& r) { return r.message.starts_with("healthy"); }) == 2);
  CHECK(std::count_if(records.begin(), records.end(), [](const auto& r) {
          return r.origin == Origin::lifecycle && r.level == Level::critical;
        }) == 1);
}

TEST_CASE("an area of random bytes and mutations is drained within its bounds") {
  // A good area, made by a process; then copies of it with changed bytes, each drained to its end.
  LogOptions options;
  options.lane_bytes = 16 * 1024;
  options.thread_lane_bytes = 16 * 1024;
  options.thread_lanes = 1;
  options.site_bytes = 4096;
  options.keep_bytes = 64 * 1024;
  const LogAreaShape shape{options};
  SharedPages pages{log_area_bytes(options)};
  format_log_area(pages.bytes(), options);
  const Outcome filled = run_forked([&] {
    attach_log(pages.bytes(), SharedBell{}, {});
    enter_task({.task_id = 3, .attempt = 1, .function_reference = 2, .name = "name"});
    const LogScope scope{{"a", 1}, {"b", "text"}};
    Logger{"logger"}.with({{"c", true}}).info("{} {:>5} {}", 1, 2.5, "x", kv("k", 7));
    log_info("{}", std::string(6000, 'l'));
    log_from_signal(Level::error, "raw");
    for (int i = 0; i < 50; ++i) log_warn("record {}", i);
    ::_exit(0);
  });
  REQUIRE(filled.code == 0);
  const int rounds = long_run() ? 200'000 : 3'000;
  std::uint64_t corrupt = 0;
  std::uint64_t delivered = 0;
  for (int seed = 0; seed < rounds; ++seed) {
    std::mt19937 random{static_cast<unsigned>(seed)};
    const auto copy = std::make_unique<std::byte[]>(pages.bytes().size() + 4096);
    auto address = reinterpret_cast<std::uintptr_t>(copy.get());
    address = (address + 4095) / 4096 * 4096;
    const std::span area{reinterpret_cast<std::byte*>(address), pages.bytes().size()};
    std::memcpy(area.data(), pages.bytes().data(), area.size());
    // Where something is: the control page, the lines, the dictionary, and the beginnings of the lanes.
    for (unsigned flips = seed == 0 ? 0U : static_cast<unsigned>(1 + random() % 6); flips > 0; --flips) {
      const std::size_t places[] = {
          64 + random() % 128,
          LogAreaShape::lines_offset + random() % (shape.named_offset() - LogAreaShape::lines_offset),
          shape.sites_offset() + random() % 1024,
          shape.room_offset(0) + random() % 8192,
          shape.room_offset(0) + random() % 512,
          shape.room_offset(shape.raw_lane()) + random() % 64};
      area[places[random() % std::size(places)]] = static_cast<std::byte>(random());
    }
    Drain drain{options, {}, std::make_shared<History>(options.keep_bytes)};
    drain.begin();
    auto counters = std::make_shared<SourceCounters>();
    auto source = std::make_unique<Source>(
        SourceId{1}, SourceIdentity{.worker = 0, .incarnation = 1, .pid = 1}, area, shape, nullptr, counters);
    source->ended = true;
    drain.sinks.add(SinkId{1}, AnySink{[](const LogRecord&) {}}.make({}), {});
    drain.add_source(std::move(source));
    for (int i = 0; i < 3; ++i) static_cast<void>(drain.round(true, [] {}));
    const auto end = drain.end_source(SourceId{1});
    if (end.corrupt) ++corrupt;
    delivered += end.records;
    if (seed == 0) {
      CHECK(!end.corrupt);
      CHECK(end.records == 53);
    }
  }
  CHECK(corrupt > static_cast<std::uint64_t>(rounds / 20));
  CHECK(delivered > static_cast<std::uint64_t>(rounds));
}

TEST_CASE("an area that changes while it is drained is drained within its bounds") {
  if (KINDRED_THREAD_SANITIZER != 0)
    KINDRED_SKIP("a hostile process has no order that ThreadSanitizer could follow");
  LogOptions options;
  options.lane_bytes = 16 * 1024;
  options.keep_bytes = 64 * 1024;
  const LogAreaShape shape{options};
  SharedPages pages{log_area_bytes(options)};
  std::atomic<bool> stop{false};
  for (int round = 0; round < (long_run() ? 300 : 15); ++round) {
    format_log_area(pages.bytes(), options);
    std::fill(pages.bytes().begin() + static_cast<std::ptrdiff_t>(shape.room_offset(0)), pages.bytes().end(),
              std::byte{});
    const Outcome filled = run_forked([&] {
      attach_log(pages.bytes(), SharedBell{}, {});
      for (int i = 0; i < 100; ++i) log_info("record {} {}", i, "text", kv("k", "v"));
      ::_exit(0);
    });
    REQUIRE(filled.code == 0);
    stop = false;
    std::thread hostile{[&] {
      std::mt19937 random{static_cast<unsigned>(round)};
      auto* const bytes = reinterpret_cast<volatile unsigned char*>(pages.bytes().data());
      while (!stop) {
        bytes[shape.room_offset(0) + random() % 8192] = static_cast<unsigned char>(random());
        if (random() % 64 == 0)
          bytes[shape.sites_offset() + random() % 256] = static_cast<unsigned char>(random());
      }
    }};
    Drain drain{options, {}, std::make_shared<History>(options.keep_bytes)};
    drain.begin();
    drain.sinks.add(SinkId{1}, AnySink{[](const LogRecord&) {}}.make({}), {});
    auto source = std::make_unique<Source>(SourceId{1}, SourceIdentity{}, pages.bytes(), shape, nullptr,
                                           std::make_shared<SourceCounters>());
    drain.add_source(std::move(source));
    for (int i = 0; i < 20; ++i) static_cast<void>(drain.round(true, [] {}));
    stop = true;
    hostile.join();
    static_cast<void>(drain.end_source(SourceId{1}));
  }
}

TEST_CASE("flush means that all that was committed before is in the sinks, while others go on writing") {
  TestLog log{{}, {}, false};
  std::atomic<std::uint64_t> arrived{0};
  log.logger.add_sink([&arrived](const LogRecord&) { ++arrived; });
  SharedPages shared{4096};
  auto& committed = *new (shared.bytes().data()) std::atomic<std::uint64_t>{0};
  auto& stop = *new (shared.bytes().data() + 64) std::atomic<bool>{false};
  LogProcess process{log, 0, [&] {
                       for (std::uint64_t i = 1; !stop; ++i) {
                         log_info("{}", i);
                         committed.store(i, std::memory_order_release);
                       }
                     }};
  for (int round = 0; round < 50; ++round) {
    const std::uint64_t before = committed.load(std::memory_order_acquire);
    REQUIRE(log.logger.flush());
    REQUIRE(arrived + log.logger.stats().dropped >= before);
  }
  stop = true;
  process.end();
}

TEST_CASE("every record is committed once and delivered once, and the counts say so") {
  // A process that is given no CPU in the middle of a record would be late by the usual limits, and one whose
  // collector is given none would drop records.
  TestLog log{{.block_limit = 1h, .hold_limit = 1h}};
  std::vector<std::unique_ptr<LogProcess>> all;
  for (int w = 0; w < 3; ++w) {
    all.push_back(std::make_unique<LogProcess>(log, w, [] {
      for (int i = 0; i < 5000; ++i) log_info("{}", i);
    }));
  }
  for (int i = 0; i < 1000; ++i) log.logger.info("{}", i);
  // All have ended before any is finished: a finish waits at most 1 ms for records that others have begun.
  for (auto& process : all) CHECK(process->wait() == 0);
  for (auto& process : all) CHECK(process->end().records == 5000);
  CHECK(log.records().size() == 16'000);
  const auto stats = log.logger.stats();
  CHECK(stats.committed == 16'000);
  CHECK(stats.delivered == 16'000);
  CHECK(stats.dropped == 0);
  CHECK(stats.late == 0);
  REQUIRE(stats.sinks.size() == 1);
  CHECK(stats.sinks[0].written == 16'000);
}

TEST_CASE("an idle log never wakes up") {
  TestLog log;
  Gate gate;
  LogProcess process{log, 0, [&gate] {
                       log_info("then silence");
                       gate.pass();
                     }};
  while (log.seen().empty()) std::this_thread::yield();
  // A thread that gets no processor does not wake up either: the collector itself says that it sleeps.
  const auto& state = reinterpret_cast<const LogControl*>(process.area().data())->collector;
  const auto wait_until_asleep = [&state] {
    while (state.load() != static_cast<std::uint32_t>(CollectorState::sleeping)) std::this_thread::yield();
  };
  bool quiet = false;
  for (int again = 0; again < 10 && !quiet; ++again) {  // a bell that was rung before may wake it once more
    wait_until_asleep();
    const auto wakeups = log.logger.stats().wakeups;
    std::this_thread::sleep_for(long_run() ? 10s : 500ms);
    quiet = log.logger.stats().wakeups == wakeups;
  }
  CHECK(quiet);
  gate.open();
  process.end();
  log.logger.info("awake");
  CHECK(log.messages() == std::vector<std::string>{"then silence", "awake"});
}

TEST_CASE("a record wakes a sleeping collector, each time") {
  // The hand-over that matters: the collector goes to sleep just as a record is committed.
  TestLog log;
  const int rounds = long_run() ? 2'000 : 60;
  SharedPages shared{4096};
  auto& turn = *new (shared.bytes().data()) std::atomic<std::uint32_t>{0};
  LogProcess process{log, 0, [&] {
                       for (int i = 0; i < rounds; ++i) {
                         while (turn.load() != static_cast<std::uint32_t>(i))
                           futex_wait(turn, turn.load(), in(10ms));
                         log_info("{}", i);
                       }
                     }};
  for (int i = 0; i < rounds; ++i) {
    while (log.seen().size() != static_cast<std::size_t>(i) + 1) yield_cpu();
    if (i % 2 == 0)
      std::this_thread::sleep_for(
          std::chrono::microseconds{9'000 + 100 * (i % 30)});  // about when it falls asleep
    turn = static_cast<std::uint32_t>(i) + 1;
    futex_wake(turn, 1);
  }
  process.end();
}
