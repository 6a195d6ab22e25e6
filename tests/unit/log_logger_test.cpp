// The logger as a program uses it: sinks, levels, reading, shutdown, forks.

#include <fcntl.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <stdexcept>
#include <thread>

#include "kindred/log_range.hpp"
#include "unit/log_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

struct Unprintable {};

template <int>
std::source_location place() {
  return std::source_location::current();
}

/// A sink that throws as long as it is told to.
struct FailingSink {
  std::atomic<bool> fails{true};
  std::atomic<int> calls{0};
  AnySink sink() {
    return AnySink{[this](const LogRecord&) {
      ++calls;
      if (fails) throw std::runtime_error("the sink is ill");
    }};
  }
};

/// Runs `body` in a fork and returns what it wrote to stderr.
std::string stderr_of(const std::function<void()>& body) {
  const Outcome outcome = run_forked(body);
  INFO(to_string(outcome));
  CHECK(outcome.code == 0);
  return outcome.err;
}

}  // namespace

template <>
struct fmt::formatter<Unprintable> : fmt::formatter<int> {
  auto format(Unprintable, format_context&) const -> format_context::iterator {
    throw std::runtime_error("cannot be printed");
  }
};

TEST_CASE("each sink has its own level and filter, and sees each record that passes them once") {
  TestLog log;
  std::atomic<int> warnings{0};
  std::atomic<int> filtered{0};
  log.logger.add_sink([&](const LogRecord&) { ++warnings; }, {.level = Level::warn});
  log.logger.add_sink([&](const LogRecord&) { ++filtered; },
                      {.filter = [](const LogRecord& r) { return r.message == "b"; }});
  log.logger.info("a");
  log.logger.warn("b");
  log.logger.error("c");
  CHECK(log.records().size() == 3);
  CHECK(warnings == 2);
  CHECK(filtered == 1);
}

TEST_CASE("a sink that was removed has all that was committed before, is destroyed, and gets nothing more") {
  TestLog log;
  auto count = std::make_shared<std::atomic<int>>(0);
  const SinkId id = log.logger.add_sink([count](const LogRecord&) { ++*count; });
  for (int i = 0; i < 1000; ++i) log.logger.info("{}", i);
  CHECK(log.logger.remove_sink(id));
  CHECK(*count == 1000);
  CHECK(count.use_count() == 1);
  log.logger.info("more");
  CHECK(log.records().size() == 1001);
  CHECK(*count == 1000);
  CHECK(!log.logger.remove_sink(id));
  log.logger.remove_sinks();
  log.logger.info("nobody");
  CHECK(log.records().size() == 1001);
}

TEST_CASE("a sink may remove itself, and gets no further record") {
  TestLog log;
  std::atomic<int> calls{0};
  std::atomic<std::uint64_t> id{0};
  id = static_cast<std::uint64_t>(log.logger.add_sink([&](const LogRecord&) {
    while (id == 0) std::this_thread::yield();
    ++calls;
    log.logger.remove_sink(SinkId{id.load()});
  }));
  for (int i = 0; i < 100; ++i) log.logger.info("{}", i);
  CHECK(log.records().size() == 100);
  CHECK(calls == 1);
}

TEST_CASE(
    "a sink that throws harms neither the others nor the program, and is taken out of service after a number of failures in a row") {
  const auto begun = std::chrono::steady_clock::now();
  const auto text = stderr_of([] {
    LogOptions options;
    options.sink_failures = 20;
    TestLog log{options};
    FailingSink failing;
    log.logger.add_sink(failing.sink());
    for (int i = 0; i < 10; ++i) log.logger.info("{}", i);
    log.logger.flush();
    failing.fails = false;
    log.logger.info("well");
    log.logger.flush();
    failing.fails = true;
    for (int i = 0; i < 30; ++i) log.logger.info("{}", i);
    log.logger.flush();
    if (failing.calls != 31) throw std::runtime_error("called " + std::to_string(failing.calls));
    std::size_t lifecycle = 0;
    const auto records = log.records();
    for (const auto& record : records) lifecycle += record.origin == Origin::lifecycle ? 1U : 0U;
    if (records.size() - lifecycle != 41 || lifecycle != 1)
      throw std::runtime_error("the other sink missed something");
    const auto stats = log.logger.stats();
    if (stats.sinks[1].failed != 30 || !stats.sinks[1].disabled || stats.sinks[1].written != 1)
      throw std::runtime_error("stats");
  });
  CHECK_CONTAINS(text, "kindred: log sink");
  CHECK_CONTAINS(text, "failed to write (1 in a row): the sink is ill");
  CHECK_CONTAINS(text, "(20 in a row): the sink is ill. It is not used any more");
  // At most one a second, and the last.
  const auto seconds = std::chrono::floor<std::chrono::seconds>(std::chrono::steady_clock::now() - begun);
  CHECK(std::count(text.begin(), text.end(), '\n') <= 2 + seconds.count());
}

TEST_CASE("a sink that fails at each record is taken out of service although it is flushed in between") {
  (void)stderr_of([] {
    LogOptions options;
    options.sink_failures = 5;
    TestLog log{options};
    FailingSink failing;
    log.logger.add_sink(failing.sink());
    for (int i = 0; i < 10; ++i) {
      log.logger.info("{}", i);
      log.logger.flush();
    }
    if (failing.calls != 5) throw std::runtime_error("called " + std::to_string(failing.calls));
  });
}

TEST_CASE("on_record sees each record before the sinks and may change it") {
  TestLog log;
  log.logger.on_record([](LogRecord& record) {
    if (record.message == "secret") record.message = "***";
    record.fields.push_back({"host", std::string{"here"}});
  });
  log.logger.info("secret");
  log.logger.info("open");
  auto records = log.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].message == "***");
  CHECK(records[0].fields.size() == 1);
  CHECK(records[1].fields.size() == 1);
  log.logger.on_record([](LogRecord&) { throw std::runtime_error("no"); });
  log.logger.info("third");
  log.logger.on_record({});
  log.logger.info("fourth");
  records = log.records();
  REQUIRE(records.size() == 4);
  CHECK(records[2].message == "third");
  CHECK(records[3].fields.empty());
}

TEST_CASE("flush and log calls from within a sink neither hang nor run in circles") {
  const auto text = stderr_of([] {
    TestLog log;
    std::atomic<int> refused{0};
    log.logger.add_sink([&](const LogRecord& record) {
      try {
        log.logger.flush();
      } catch (const UsageError& error) {
        if (contains(error.what(), "would wait for itself")) ++refused;
      }
      log_warn("about {}", record.message);
      log.logger.warn("also about {}", record.message);
    });
    log.logger.info("one");
    if (log.records().size() != 1 || refused != 1) throw std::runtime_error("circles");
  });
  CHECK_CONTAINS(text, "[warn] about one");
  CHECK_CONTAINS(text, "[warn] also about one");
}

TEST_CASE("while no sink was ever added, warnings and worse go to stderr as text, on one line each") {
  const auto text = stderr_of([] {
    TestLog log{{}, {}, false};
    log.logger.info("not this");
    log.logger.warn("one\nline \x1b[31m");
    log.logger.named("net").error("two", kv("code", 7));
    log.logger.flush();
  });
  CHECK(!contains(text, "not this"));
  CHECK_CONTAINS(text, "[warn] one\\nline \\x1b[31m\n");
  CHECK_CONTAINS(text, "[error] [net] two code=7\n");
}

TEST_CASE("a process without a log writes to stderr what its environment's level lets through") {
  const auto quiet = stderr_of([] {
    log_debug("debug");
    log_info("info {}", 1);
    const LogScope scope{{"request", 17}};
    Logger{"net"}.with({{"a", true}}).warn("warn {:>4}", "x");
    KINDRED_LOG_ERROR("error {}", 2.5);
    kindred::log_from_signal(Level::critical, "raw");
  });
  CHECK(!contains(quiet, "debug"));
  CHECK_CONTAINS(quiet, "[info] info 1\n");
  CHECK_CONTAINS(quiet, "[warn] [net] warn    x request=17 a=true\n");
  CHECK_CONTAINS(quiet, "[error] error 2.5 request=17\n");
  CHECK_CONTAINS(quiet, "raw\n");
}

TEST_CASE("macros do not evaluate the arguments of a disabled level") {
  TestLog log;
  int evaluated = 0;
  KINDRED_LOG_DEBUG("{}", ++evaluated);
  CHECK(evaluated == 0);
  KINDRED_LOG_INFO("{}", ++evaluated);
  CHECK(evaluated == 1);
  log.logger.set_level(Level::off);
  KINDRED_LOG_CRITICAL("{}", ++evaluated);
  CHECK(evaluated == 1);
}

TEST_CASE("arguments of a disabled level are not formatted") {
  TestLog log;
  log.logger.debug("{}", Unprintable{});  // would throw, and be told in the message
  log.logger.info("after");
  CHECK(log.messages() == std::vector<std::string>{"after"});
}

TEST_CASE(
    "an argument that throws when it is formatted is told in the message, and the call does not throw") {
  TestLog log;
  log.logger.info("value {}", Unprintable{});
  log.logger.info("field", kv("bad", Unprintable{}));
  const auto messages = log.messages();
  REQUIRE(messages.size() == 2);
  CHECK(messages[0] == "value {} (this message could not be formatted: cannot be printed)");
  CHECK_CONTAINS(messages[1], "threw when it was formatted");
}

TEST_CASE("an exception is logged with its type, its text and all its causes") {
  TestLog log;
  try {
    try {
      try {
        throw std::out_of_range("index 7");
      } catch (...) {
        std::throw_with_nested(std::runtime_error("reading the table"));
      }
    } catch (...) {
      std::throw_with_nested(std::logic_error("at the top"));
    }
  } catch (...) {
    log_exception(Level::error, std::current_exception(), "task failed");
  }
  log_exception(Level::warn, std::make_exception_ptr(5));
  log_exception(Level::warn, nullptr, "nothing");
  CHECK(catch_and_log([] { return 3; }) == 3);
  CHECK(!catch_and_log([]() -> int { throw std::runtime_error("caught"); }, "while trying").has_value());
  CHECK(catch_and_log([] {}));
  CHECK(!catch_and_log([] { throw std::string("a string"); }));
  const auto records = log.records();
  REQUIRE(records.size() == 5);
  CHECK(
      records[0].message ==
      "task failed: std::logic_error: at the top, caused by std::runtime_error: reading the table, caused by std::out_of_range: index 7");
  REQUIRE(records[0].fields.size() == 2);
  CHECK(std::get<std::string>(records[0].fields[0].value) == "std::logic_error");
  CHECK(std::get<std::string>(records[0].fields[1].value) == "at the top");
  CHECK(records[1].message == "int");
  CHECK(records[2].message == "nothing: no exception");
  CHECK(records[3].message == "while trying: std::runtime_error: caught");
  CHECK(records[3].level == Level::error);
  CHECK_CONTAINS(records[4].message, "a string");
}

TEST_CASE("a helper can log on behalf of its caller") {
  TestLog log;
  const auto helper = [](int value, std::source_location where = std::source_location::current()) {
    Logger{}.log_at(Level::info, where, "value {}", value);
  };
  const auto line = std::source_location::current().line() + 1;
  helper(5);
  const auto records = log.records();
  REQUIRE(records.size() == 1);
  CHECK(records[0].source.line == line);
  CHECK(records[0].message == "value 5");
}

TEST_CASE("calls of one place are told apart by their formats, their arguments' types and their levels") {
  TestLog log;
  const auto here = std::source_location::current();
  const auto say = [&](LevelCode level, auto value) {
    Logger{}.log_at(level, here, "value {}", value);
  };  // one format for all types
  std::vector<std::string> expected;
  for (int turn = 0; turn < 3; ++turn) {
    say(Level::info, turn);  // each of these differs from the one before it in one thing
    say(Level::warn, turn);
    say(Level::warn, 0.5);
    say(Level::info, 0.5);
    Logger{}.log_at(Level::info, here, "other {}", 0.5);
    for (const std::string& one :
         {"info value " + std::to_string(turn), "warning value " + std::to_string(turn),
          std::string{"warning value 0.5"}, std::string{"info value 0.5"}, std::string{"info other 0.5"}}) {
      expected.push_back(one);
    }
  }
  std::vector<std::string> said;
  for (const auto& record : log.records())
    said.push_back((record.level == Level::warn   ? "warning "
                    : record.level == Level::info ? "info "
                                                  : "other ") +
                   std::string{record.message});
  CHECK(said == expected);
}

TEST_CASE("a text over 64 MiB is cut there, and the record arrives") {
  TestLog log;
  constexpr std::size_t most = std::size_t{64} << 20U;
  const std::string text(most + (std::size_t{6} << 20U), 'x');
  Logger{}.info("{}", text);
  const auto records = log.records();
  REQUIRE(records.size() == 1);
  CHECK(records[0].message.size() == most);
}

TEST_CASE("more places than a lane remembers take turns, and each record keeps its own") {
  TestLog log;
  const auto places = []<int... number>(std::integer_sequence<int, number...>) {
    return std::vector{place<number>()...};
  }(std::make_integer_sequence<int, 2 * kindred::internal::LaneState::site_slots + 1>{});
  for (int turn = 0; turn < 3; ++turn) {
    for (const auto& where : places) Logger{}.log_at(Level::info, where, "{}", where.function_name());
  }
  const auto records = log.records();
  REQUIRE(records.size() == 3 * places.size());
  std::size_t next = 0;
  for (const auto& record : records) {
    CHECK(record.message == places[next % places.size()].function_name());
    CHECK(record.source.function == record.message);
    ++next;
  }
}

TEST_CASE("the kept records can be read, filtered, and end") {
  TestLog log;
  log.logger.info("a");
  log.logger.warn("b");
  log.logger.error("c", kv("k", 1));
  CHECK(log.logger.flush());
  std::vector<std::string> texts;
  for (const LogRecord& record : log.logger.kept_records() | at_least(Level::warn))
    texts.push_back(record.message);
  CHECK(texts == std::vector<std::string>{"b", "c"});
  int all = 0;
  for (const LogRecord& record : log.logger.kept_records()) all += record.source.line > 0 ? 1 : 0;
  CHECK(all == 3);
}

TEST_CASE("a live range begins with what is kept, follows the log, and ends with it") {
  auto log = std::make_unique<TestLog>();
  log->logger.info("before");
  CHECK(log->logger.flush());
  std::vector<std::string> texts;
  std::atomic<std::size_t> seen{0};
  std::thread reader{[&, records = log->logger.records()]() mutable {
    for (const LogRecord& record : records) {
      texts.push_back(record.message);
      ++seen;
    }
  }};
  while (seen < 1) std::this_thread::yield();
  for (int i = 0; i < 500; ++i) log->logger.info("{}", i);
  while (seen < 501) std::this_thread::yield();
  log->logger.info("last");
  log.reset();
  reader.join();
  REQUIRE(texts.size() == 502);
  CHECK(texts.front() == "before");
  CHECK(texts[500] == "499");
  CHECK(texts.back() == "last");
}

TEST_CASE("a reader that is too slow loses the oldest records and is told how many") {
  LogOptions options;
  options.keep_bytes = 64 * 1024;
  TestLog log{options};
  auto records = log.logger.records();
  log.logger.info("first");
  auto next = records.begin();
  CHECK((*next).message == "first");
  constexpr std::uint64_t count = 5000;
  for (std::uint64_t i = 0; i < count; ++i) log.logger.info("{}", i);
  CHECK(log.logger.flush());
  std::uint64_t forgotten = 0;
  std::uint64_t read = 0;
  while (read + forgotten < count) {
    ++next;
    unsigned long long n = 0;
    if ((*next).origin == Origin::lifecycle && std::sscanf((*next).message.c_str(), "%llu record", &n) == 1)
      forgotten += n;
    else
      ++read;
  }
  CHECK(forgotten > 0);
  CHECK(read > 100);
  CHECK((*next).message == std::to_string(count - 1));
}

TEST_CASE("the records of a task can be had at once after it is done") {
  TestLog log;
  LogProcess process{log, 0, [] {
                       for (std::uint64_t task = 1; task <= 50; ++task) {
                         kindred::internal::enter_task(
                             {.task_id = task, .attempt = 1, .function_reference = 0, .name = "t"});
                         for (int i = 0; i < 20; ++i) log_info("{} {}", task, i);
                         kindred::internal::leave_task();
                       }
                     }};
  CHECK(process.wait() == 0);
  const auto records = log.collector.records_of_task(33);  // while the source has not ended
  REQUIRE(records.size() == 20);
  for (int i = 0; i < 20; ++i)
    CHECK(records[static_cast<std::size_t>(i)].message == "33 " + std::to_string(i));
  CHECK(records[0].task_name == "t");
  CHECK(log.collector.records_of_task(99).empty());
}

TEST_CASE(
    "debug records of the flight recorder appear only where their task failed, not when their process ends") {
  LogOptions options;
  options.flight_recorder = Level::debug;
  TestLog log{options};
  LogProcess process{
      log, 0, [] {
        for (const std::uint64_t task : {1U, 2U, 3U}) {
          kindred::internal::enter_task({.task_id = task, .attempt = 1, .function_reference = 0, .name = {}});
          log_trace("never {}", task);
          log_debug("debug {}", task);
          log_info("info {}", task);
          kindred::internal::leave_task();
        }
      }};
  CHECK(process.wait() == 0);
  log.collector.release_flight(2);
  CHECK(log.messages() == std::vector<std::string>{"info 1", "info 2", "info 3", "debug 2"});
  CHECK(log.logger.stats().held_back == 2);
  // The process ends in good order: its other tasks did not fail, so their details stay held back.
  process.finish();
  CHECK(log.messages() == std::vector<std::string>{"info 1", "info 2", "info 3", "debug 2"});
  CHECK(log.logger.stats().held_back == 2);
}

TEST_CASE("two executors in one process: each has its own log, and the free calls go to stderr") {
  const auto text = stderr_of([] {
    TestLog first;
    log_info("to the first");
    {
      TestLog second;
      first.logger.info("one");
      second.logger.info("two");
      log_info("to nobody");
      if (second.messages() != std::vector<std::string>{"two"}) throw std::runtime_error("second");
    }
    log_info("to the first again");
    if (first.messages() != std::vector<std::string>{"to the first", "one", "to the first again"})
      throw std::runtime_error("first");
  });
  CHECK_CONTAINS(text, "[info] to nobody\n");
  CHECK(!contains(text, "to the first"));
}

TEST_CASE("after shutdown a log call of the parent goes to stderr, from a bound logger too") {
  const auto text = stderr_of([] {
    auto log = std::make_unique<TestLog>();
    const Logger bound = log->logger.named("bound");
    bound.info("in time");
    if (log->messages() != std::vector<std::string>{"in time"}) throw std::runtime_error("lost");
    log->collector.shutdown({});
    log->logger.info("late 1");
    log.reset();
    bound.warn("late 2");
    log_info("late 3");
    // The next executor uses the same lanes, and is not the bound logger's.
    TestLog next;
    bound.info("late 4");
    next.logger.info("of the next");
    if (next.messages() != std::vector<std::string>{"of the next"}) throw std::runtime_error("mixed up");
  });
  CHECK(!contains(text, "in time"));
  for (const char* const late : {"late 1", "late 2", "late 3", "late 4"}) CHECK_CONTAINS(text, late);
}

TEST_CASE(
    "shutdown delivers what threads of the parent have committed, and the rest goes to stderr: nothing is lost between") {
  const auto text = stderr_of([] {
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> called{0};
    std::atomic<std::uint64_t> arrived{0};
    // The end waits for a record that a thread without a processor has begun.
    auto log =
        std::make_unique<TestLog>(LogOptions{.hold_limit = 1h}, kindred::internal::CollectorHooks{}, false);
    log->logger.add_sink([&arrived](const LogRecord&) { ++arrived; });
    const Logger bound = log->logger.named("n");
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        while (!stop) {
          bound.info("x");
          ++called;
          if (called > 3000) std::this_thread::sleep_for(1ms);
        }
      });
    }
    while (called < 2000) std::this_thread::yield();
    log.reset();
    const auto after = called.load();
    while (called < after + 10) std::this_thread::yield();
    stop = true;
    for (auto& thread : threads) thread.join();
    std::fprintf(stderr, "called %llu arrived %llu\n", static_cast<unsigned long long>(called),
                 static_cast<unsigned long long>(arrived));
  });
  unsigned long long called = 0;
  unsigned long long arrived = 0;
  REQUIRE(std::sscanf(text.c_str() + text.find("called "), "called %llu arrived %llu", &called, &arrived) ==
          2);
  const auto lines = static_cast<unsigned long long>(std::count(text.begin(), text.end(), '\n')) - 1;
  CHECK(lines > 0);
  CHECK(arrived + lines == called);
}

TEST_CASE(
    "a hung sink does not hold up the end of the program: shutdown ends in time and says what is missing") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  const auto text = stderr_of([] {
    std::mutex standing;
    standing.lock();
    LogOptions options;
    options.flush_limit = 100ms;
    const auto begin = std::chrono::steady_clock::now();
    {
      TestLog log{options};
      log.logger.add_sink([&standing](const LogRecord&) { standing.lock(); });
      log.logger.info("hangs");
      if (log.logger.flush()) throw std::runtime_error("flushed");
      if (log.logger.flush(10ms)) throw std::runtime_error("flushed");
    }
    if (std::chrono::steady_clock::now() - begin > 10s) throw std::runtime_error("too long");
    ::_exit(0);
  });
  CHECK_CONTAINS(text, "a sink took nothing until the deadline");
}

TEST_CASE(
    "in a fork that is no worker the free calls go to stderr, and the executor's logger is refused with both contexts") {
  TestLog log;
  log.logger.info("parent");
  const Logger bound = log.logger.named("bound");
  const Outcome outcome = run_forked([&] {
    log_info("child says");
    for (const auto& call : std::vector<std::function<void()>>{
             [&] { log.logger.info("x"); }, [&] { bound.warn("x"); }, [&] { log.logger.flush(); },
             [&] { static_cast<void>(log.logger.stats()); }}) {
      try {
        call();
        throw 1;
      } catch (const UsageError& error) {
        std::fprintf(stderr, "refused: %s\n", error.what());
      }
    }
    ::_exit(0);
  });
  CHECK(outcome.code == 0);
  CHECK_CONTAINS(outcome.err, "[info] child says\n");
  CHECK_CONTAINS(outcome.err, "refused: ");
  CHECK_CONTAINS(outcome.err, to_string(log.life->id));
  log.logger.info("still well");
  CHECK(log.messages() == std::vector<std::string>{"parent", "still well"});
}

TEST_CASE("a task that forks does not write into its worker's lanes") {
  TestLog log;
  LogProcess process{log, 0, [] {
                       log_info("worker 1");
                       const pid_t child = ::fork();
                       if (child == 0) {
                         ::dup2(::open("/dev/null", 1), 2);
                         for (int i = 0; i < 100; ++i) log_info("child {}", i);
                         ::_exit(0);
                       }
                       ::waitpid(child, nullptr, 0);
                       log_info("worker 2");
                     }};
  const auto end = process.end();
  CHECK(!end.corrupt);
  CHECK(log.messages() == std::vector<std::string>{"worker 1", "worker 2"});
}

namespace {
struct LogsAtExit {
  ~LogsAtExit() { log_info("from a static destructor"); }
};
struct LogsAtThreadEnd {
  ~LogsAtThreadEnd() { log_info("from a thread's end"); }
};
}  // namespace

TEST_CASE("static destructors and the ends of threads can log") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  TestLog log;
  LogProcess process{log, 0, [] {
                       static const LogsAtExit at_exit;
                       thread_local LogsAtThreadEnd at_end;
                       static_cast<void>(at_end);
                       log_info("from main");
                       std::thread{[] {
                         thread_local LogsAtThreadEnd also;
                         static_cast<void>(also);
                         log_info("from a thread");
                       }}.join();
                       std::fflush(nullptr);
                       std::exit(0);
                     }};
  process.end();
  auto messages = log.messages();
  CHECK(std::count(messages.begin(), messages.end(), "from a thread's end") == 2);
  CHECK(std::count(messages.begin(), messages.end(), "from a static destructor") == 1);
  CHECK(messages.size() == 5);
}

TEST_CASE("a signal handler can log, also when it interrupts a log call") {
  KINDRED_SKIP_UNDER_TSAN("signals come late, and its slowness fills the lane");
  TestLog log;
  LogProcess process{
      log, 0, [] {
        kindred::internal::enter_task({.task_id = 5, .attempt = 1, .function_reference = 0, .name = "busy"});
        log_info("begun");
        struct sigaction action{};
        action.sa_handler = [](int) { kindred::log_from_signal(Level::warn, "tick"); };
        ::sigaction(SIGALRM, &action, nullptr);
        const itimerval often{{0, 200}, {0, 200}};
        ::setitimer(ITIMER_REAL, &often, nullptr);
        for (int i = 0; i < 100'000; ++i) log_info("{}", i);
        const itimerval never{};
        ::setitimer(ITIMER_REAL, &never, nullptr);
      }};
  const auto end = process.end();
  CHECK(!end.corrupt);
  const auto records = log.records();
  std::uint64_t ticks_seen = 0;
  int next = 0;
  bool right = true;
  for (const auto& record : records) {
    if (record.message == "tick") {
      ++ticks_seen;
      right = right && record.level == Level::warn && record.task_id == 5 && record.worker == 0;
    } else if (record.message != "begun" && record.origin == Origin::log) {
      right = right && record.message == std::to_string(next++);
    }
  }
  CHECK(right);
  CHECK(next == 100'000);
  CHECK(ticks_seen > 0);
}

TEST_CASE(
    "processes forked while threads of the parent log and take every lock of the logger start and log") {
  KINDRED_SKIP_UNDER_TSAN("a forked process that starts threads is ended");
  TestLog log;
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  for (int t = 0; t < 4; ++t) {
    busy.emplace_back([&, t] {
      while (!stop) {
        log.logger.info("busy {}", t);
        log.logger.named("fresh").with({{"t", t}}).info("more");
        log_info("free {}", std::string(50, 'x'));
        std::thread{[&] { log.logger.info("short lived"); }}.join();
        log.logger.set_level("some", Level::info);
      }
    });
  }
  // ASan's own list of threads is locked for ever in a fork, where another thread was just starting or ending
  // one.
#ifdef __SANITIZE_ADDRESS__
  static constexpr bool starts_thread = false;
#else
  static constexpr bool starts_thread = true;
#endif
  const int forks = long_run() ? 1000 : 60;
  for (int i = 0; i < forks; ++i) {
    LogProcess process{log, i, [] {
                         log_info("hello");
                         if (starts_thread) std::thread{[] { log_info("from a thread"); }}.join();
                         Logger{"named"}.info("named");
                       }};
    CHECK(process.end().records == (starts_thread ? 3 : 2));
  }
  stop = true;
  for (auto& thread : busy) thread.join();
}

TEST_CASE("the collector of a log can be made and destroyed many times, and leaves nothing behind") {
  { const TestLog first; }
  const ResourceAudit audit;
  for (int i = 0; i < 50; ++i) {
    TestLog log;
    log.logger.info("{}", i);
    CHECK(log.messages() == std::vector<std::string>{std::to_string(i)});
  }
  for (int i = 0; i < 50; ++i) {
    const auto life = std::make_shared<kindred::internal::ContextLife>(
        kindred::internal::ContextId::make(StartMethod::spawn));
    const kindred::internal::Collector unused{kindred::internal::LogTestAccess::key(), life, {}, {}};
  }
}

TEST_CASE("making a collector starts no thread") {
  const auto life = std::make_shared<kindred::internal::ContextLife>(
      kindred::internal::ContextId::make(StartMethod::spawn));
  const ResourceAudit audit;
  const kindred::internal::Collector unused{kindred::internal::LogTestAccess::key(), life, {}, {}};
  CHECK(!contains(audit.difference(0ms), "thread"));
}

TEST_CASE("the environment's level counts where the program chose none") {
  const auto with = [](const char* value, std::optional<Level> chosen,
                       const std::function<void(TestLog&)>& check) {
    const Outcome outcome = run_forked([&] {
      ::setenv("KINDRED_LOG_LEVEL", value, 1);
      LogOptions options;
      options.level = chosen;
      TestLog log{options};
      check(log);
    });
    INFO(to_string(outcome));
    CHECK(outcome.code == 0);
  };
  const auto demand = [](bool that) {
    if (!that) throw std::runtime_error("level");
  };
  with("warn,net=debug", {}, [&](TestLog& log) {
    demand(!log.logger.enabled(Level::info));
    demand(log.logger.named("net.http").enabled(Level::debug));
    demand(log.logger.level() == Level::warn);
  });
  with("warn,net=debug", Level::trace, [&](TestLog& log) {
    demand(log.logger.enabled(Level::trace));
    demand(log.logger.level() == Level::trace);
  });
  const Outcome refused = run_forked([] {
    ::setenv("KINDRED_LOG_LEVEL", "loud", 1);
    TestLog log;
  });
  CHECK(refused.code == 99);
  CHECK_CONTAINS(refused.err, "KINDRED_LOG_LEVEL holds 'loud', which names no level");
}
