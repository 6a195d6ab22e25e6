// Ctrl-C, and a parent that is stopped or whose wall clock is set.
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/stop_process.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

// Nobody but the parent says anything, and that one thing only.
void check_quiet(const test::Outcome& outcome) {
  INFO(to_string(outcome));
  CHECK(outcome.code == 130);
  std::string left = outcome.err;
  if (const auto at = left.find("interrupted: pending tasks are cancelled"); at != std::string::npos) {
    CHECK(left.find('\n', at) != std::string::npos);
    const auto begin = left.rfind('\n', at) == std::string::npos ? 0 : left.rfind('\n', at) + 1;
    left.erase(begin, left.find('\n', at) + 1 - begin);
  }
  CHECK(left == "");
}

// The program has said that it is ready. ThreadSanitizer holds signals back until the thread calls something
// that it knows, and so one that comes just before the thread sleeps in ppoll is held back for ever: there it
// shall sleep already.
void before_the_signal() {
#ifdef __SANITIZE_THREAD__
  std::this_thread::sleep_for(200ms);
#endif
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "one Ctrl-C to the whole group cancels what is pending, lets the running task end, and exits with 130") {
  ResourceAudit audit;
  Program program{victim("interrupted"), {std::string{to_string(method)}, "gentle"}, {.own_group = true}};
  CHECK(program.read_line() == "ready");
  before_the_signal();
  ::kill(-program.pid(), SIGINT);
  CHECK(program.read_line() == "5 cancelled");
  check_quiet(program.wait());
  CHECK(program.wait_for_end_of_output(5s));
}

TEST_CASE_EACH_START_METHOD("a second Ctrl-C kills what does not end, at once") {
  ResourceAudit audit;
  Program program{victim("interrupted"), {std::string{to_string(method)}, "deaf"}, {.own_group = true}};
  CHECK(program.read_line() == "ready");
  before_the_signal();
  ::kill(-program.pid(), SIGINT);
  CHECK(program.read_line() == "5 cancelled");
  ::kill(-program.pid(), SIGINT);
  check_quiet(program.wait());
  CHECK(program.wait_for_end_of_output(5s));
}

TEST_CASE_EACH_START_METHOD("Ctrl-C typed at a terminal reaches the parent alone") {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0)
    KINDRED_SKIP("no pseudo terminal to be had");
  const std::string name = ::ptsname(terminal);
  const std::string path = victim("interrupted"), how{to_string(method)};
  std::string out;
  std::thread types{[&] {
    bool typed = false;
    for (char bytes[512]; !contains(out, "5 cancelled");) {
      const auto got = ::read(terminal, bytes, sizeof bytes);
      if (got <= 0) break;
      out.append(bytes, static_cast<std::size_t>(got));
      if (typed || !contains(out, "ready")) continue;
      before_the_signal();
      typed = ::write(terminal, "\x03", 1) == 1;
    }
  }};
  const auto outcome = run_forked([&] {
    ::setsid();
    const int end = ::open(name.c_str(), O_RDWR);
    ::ioctl(end, TIOCSCTTY, 0);
    for (const int fd : {0, 1, 2}) ::dup2(end, fd);
    ::execl(path.c_str(), path.c_str(), how.c_str(), "gentle", nullptr);
  });
  types.join();
  ::close(terminal);
  INFO(out);
  CHECK(outcome.code == 130);
  CHECK_CONTAINS(out, "5 cancelled");
}

TEST_CASE(
    "a parent that was stopped for a while, five seconds too, finds its tasks done, not over their time (row 31)") {
  ResourceAudit audit;
  std::vector<std::unique_ptr<Program>> programs;  // each start method, all at once: the time is the same
  for (const char* const method : {"fork", "spawn", "forkserver"}) {
    programs.push_back(
        std::make_unique<Program>(victim("interrupted"), std::vector<std::string>{method, "timed"}));
    CHECK(programs.back()->read_line() == "ready");
  }
  for (const auto stop : {1200ms, 5000ms}) {
    std::this_thread::sleep_for(130ms);  // at another place in a task each time
    for (auto& program : programs) stop_process(program->pid());
    std::this_thread::sleep_for(stop);
    for (auto& program : programs) program->signal(SIGCONT);
  }
  for (auto& program : programs) {
    program->write("end\n");
    CHECK(program->read_line() == "0 over, 0 wrong, some done, 0 restarts");
    CHECK(program->wait().code == 0);
  }
  scorecard(31, "3 parents stopped for 1.2 s and for 5 s: 0 tasks over their limit of 1 s, 0 deaths");
}

TEST_CASE_EACH_START_METHOD("a wall clock that is set, forth and back, ends no task and no wait (row 31)") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer wants to come before all other libraries");
  ResourceAudit audit;
  Program program{victim("interrupted"),
                  {std::string{to_string(method)}, "timed"},
                  {.environment = {"LD_PRELOAD=" + victim("stepped_clock.so")}}};
  CHECK(program.read_line() == "ready");
  std::this_thread::sleep_for(500ms);
  program.write("end\n");
  CHECK(program.read_line() == "0 over, 0 wrong, some done, 0 restarts");
  CHECK(program.wait().code == 0);
  scorecard(31,
            "a wall clock that steps by one or two hours at every look: 0 tasks over their limit, 0 deaths");
}
