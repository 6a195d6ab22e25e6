// The crash table: seven ways to die, at ten places, times the start methods. Each cell says exactly what
// happened, and the pool survives it (or, where nothing can start, is broken with that cause). Row 7 of the
// reliability table.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

enum class Death : int { none, throws, exits, underscore_exits, aborts, segfaults, is_killed, overflows };
constexpr Death deaths[] = {Death::throws,    Death::exits,     Death::underscore_exits, Death::aborts,
                            Death::segfaults, Death::is_killed, Death::overflows};

struct How {
  const char* name;
  int code;  // exit code; -1: by the signal
  int signal;
  const char* words;
};
How how_of(Death death) {
  switch (death) {
    case Death::throws: return {"throw", -1, SIGABRT, "SIGABRT"};  // where nobody may catch it
    case Death::exits: return {"exit", 3, 0, "exited with code 3"};
    case Death::underscore_exits: return {"_exit", 4, 0, "exited with code 4"};
    case Death::aborts: return {"abort", -1, SIGABRT, "SIGABRT"};
    case Death::segfaults: return {"SIGSEGV", -1, SIGSEGV, "SIGSEGV"};
    case Death::is_killed: return {"SIGKILL", -1, SIGKILL, "SIGKILL"};
    case Death::overflows: return {"stack overflow", -1, SIGSEGV, "SIGSEGV"};
    case Death::none: break;
  }
  return {"none", 0, 0, ""};
}

int overflow(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return depth == -1 ? 0 : overflow(depth + 1) + frame[0];
}

void die(Death death) {
  switch (death) {
    case Death::none: return;
    case Death::throws: throw std::runtime_error{"thrown on purpose"};
    case Death::exits: std::exit(3);
    case Death::underscore_exits: ::_exit(4);
    case Death::aborts: std::abort();
    case Death::segfaults:
      *reinterpret_cast<volatile int*>(std::uintptr_t{16}) = 1;
      return;  // UBSan would see a null pointer before the CPU does
    case Death::is_killed: ::raise(SIGKILL); return;
    case Death::overflows: static_cast<void>(overflow(0)); return;
  }
}

// --- bootstrap: before the gate in a program that is executed, in the C library's fork handlers in one that
// is forked.

constexpr const char* bootstrap_variable = "KINDRED_TEST_DIE_IN_BOOTSTRAP";
[[maybe_unused]] const bool passed_static_initialiser = [] {
  if (const char* const death = std::getenv(bootstrap_variable)) die(static_cast<Death>(std::atoi(death)));
  return true;
}();

Death at_fork = Death::none;
pid_t the_test = 0;
void die_in_forked_worker() {  // the template is our child, and its children are the workers
  if (at_fork != Death::none && ::getppid() != the_test) die(at_fork);
}
// What a function that C calls throws is caught by nobody.
extern "C" void kindred_test_forked() noexcept { die_in_forked_worker(); }

// --- the places within a task

struct OnRead {
  Death death = Death::none;
  template <class Archive>
  void save(Archive& archive) const {
    archive(death);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(death);
    if (in_worker()) die(death);
  }
};
struct OnWrite {
  Death death = Death::none;
  template <class Archive>
  void save(Archive& archive) const {
    if (in_worker()) die(death);
    archive(death);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(death);
  }
};
Death in_destructor = Death::none;
struct OnDestroy {
  int value = 0;
  OnDestroy() = default;
  OnDestroy(const OnDestroy&) = default;
  OnDestroy& operator=(const OnDestroy&) = default;
  ~OnDestroy() { die(in_destructor); }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(value);
  }
};
struct OnFormat {
  Death death = Death::none;
};

struct AtExit {
  Death death = Death::none;
  ~AtExit() {
    if (death != Death::none) log_info("a static destructor can log");
    die(death);
  }
} static_object;

int cell_read(const OnRead&) { return 1; }
int cell_run(Death death) {
  die(death);
  return 1;
}
OnWrite cell_write(Death death) { return {death}; }
int cell_destructor(const OnDestroy&, Death death) {
  in_destructor = death;
  return 1;
}
int cell_log_call(Death death);
int cell_field(Death death);
Death in_finalizer = Death::none;
void finalize() { die(in_finalizer); }
int arm_finalizer(Death death) {
  in_finalizer = death;
  return 1;
}
int arm_static_destructor(Death death) {
  static_object.death = death;
  return 1;
}

struct Log {
  std::mutex mutex;
  std::vector<LogRecord> records;
  void operator()(const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    records.push_back(record);
  }
  // The records of a kind, without what is said of workers that start.
  std::string all(Origin origin) {
    const std::scoped_lock lock{mutex};
    std::string text;
    for (const auto& record : records) {
      if (record.origin == origin) text += record.message + "\n";
    }
    return text;
  }
};

int cells = 0;  // judged in this program, for the line that the scorecard reads

void no_such_cell(const char* where, Death death, const char* why) {
  std::printf("no such cell: %s x %s: %s\n", how_of(death).name, where, why);
}

void check_reason(const ExitReason& reason, const How& how) {
  CHECK(reason.kind == (how.signal != 0 ? ExitReason::Kind::signalled : ExitReason::Kind::exited));
  CHECK((how.signal != 0 ? reason.signal : reason.code) == (how.signal != 0 ? how.signal : how.code));
}

template <class T>
void check_lost(Future<T>& future, Death death, const char* function) {
  const How how = how_of(death);
  const std::string task = std::string{"(anonymous namespace)::"} + function;
  CAPTURE(task);
  CAPTURE(how.name);
  try {
    static_cast<void>(future.get());
    FAIL_CHECK("no error");
  } catch (const WorkerLost& error) {
    check_reason(error.exit_reason(), how);
    CHECK_CONTAINS(error.what(), how.words);
    CHECK_CONTAINS(error.what(), "'" + task + "' #" + std::to_string(future.task_id()));
    CHECK_CONTAINS(error.what(),
                   "worker " + std::to_string(error.worker()) + " (pid " + std::to_string(error.pid()) + ")");
    CHECK(error.task_id() == future.task_id());
    CHECK(error.task_name() == task);
    // A crash by a handler's signal leaves its stack.
    if (how.signal == SIGSEGV || how.signal == SIGABRT) CHECK(!error.backtrace().empty());
  } catch (const std::exception& error) {
    FAIL_CHECK("another error: ", std::string{error.what()});
  }
  ++cells;
}

template <class T>
void check_thrown(Future<T>& future, TaskPhase phase, const char* words) {
  try {
    static_cast<void>(future.get());
    FAIL_CHECK("no error");
  } catch (const TaskError& error) {
    CHECK(error.phase() == phase);
    CHECK(error.original_what() == "thrown on purpose");
    CHECK(error.type_name() == "std::runtime_error");
    CHECK(error.task_id() == future.task_id());
    CHECK_CONTAINS(error.what(), words);
  } catch (const std::exception& error) {
    FAIL_CHECK("another error: ", std::string{error.what()});
  }
  CHECK_THROWS_AS(static_cast<void>(future.get()), std::runtime_error);
  ++cells;
}

// What a pool that cannot start a worker says, by `submit` or by the future.
void check_broken(ProcessPoolExecutor& pool, const std::string& words, const std::string& cause_words) {
  for (int round = 0; round < 2; ++round) {
    try {
      static_cast<void>(pool.submit(number, 1).get());
      FAIL_CHECK("no error");
    } catch (const BrokenProcessPool& error) {
      CHECK_CONTAINS(error.what(), words);
      if (!cause_words.empty()) {
        REQUIRE(error.cause());
        CHECK_THROWS_CONTAINS(std::rethrow_exception(error.cause()), std::exception, cause_words);
      }
    } catch (const std::exception& error) {
      FAIL_CHECK("another error: ", std::string{error.what()});
    }
  }
  ++cells;
}

}  // namespace

template <>
struct fmt::formatter<OnFormat> : fmt::formatter<int> {
  auto format(const OnFormat& value, format_context& context) const -> format_context::iterator {
    die(value.death);
    return fmt::formatter<int>::format(static_cast<int>(value.death), context);
  }
};
namespace {
int cell_log_call(Death death) {
  log_info("before");
  log_info("value {}", OnFormat{death});
  return 1;
}
int cell_field(Death death) {
  log_info("field", kv("value", OnFormat{death}));
  return 1;
}
}  // namespace

TEST_CASE_EACH_START_METHOD(
    "crash table: whatever happens within a task fails that task alone, in the right words (row 7)") {
  ResourceAudit audit;
  Log log;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.logger().add_sink(std::ref(log));
  std::uint64_t restarts = 0;
  const auto go_on = [&](bool died) {
    CHECK(pool.submit(number, 5).get() == 5);
    restarts += died ? 1 : 0;
    CHECK(pool.stats().restarts == restarts);
  };
  for (const Death death : deaths) {
    const bool thrown = death == Death::throws;
    {
      auto future = pool.submit(cell_read, OnRead{death});
      thrown ? check_thrown(future, TaskPhase::reading_arguments, "while reading arguments")
             : check_lost(future, death, "cell_read");
      go_on(!thrown);
    }
    {
      auto future = pool.submit(cell_run, death);
      thrown ? check_thrown(future, TaskPhase::running, "::cell_run' #")
             : check_lost(future, death, "cell_run");
      go_on(!thrown);
    }
    {
      auto future = pool.submit(cell_write, death);
      thrown ? check_thrown(future, TaskPhase::writing_result, "while writing the result")
             : check_lost(future, death, "cell_write");
      go_on(!thrown);
    }
    {
      auto future =
          pool.submit(cell_destructor, OnDestroy{},
                      death);  // a destructor that throws is the end of its program: the language's rule
      check_lost(future, death, "cell_destructor");
      go_on(true);
    }
    for (const bool field : {false, true}) {
      auto future = field ? pool.submit(cell_field, death) : pool.submit(cell_log_call, death);
      if (thrown) {  // logging never throws: the message says what happened
        CHECK(future.get() == 1);
        pool.logger().flush();
        CHECK_CONTAINS(log.all(Origin::log),
                       field ? "threw when it was formatted"
                             : "value {} (this message could not be formatted: thrown on purpose)");
        ++cells;
      } else {
        check_lost(future, death, field ? "cell_field" : "cell_log_call");
      }
      go_on(!thrown);
    }
  }
  // The record before the one that killed its worker was committed each time.
  const std::scoped_lock lock{log.mutex};
  CHECK(std::count_if(log.records.begin(), log.records.end(),
                      [](const LogRecord& r) { return r.message == "before"; }) == std::ssize(deaths));
}

TEST_CASE_EACH_START_METHOD(
    "crash table: a worker that dies in its finalizer has delivered its results, and the log says how it died (row 7)") {
  ResourceAudit audit;
  for (const bool statically : {false, true}) {
    if (statically && method == StartMethod::fork) {
      for (const Death death : deaths)
        no_such_cell("static destructor, fork", death,
                     "a forked worker ends by _exit: static destructors are its parent's");
      continue;
    }
    Log log;
    std::vector<Death> died;
    {
      // One task a worker: each finalizes after the task that has armed it.
      ProcessPoolExecutor pool{
          entry(),
          {.start_method = method, .max_workers = 1, .finalizer = {finalize}, .max_tasks_per_worker = 1}};
      pool.logger().add_sink(std::ref(log));
      for (const Death death : deaths) {
        if (statically && death == Death::exits) {
          no_such_cell("static destructor", death,
                       "calling exit from what exit calls is undefined ([support.start.term])");
          continue;
        }
        CHECK((statically ? pool.submit(arm_static_destructor, death) : pool.submit(arm_finalizer, death))
                  .get() == 1);
        died.push_back(death);
      }
      CHECK(pool.submit(number, 5).get() == 5);
    }
    const auto text = log.all(Origin::lifecycle);
    for (const Death death : died) {
      const How how = how_of(death);
      CAPTURE(how.name);
      CAPTURE(statically);
      const bool caught = death == Death::throws && !statically;
      CHECK_CONTAINS(text, caught ? "thrown on purpose" : how.words);
      if (caught) CHECK_CONTAINS(text, "the finalizer of worker 0 failed");
      ++cells;
    }
    if (statically) {
      CHECK(std::count_if(log.records.begin(), log.records.end(), [](const LogRecord& r) {
              return r.message == "a static destructor can log";
            }) == std::ssize(died));
      CHECK_CONTAINS(text, "SIGSEGV at address 0x10");  // and the stack of a crash is kept
    }
    // Two of them die by SIGSEGV, and one or two by SIGABRT.
    const auto count = [&](const char* words) {
      int found = 0;
      for (auto at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) ++found;
      return found;
    };
    CHECK(count("was killed by SIGSEGV") == 2);
    CHECK(count("was killed by SIGABRT") == (statically ? 2 : 1));
    CHECK(count("was killed by SIGKILL") == 1);
  }
}

TEST_CASE_EACH_START_METHOD(
    "crash table: an initializer that goes wrong breaks the pool with how it went wrong (row 7)") {
  ResourceAudit audit;
  for (const Death death : deaths) {
    const How how = how_of(death);
    CAPTURE(how.name);
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method,
                              .max_workers = 1,
                              .initializer = {cell_run, death},
                              .restart_limit = {.count = 1, .period = 1h}}};
    pool.logger().add_sink([](const LogRecord&) {});
    if (death == Death::throws) {
      check_broken(pool, "the initializer failed in worker 0", "thrown on purpose");
    } else if (death == Death::is_killed) {
      check_broken(pool, "2 workers died",
                   "SIGKILL");  // from outside, for all that is known: the restart limit judges it
    } else {
      check_broken(pool, how.words, how.words);
      CHECK(pool.stats().restarts == 1);
    }
    pool.shutdown();
  }
}

TEST_CASE_EACH_START_METHOD(
    "crash table: a process that dies before it is a worker breaks the pool with how it died (row 7)") {
  ResourceAudit audit;
  the_test = ::getpid();
  static const bool registered = ::pthread_atfork(nullptr, nullptr, kindred_test_forked) == 0;
  REQUIRE(registered);
  for (const Death death : deaths) {
    const How how = how_of(death);
    CAPTURE(how.name);
    ExecutorOptions options{
        .start_method = method, .max_workers = 1, .restart_limit = {.count = 1, .period = 1h}};
    if (method == StartMethod::fork) {
      at_fork = death;
    } else {
      options.worker.env[bootstrap_variable] = std::to_string(static_cast<int>(death));
    }
    {
      ProcessPoolExecutor pool{entry(), std::move(options)};
      pool.logger().add_sink([](const LogRecord&) {});
      check_broken(pool, how.words, {});
      if (method != StartMethod::fork && how.signal == 0)
        CHECK_THROWS_CONTAINS(pool.submit(number, 1).get(), BrokenProcessPool, "kindred::Entry");
    }
    at_fork = Death::none;
  }
}

TEST_CASE("crash table: the figure") { scorecard(7, fmt::format("{} cells judged", cells)); }
