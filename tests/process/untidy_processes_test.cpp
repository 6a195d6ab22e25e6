// A task that forks, executes, stops itself, leaves its group or touches the terminal harms its own worker,
// for a bounded time, and nothing else.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

template <class T>
bool ends(const Future<T>& future, std::chrono::milliseconds limit = 5s) {
  return future.wait_for(limit * slowness());
}
int own_pid() { return static_cast<int>(::getpid()); }
int twice(int value) {
  log_info("twice {}", value);
  return 2 * value;
}

enum class Way : int { fork, fork_and_throw, fork_without_handlers, raw_clone, several };
int fork_and_come_out(Way way) {
  pid_t pid = 0;
  switch (way) {
    case Way::fork:
    case Way::fork_and_throw:
    case Way::several: pid = ::fork(); break;
    case Way::fork_without_handlers: pid = ::_Fork(); break;
    case Way::raw_clone: pid = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); break;
  }
  if (pid == 0 && way == Way::fork_and_throw) throw std::runtime_error{"exec failed"};
  if (pid == 0) return -1;
  int status = 0;
  ::waitpid(pid, &status, 0);
  for (int i = 0; way == Way::several && i < 30; ++i) {
    pid = ::fork();
    if (pid == 0) return -1;
    ::waitpid(pid, &status, 0);
  }
  return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? 1 : 1000 + status;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a process that a task forked never gives the task's result") {
  for (const Way way : {Way::fork, Way::fork_and_throw, Way::fork_without_handlers, Way::raw_clone}) {
    CAPTURE(static_cast<int>(way));
    ResourceAudit audit;
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    std::atomic<int> records{0}, words{0};
    pool.logger().add_sink([&](const LogRecord& record) {
      records += record.origin == Origin::log ? 1 : 0;
      words += contains(record.message, "came out of the task's function") ? 1 : 0;
    });
    auto future = pool.submit(fork_and_come_out, way);
    REQUIRE(ends(future));
    CHECK(future.get() == 1);
    for (int i = 0; i < 10; ++i) CHECK(pool.submit(twice, i).get() == 2 * i);
    pool.logger().flush();
    CHECK(records == 10);
    CHECK(words == 1);
    const auto since = std::chrono::steady_clock::now();
    pool.shutdown();
    CHECK(std::chrono::steady_clock::now() - since < 2s * slowness());
  }
}

TEST_CASE_EACH_START_METHOD("many forked processes that come out of a task are not each told in the log") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::atomic<int> words{0};
  pool.logger().add_sink([&](const LogRecord& record) {
    words += contains(record.message, "came out of the task's function") ? 1 : 0;
  });
  CHECK(pool.submit(fork_and_come_out, Way::several).get() == 1);
  CHECK(pool.submit(twice, 4).get() == 8);
  pool.logger().flush();
  CHECK(words == 8);
}

TEST_CASE_EACH_START_METHOD("a task that executes another program in the worker's place is ended, and told") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  auto future = pool.submit([]() -> int { return ::execlp("sleep", "sleep", "1000", nullptr); });
  REQUIRE(ends(future));
  CHECK_THROWS_CONTAINS(future.get(), WorkerLost, "executes another program");
  CHECK(pool.submit(twice, 2).get() == 4);
}

TEST_CASE_EACH_START_METHOD(
    "a limit ends a task that tried to leave its group and session, and what it started") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  CHECK(pool.submit(twice, 1).get() == 2);
  auto future = pool.submit({.timeout = 300ms}, []() -> int {
    if (::fork() == 0) {
      for (;;) ::pause();
    }
    (void)::setpgid(0, ::getpgid(::getppid()));
    (void)::setsid();
    std::signal(SIGTERM, SIG_IGN);
    for (;;) ::pause();
  });
  REQUIRE(ends(future, 3s));
  CHECK_THROWS_AS(future.get(), TaskTimeout);
  CHECK(pool.submit(twice, 2).get() == 4);
  pool.kill_workers();
}

TEST_CASE_EACH_START_METHOD("a task that stops itself is told in the log, and ends after stopped_limit") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .stopped_limit = 500ms}};
  std::atomic<int> words{0};
  pool.logger().add_sink(
      [&](const LogRecord& record) { words += contains(record.message, "was stopped by a signal") ? 1 : 0; });
  CHECK(pool.submit(twice, 1).get() == 2);
  auto future = pool.submit([](int number) { return ::raise(number); }, SIGSTOP);
  REQUIRE(ends(future, 6s));
  CHECK_THROWS_CONTAINS(future.get(), WorkerLost, "stopped_limit");
  pool.logger().flush();
  CHECK(words == 1);
  // The stops of a terminal do nothing to a worker: it leads a session that has none.
  for (const int signal : {SIGTSTP, SIGTTIN, SIGTTOU}) {
    auto other = pool.submit([](int number) { return ::raise(number); }, signal);
    REQUIRE(ends(other));
    CHECK(other.get() == 0);
  }
}

TEST_CASE_EACH_START_METHOD("a callback learns of a task that stopped itself though no thread waits for it") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .stopped_limit = 100ms}};
  CHECK(pool.submit(twice, 1).get() == 2);
  std::this_thread::sleep_for(1200ms);  // so that the supervisor sleeps for ever
  Event called = pool.make_event();
  auto future = pool.submit([] { return ::raise(SIGSTOP); });
  future.on_done([called](const auto&) mutable { called.set(); });
  CHECK(called.wait_for(6s * slowness()));
}

TEST_CASE_EACH_START_METHOD("a stopped worker that is continued in time gives its result") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .stopped_limit = 60s}};
  std::atomic<int> stopped{0}, continued{0};
  pool.logger().add_sink([&](const LogRecord& record) {
    stopped += contains(record.message, "was stopped by a signal") ? 1 : 0;
    continued += contains(record.message, "goes on: it was continued") ? 1 : 0;
  });
  const auto pid = pool.submit(own_pid).get();
  auto future = pool.submit([] {
    ::raise(SIGSTOP);
    return 5;
  });
  const auto until = std::chrono::steady_clock::now() + 10s * slowness();
  while (stopped == 0 && std::chrono::steady_clock::now() < until) (void)future.wait_for(10ms);
  CHECK(stopped == 1);
  ::kill(pid, SIGCONT);
  REQUIRE(ends(future));
  CHECK(future.get() == 5);
}

TEST_CASE_EACH_START_METHOD("a terminal can stop no worker") {
  // A program with a terminal of its own, with tostop, whose tasks write to it, read from it and set it.
  for (const char* what : {"write", "read", "stty"}) {
    CAPTURE(std::string{what});
    ResourceAudit audit;
    int terminal = -1;
    const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    REQUIRE(child >= 0);
    if (child == 0) {
      termios settings{};
      ::tcgetattr(0, &settings);
      settings.c_lflag |= TOSTOP;
      ::tcsetattr(0, TCSANOW, &settings);
      const std::string program = victim("untidy_tasks");
      ::execl(program.c_str(), program.c_str(), std::string{to_string(method)}.c_str(), what, nullptr);
      ::_exit(127);
    }
    std::string said;
    std::array<char, 512> bytes{};
    const auto until = std::chrono::steady_clock::now() + 10s * slowness();
    ::fcntl(terminal, F_SETFL, O_NONBLOCK);
    while (!contains(said, "ended") && std::chrono::steady_clock::now() < until) {
      const auto got = ::read(terminal, bytes.data(), bytes.size());
      if (got > 0) {
        said.append(bytes.data(), static_cast<std::size_t>(got));
      } else if (got == 0 || errno != EAGAIN) {
        break;
      } else {
        std::this_thread::sleep_for(2ms);
      }
    }
    CHECK_CONTAINS(said, "ended");
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ::close(terminal);
  }
}

TEST_CASE_EACH_START_METHOD("nothing outlives a killed program, whatever its tasks did to their processes") {
  for (const char* state : {"closed", "closed_idle", "stopped", "forked", "executed", "left", "flags"}) {
    CAPTURE(std::string{state});
    ResourceAudit audit;  // tells at its end which processes are left
    Program program{victim("untidy_tasks"), {std::string{to_string(method)}, state}};
    CHECK(program.read_line() == "ready");
    program.signal(SIGKILL);
    CHECK(program.wait().signal == SIGKILL);
  }
}
