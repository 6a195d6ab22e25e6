// Workers that die in every place and in every way: only the task that a worker had begun fails, its error
// says exactly how, and the pool goes on.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kindred/internal/log_front.hpp"
#include "kindred/kindred.hpp"
#include "support/stop_process.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

enum class Death : int { throws, exits_0, exits_1, segfaults, aborts, kills_itself, calls_exit, exits_3 };

int overflow(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return depth == -1 ? 0 : overflow(depth + 1) + frame[0];
}

void die(Death how) {
  switch (how) {
    case Death::throws: throw std::runtime_error{"thrown on purpose"};
    case Death::exits_0: ::_exit(0);
    case Death::exits_1: ::_exit(1);
    case Death::exits_3: ::_exit(3);
    case Death::calls_exit: std::exit(0);
    case Death::segfaults:
      *reinterpret_cast<volatile int*>(std::uintptr_t{16}) = 1;
      return;  // UBSan would see a null pointer before the CPU does
    case Death::aborts: std::abort();
    case Death::kills_itself: ::raise(SIGKILL); return;
  }
}

struct Expected {
  Death how;
  ExitReason::Kind kind;
  int number;
  const char* words;
};
const Expected deaths[] = {
    {Death::exits_0, ExitReason::Kind::exited, 0, "exited with code 0"},
    {Death::exits_1, ExitReason::Kind::exited, 1, "exited with code 1"},
    {Death::exits_3, ExitReason::Kind::exited, 3, "exited with code 3"},
    {Death::calls_exit, ExitReason::Kind::exited, 0, "exited with code 0"},
    {Death::segfaults, ExitReason::Kind::signalled, SIGSEGV, "SIGSEGV"},
    {Death::aborts, ExitReason::Kind::signalled, SIGABRT, "SIGABRT"},
    {Death::kills_itself, ExitReason::Kind::signalled, SIGKILL, "SIGKILL"},
};

// An argument or result whose codec goes wrong in the worker, or in the parent.
struct DiesWhenRead {
  Death how = Death::throws;
  bool in_parent = false;
  template <class Archive>
  void save(Archive& archive) const {
    archive(how, in_parent);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(how, in_parent);
    if (in_worker() != in_parent) die(how);
  }
};
struct DiesWhenWritten {
  Death how = Death::throws;
  template <class Archive>
  void save(Archive& archive) const {
    if (in_worker()) die(how);
    archive(how);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(how);
  }
};

int meet(const Barrier& both) {
  both.arrive_and_wait();
  return 0;
}
void take(const DiesWhenRead&) {}
DiesWhenRead give_unreadable() { return {Death::throws, true}; }
DiesWhenWritten give_unwritable(Death how) { return {how}; }
int die_as_asked(Death how) {
  die(how);
  return 1;
}

// As a program's own crash handler does: a word, then what would have happened without it.
void crash_with_a_handler(int signal) {
  struct sigaction action{};
  action.sa_handler = [](int number) {
    kindred::log_from_signal(Level::critical, "the handler was here");
    struct sigaction standard{};
    standard.sa_handler = SIG_DFL;
    ::sigaction(number, &standard, nullptr);
    ::raise(number);
  };
  ::sigaction(signal, &action, nullptr);
  log_info("before");
  ::raise(signal);
}

// What of the system tells, by itself, what was wrong.
void write_to_array(SharedArray<int> values) {
  // As code does that has only the address: the class itself refuses.
  const_cast<volatile int&>(values.data()[3]) = 1;
}
int overflow_the_stack(int depth) { return overflow(depth); }
// What the C library is given is no stream. (No sanitizer stands before this function.)
int crash_in_the_c_library(std::size_t address) {
  std::rewind(reinterpret_cast<std::FILE*>(address));
  return 1;
}
// Plumbing of the library that a program may use, too, stands between it and what crashed.
int crash_behind_a_function(int value) {
  const std::function<int(int)> inner = [](int each) {
    std::raise(SIGSEGV);
    return each;
  };
  return std::invoke(inner, value) + 1;
}
void log_then_crash(int number, bool dies) {
  for (int i = 0; i < 3; ++i) log_info("task {} says {}", number, i);
  if (dies) std::raise(SIGSEGV);
}

void check_lost(Future<int>& future, const Expected& expected, const std::string& name) {
  CAPTURE(expected.words);
  try {
    future.get();
    FAIL("no error");
  } catch (const WorkerLost& error) {
    CHECK(error.exit_reason().kind == expected.kind);
    CHECK((expected.kind == ExitReason::Kind::exited ? error.exit_reason().code
                                                     : error.exit_reason().signal) == expected.number);
    CHECK_CONTAINS(error.what(), expected.words);
    CHECK_CONTAINS(error.what(),
                   "worker " + std::to_string(error.worker()) + " (pid " + std::to_string(error.pid()) + ")");
    CHECK_CONTAINS(error.what(), name);
    CHECK_CONTAINS(error.what(), "#" + std::to_string(error.task_id()));
    CHECK(error.task_id() == future.task_id());
    CHECK(error.attempt() == 1);
  }
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a task that ends its worker fails with how it ended, worker, pid and task, and the pool goes on") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (const auto& expected : deaths) {
    auto dying = pool.submit(die_as_asked, expected.how);
    auto next = pool.submit(number, 5);
    check_lost(dying, expected, "die_as_asked");
    CHECK(next.get() == 5);
  }
  CHECK(pool.stats().lost == std::size(deaths));
  CHECK(pool.stats().restarts == std::size(deaths));
}

TEST_CASE_EACH_START_METHOD(
    "an argument that throws while it is read fails its task, and the worker goes on") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(number, 1).get() == 1);
  const auto pids = pool.worker_pids();
  auto future = pool.submit(take, DiesWhenRead{Death::throws});
  try {
    future.get();
    FAIL("no error");
  } catch (const TaskError& error) {
    CHECK(error.phase() == TaskPhase::reading_arguments);
    CHECK_CONTAINS(error.what(), "thrown on purpose");
    CHECK_CONTAINS(error.what(), "arguments");
  }
  CHECK_THROWS_AS(future.get(), std::runtime_error);
  CHECK(pool.submit(number, 1).get() == 1);
  CHECK(pool.worker_pids() == pids);
}

TEST_CASE_EACH_START_METHOD("an argument that ends the worker while it is read fails that task alone") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (const auto& expected : deaths) {
    CAPTURE(expected.words);
    auto dying = pool.submit(take, DiesWhenRead{expected.how});
    auto next = pool.submit(number, 5);
    CHECK_THROWS_CONTAINS(dying.get(), WorkerLost, expected.words);
    CHECK(next.get() == 5);
  }
}

TEST_CASE_EACH_START_METHOD(
    "a result that throws or ends the worker while it is written fails that task alone") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto thrown = pool.submit(give_unwritable, Death::throws);
  try {
    thrown.get();
    FAIL("no error");
  } catch (const TaskError& error) {
    CHECK(error.phase() == TaskPhase::writing_result);
    CHECK_CONTAINS(error.what(), "thrown on purpose");
  }
  CHECK(pool.stats().restarts == 0);
  for (const auto& expected : deaths) {
    CAPTURE(expected.words);
    auto dying = pool.submit(give_unwritable, expected.how);
    auto next = pool.submit(number, 5);
    CHECK_THROWS_CONTAINS(dying.get(), WorkerLost, expected.words);
    CHECK(next.get() == 5);
  }
}

TEST_CASE_EACH_START_METHOD(
    "a result that throws while it is read in the parent fails its future, and the pool goes on") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(give_unreadable);
  for (int again = 0; again < 2; ++again) {
    try {
      future.get();
      FAIL("no error");
    } catch (const TaskError& error) {
      CHECK(error.phase() == TaskPhase::reading_result);
      CHECK_CONTAINS(error.what(), "thrown on purpose");
    }
  }
  CHECK(pool.submit(number, 5).get() == 5);
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD(
    "twenty results that cannot be written are twenty errors, and no worker is lost") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::vector<Future<DiesWhenWritten>> futures;
  for (int i = 0; i < 20; ++i) futures.push_back(pool.submit(give_unwritable, Death::throws));
  for (auto& future : futures) CHECK_THROWS_CONTAINS(future.get(), TaskError, "thrown on purpose");
  CHECK(pool.stats().restarts == 0);
  CHECK(pool.stats().failed == 20);
}

TEST_CASE_EACH_START_METHOD(
    "tasks that were handed to a worker that dies, and not begun, run elsewhere, each once") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (int i = 0; i < 50; ++i) CHECK(pool.submit(number, i).get() == i);  // short ones: it hands ahead
  for (int round = 0; round < 5; ++round) {
    const auto begun = pool.make_event(), go = pool.make_event();
    auto dying = pool.submit(die_on, begun, go);
    begun.wait();
    std::vector<Future<int>> futures;
    for (int i = 0; i < 200; ++i) futures.push_back(pool.submit(number, i));
    go.set();
    CHECK_THROWS_AS(dying.get(), WorkerLost);
    for (int i = 0; i < 200; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == i);
  }
  CHECK(pool.stats().lost == 5);
}

TEST_CASE_EACH_START_METHOD("a worker killed from outside while it is idle fails no future and is replaced") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (const int signal : {SIGKILL, SIGTERM}) {
    CHECK(pool.submit(number, 1).get() == 1);
    const auto pid = pool.worker_pids().at(0);
    ::kill(static_cast<pid_t>(pid), signal);
    std::vector<Future<int>> futures;
    for (int i = 0; i < 5; ++i) futures.push_back(pool.submit({.retries = 1}, number, i));
    for (int i = 0; i < 5; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == i);
    // The signal may take its time: the old worker may have run all five.
    while (process_exists(static_cast<pid_t>(pid))) std::this_thread::yield();
    CHECK(pool.submit(pid_of_worker).get() != static_cast<int>(pid));
  }
}

TEST_CASE_EACH_START_METHOD(
    "what was handed to a worker that is stopped before it begins runs elsewhere, and it works again when it goes on") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .start_all = true}};
  const auto numbers = [&](int count) {
    std::vector<Future<int>> futures;
    for (int i = 0; i < count; ++i) futures.push_back(pool.submit(number, i));
    return futures;
  };
  const auto both = pool.make_barrier(2);
  std::vector<Future<int>> met;
  for (int i = 0; i < 2; ++i) met.push_back(pool.submit(meet, both));
  for (auto& future : met) future.wait();  // both are ready
  for (auto& future : numbers(50)) future.wait();
  for (const auto pid : pool.worker_pids()) {
    stop_process(static_cast<pid_t>(pid));
    auto futures = numbers(100);
    CHECK(wait(futures, ReturnWhen::all_completed, 20s * slowness()).not_done.empty());
    ::kill(static_cast<pid_t>(pid), SIGCONT);
    for (auto& future : futures) (void)future.cancel(Running::kill);
  }
  std::vector<Future<int>> again;
  for (int i = 0; i < 2; ++i) again.push_back(pool.submit(meet, both));  // takes both
  CHECK(wait(again, ReturnWhen::all_completed, 20s * slowness()).not_done.empty());
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD("each failed future has an error object of its own") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto first = pool.submit(die_as_asked, Death::aborts);
  auto second = pool.submit(die_as_asked, Death::aborts);
  const auto address = [](const Future<int>& future) -> const void* {
    try {
      future.get();
    } catch (const WorkerLost& error) {
      return &error;
    }
    return nullptr;
  };
  const auto kept = first.exception(), again = first.exception(), other = second.exception();
  CHECK(kept != again);
  CHECK(kept != other);
  CHECK(address(first) != nullptr);
  CHECK(address(second) != nullptr);
}

TEST_CASE_EACH_START_METHOD("a stack overflow is a lost task with its signal, and the pool goes on") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto dying = pool.submit(overflow, 0);
  CHECK_THROWS_CONTAINS(dying.get(), WorkerLost, "SIGSEGV");
  CHECK(pool.submit(number, 5).get() == 5);
}

TEST_CASE_EACH_START_METHOD("a lost task is run again as often as its retries say, and no more") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto runs = pool.make_counter();
  const auto dies_twice = [](Counter counter) {
    if (++counter < 3) ::raise(SIGKILL);
    return static_cast<int>(this_worker().attempt());
  };
  CHECK(pool.submit({.retries = 2}, dies_twice, runs).get() == 3);
  runs.store(-10);
  auto hopeless = pool.submit({.retries = 1}, dies_twice, runs);
  CHECK_THROWS_AS(hopeless.get(), WorkerLost);
  CHECK(runs.load() == -8);
  CHECK(pool.stats().retried == 3);
}

TEST_CASE_EACH_START_METHOD(
    "what a crash handler logs by the async-signal-safe call is in the log before the failure is seen") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (const int signal : {SIGSEGV, SIGTERM, SIGABRT}) {
    CAPTURE(signal);
    auto crashing = pool.submit(crash_with_a_handler, signal);
    CHECK_THROWS_AS(crashing.get(), WorkerLost);
    std::vector<std::string> said;
    for (const auto& record : crashing.log()) {
      if (record.origin != Origin::log) continue;
      CHECK(record.task_id == crashing.task_id());
      said.push_back(std::string{to_string(record.level)} + " " + record.message);
    }
    CHECK(said == std::vector<std::string>{"info before", "critical the handler was here"});
  }
}

namespace {
enum class Host : int { ignores_sigchld, wants_no_zombies, waits_for_all, has_a_handler };
void be(Host host, std::thread& waiter) {
  struct sigaction action{};
  switch (host) {
    case Host::ignores_sigchld: action.sa_handler = SIG_IGN; break;
    case Host::wants_no_zombies:
      action.sa_handler = SIG_DFL;
      action.sa_flags = SA_NOCLDWAIT;
      break;
    case Host::has_a_handler:
      action.sa_handler = [](int) {
        const int saved = errno;
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
        errno = saved;
      };
      action.sa_flags = SA_RESTART;
      break;
    case Host::waits_for_all:
      waiter = std::thread{[] {
        for (;;) {
          if (::waitpid(-1, nullptr, 0) < 0) ::usleep(100);
        }
      }};
      waiter.detach();
      return;
  }
  ::sigaction(SIGCHLD, &action, nullptr);
}
}  // namespace

TEST_CASE_EACH_START_METHOD(
    "whatever the host does about SIGCHLD and its children, deaths are found, and an unknown reason is said to be unknown (row 18)") {
  if (method == StartMethod::fork)
    KINDRED_SKIP_UNDER_TSAN("a worker that was forked beside threads may start none");
  int unknown_in_all = 0;
  for (const Host host :
       {Host::ignores_sigchld, Host::wants_no_zombies, Host::waits_for_all, Host::has_a_handler}) {
    CAPTURE(static_cast<int>(host));
    const auto outcome = run_forked([&] {
      std::thread waiter;
      be(host, waiter);
      int unknown = 0;
      std::optional<ProcessPoolExecutor> made;
      auto& pool = made.emplace(entry(), ExecutorOptions{.start_method = method, .max_workers = 2});
      pool.logger().add_sink([](const LogRecord&) {});
      for (int i = 0; i < 20; ++i) {
        auto dying = pool.submit(die_as_asked, Death::kills_itself);
        auto other = pool.submit(number, i);
        try {
          dying.get();
          throw std::runtime_error{"no error"};
        } catch (const WorkerLost& error) {
          const auto& reason = error.exit_reason();
          if (reason.kind == ExitReason::Kind::lost) {
            ++unknown;
          } else if (reason.kind != ExitReason::Kind::signalled || reason.signal != SIGKILL) {
            throw std::runtime_error{error.what()};
          }
        }
        if (other.get() != i) throw std::runtime_error{"another value"};
      }
      made.reset();
      std::printf("%d of 20 unknown\n", unknown);
      if (!descendants(::getpid()).empty()) throw std::runtime_error{"processes are left"};
    });
    CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
    unknown_in_all += std::atoi(outcome.out.c_str());
  }
  scorecard(18,
            fmt::format("80 of 80 deaths found in 4 kinds of host, {} of them said to be of unknown reason",
                        unknown_in_all));
}

TEST_CASE_EACH_START_METHOD("a death is told soon, and a kill and the pool's end take little time (row 15)") {
  ResourceAudit audit;
  std::vector<std::int64_t> deaths_told, ends;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    pool.logger().add_sink([](const LogRecord&) {});
    const auto died_at = pool.make_counter();
    for (int i = 0; i < 30; ++i) {
      CHECK(pool.submit(number, i).get() == i);
      auto future = pool.submit(note_time_and_die, died_at);
      future.wait();
      deaths_told.push_back(now_ns() - died_at.load());
    }
  }
  for (int i = 0; i < (long_run() ? 100 : 10); ++i) {
    std::optional<ProcessPoolExecutor> pool;
    pool.emplace(entry(), ExecutorOptions{.start_method = method, .max_workers = 2});
    const auto begun = pool->make_event();
    auto future = pool->submit(
        [](Event event) {
          event.set();
          for (;;) ::pause();
        },
        begun);
    begun.wait();
    const auto since = now_ns();
    pool->kill_workers();
    pool.reset();
    ends.push_back(now_ns() - since);
  }
  const double told = milliseconds_at(deaths_told, 0.5), ended = milliseconds_at(ends, 0.99);
  scorecard(
      15,
      fmt::format("p50 {:.1f} ms, p99 {:.1f} ms of {} pools", milliseconds_at(ends, 0.5), ended, ends.size()),
      ended <= 200);
  CHECK(told < 500 * slowness());  // some hundred microseconds on a quiet machine (figures_test): this one
                                   // may be busy with other tests
  CHECK(ended < 5000 * slowness());
}

TEST_CASE_EACH_START_METHOD(
    "a crash says what it was: a write to a read-only array, or a stack that overflowed") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto values = pool.make_array<int>(1000);
  CHECK_THROWS_CONTAINS(pool.submit(write_to_array, values).get(), WorkerLost, "ArrayAccess::all_write");
  CHECK_THROWS_CONTAINS(pool.submit(overflow_the_stack, 0).get(), WorkerLost, "Its stack overflowed");
  try {
    pool.submit(die_as_asked, Death::segfaults).get();
    FAIL("no error");
  } catch (const WorkerLost& error) {
    CHECK(!contains(error.what(), "ArrayAccess"));
    CHECK(!contains(error.what(), "stack overflowed"));
  }
}

TEST_CASE_EACH_START_METHOD(
    "a crash's stack is the program's: nothing of kindred's plumbing, and the task named in the message") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::vector<LogRecord> told;
  pool.logger().add_sink([&](const LogRecord& record) {
    if (record.origin == Origin::lifecycle && record.level == Level::error) told.push_back(record);
  });
  try {
    pool.submit(crash_behind_a_function, 1).get();
    FAIL("no error");
  } catch (const WorkerLost& error) {
    const std::string stack = error.backtrace();
    CAPTURE(stack);
    for (const char* const plumbing : {"std::__invoke", "std::_Function", "std::invoke", "kindred::internal",
                                       "EntryOf", "start_thread", "__libc_start", "pthread_kill"})
      CHECK(!contains(stack, plumbing));
    CHECK_CONTAINS(stack, "crash_behind_a_function");
    CHECK_CONTAINS(error.what(), "It crashed in ");
    CHECK_CONTAINS(error.what(), "crash_behind_a_function");
    CHECK(pool.logger().flush());
    REQUIRE(told.size() == 1);
    CHECK(!contains(told[0].message, "\n"));
    CHECK_CONTAINS(told[0].message, "SIGSEGV");
    REQUIRE(!told[0].fields.empty());
    CHECK(told[0].fields.back().key == "backtrace");
    CHECK(std::get<std::string>(told[0].fields.back().value) == stack);
  }
}

TEST_CASE_EACH_START_METHOD("of a crash in a library the first function of the program is named, too") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK_THROWS_CONTAINS(pool.submit(crash_in_the_c_library, std::size_t{8}).get(), WorkerLost,
                        ", called by (anonymous namespace)::crash_in_the_c_library");
}

TEST_CASE("also without optimisation a crash's stack is the program's") {
  KINDRED_SKIP_UNDER_TSAN("its own functions are in the stack");
  const auto said = run_program(victim("unoptimized"));
  CAPTURE(said.err);
  CHECK(said.code == 0);
  CHECK_CONTAINS(said.out, "stack:\n(anonymous namespace)::inner\n(anonymous namespace)::outer\nend\n");
  CHECK_CONTAINS(said.out,
                 "stack:\n(anonymous namespace)::inner\n(anonymous namespace)::outer\nmain::{lambda(int)#1}");
  CHECK_CONTAINS(said.out, "It crashed in (anonymous namespace)::inner.");
  CHECK(!contains(said.out, "std::"));
  CHECK(!contains(said.out, "kindred::internal"));
}

TEST_CASE_EACH_START_METHOD("the last lines of a lost task are its own") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.submit(log_then_crash, 1, false).get();
  try {
    pool.submit(log_then_crash, 2, true).get();
    FAIL("no error");
  } catch (const WorkerLost& error) {
    CHECK(error.last_log_lines() ==
          std::vector<std::string>{"[info] task 2 says 0", "[info] task 2 says 1", "[info] task 2 says 2"});
    CHECK(!contains(error.what(), "task 1 says"));
  }
}
