#include "support/deadline.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/crowd.hpp"
#include "support/process.hpp"
#include "support/rows.hpp"

extern char** environ;  // NOLINT: POSIX's name

namespace kindred::test {

double crowd() {
  std::ifstream file{"/proc/loadavg"};
  double runnable = 0;
  file >> runnable;
  return std::clamp(runnable / static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN)), 1.0, 10.0);
}

namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* channel_variable = "KINDRED_TEST_SUPERVISED";

int channel = -1;    // in the test: to the watchdog
pid_t watchdog = 0;  // in the test: its pid

std::chrono::seconds usual_limit() noexcept {
  static const std::chrono::seconds limit = [] {
    const char* const seconds = std::getenv("KINDRED_TEST_CASE_SECONDS");
    const int given = seconds != nullptr ? std::atoi(seconds) : 0;
    return std::chrono::seconds{given > 0 ? given : 60};
  }();
  return limit;
}

void tell(const std::string& line) {
  if (channel >= 0) static_cast<void>(!::write(channel, (line + "\n").data(), line.size() + 1));
}

int run_tool(const std::vector<std::string>& words) {
  std::vector<std::string> copy{words};
  std::vector<char*> arguments;
  for (auto& word : copy) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, 2, 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return 127;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

void print_kernel_view(const std::string& process) {
  for (const char* file : {"wchan", "syscall", "stack"}) {
    std::ifstream text{process + "/" + file};
    std::ostringstream all;
    all << text.rdbuf();
    std::cerr << "  " << file << ": " << all.str() << "\n";
  }
}

void dump_stacks(const std::vector<ProcessInfo>& processes) {
  for (const auto& info : processes) {
    const auto pid = std::to_string(info.pid);
    std::cerr << "\n=== pid " << pid << " (parent " << info.parent << ", " << info.state << ") "
              << info.command << std::endl;
    if (is_ended(info.state)) continue;
    if (run_tool({"timeout", "20", "gdb", "-batch", "-nx", "-p", pid, "-ex", "set pagination off", "-ex",
                  "thread apply all bt 30"}) == 0)
      continue;
    if (run_tool({"timeout", "20", "eu-stack", "-p", pid}) == 0) continue;
    print_kernel_view("/proc/" + pid);
  }
  std::cerr << std::endl;
}

// A case that does not come to its end says nothing of its rows any more.
void print_not_held(const std::string& name, const char* how) {
  for (const int row : internal::rows_of(name))
    internal::print_row(row, "NOT HELD: \"" + name + "\" " + how, name);
}

// Stops all before it kills any, so that nobody replaces what was killed.
void kill_tree() {
  for (const int number : {SIGSTOP, SIGKILL}) {
    for (const auto& info : descendants(::getpid())) ::kill(info.pid, number);
  }
}

struct Watch {
  pid_t test = 0;
  bool test_ended = false;
  int status = 0;
  std::string running;  // name of the case
  std::chrono::seconds limit{};
  Clock::time_point begun{}, due = Clock::time_point::max();
  std::string unread;

  void hear(int from) {
    std::array<char, 4096> buffer;  // NOLINT: filled by read
    const auto got = ::read(from, buffer.data(), buffer.size());
    if (got <= 0) return;
    unread.append(buffer.data(), static_cast<std::size_t>(got));
    for (auto end = unread.find('\n'); end != std::string::npos; end = unread.find('\n')) {
      const auto line = unread.substr(0, end);
      unread.erase(0, end + 1);
      if (line.starts_with("begin ")) {
        running = line.substr(6);
        begun = Clock::now();
        limit = usual_limit() * slowness();
        due = begun + limit;
      } else if (line.starts_with("limit ")) {
        limit = std::chrono::seconds{std::atoll(line.c_str() + 6)} * slowness();
        due = begun + limit;
      } else {
        running.clear();
        due = Clock::time_point::max();
      }
    }
  }

  // The orphans of tests come to this process, too, and are reaped like all others.
  void reap() {
    int ended_status = 0;
    pid_t pid = 0;
    while ((pid = ::waitpid(-1, &ended_status, WNOHANG)) > 0) {
      if (pid == test) {
        test_ended = true;
        status = ended_status;
      }
    }
  }
};

[[noreturn]] void watch(pid_t test, int from) {
  sigset_t heard;
  ::sigemptyset(&heard);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&heard, number);
  const int signals = ::signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK);
  Watch state;
  state.test = test;
  bool overdue = false;
  while (!state.test_ended) {
    int wait_ms = -1;
    if (state.due != Clock::time_point::max()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(state.due - Clock::now()).count();
      wait_ms = static_cast<int>(std::clamp<long long>(left, 0, 1'000'000));
    }
    std::array<pollfd, 2> fds{{{from, POLLIN, 0}, {signals, POLLIN, 0}}};
    ::poll(fds.data(), fds.size(), wait_ms);
    if ((fds[0].revents & POLLIN) != 0) state.hear(from);
    if ((fds[0].revents & POLLHUP) != 0 && (fds[0].revents & POLLIN) == 0) from = -1;
    signalfd_siginfo info{};
    while (::read(signals, &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGCHLD) continue;
      kill_tree();
      std::_Exit(128 + static_cast<int>(info.ssi_signo));
    }
    state.reap();
    if (!state.test_ended && Clock::now() >= state.due) {
      const auto crowded_due =
          state.begun + std::chrono::duration_cast<Clock::duration>(state.limit * crowd());
      if (crowded_due > Clock::now()) {
        state.due = crowded_due;
        continue;
      }
      overdue = true;
      std::cerr << "\nDEADLINE: \"" << state.running << "\" ran over its "
                << std::chrono::duration_cast<std::chrono::seconds>(state.due - state.begun).count()
                << " s. Stacks of all its processes:" << std::endl;
      dump_stacks(descendants(::getpid()));
      print_not_held(state.running, "ran over its time");
      break;
    }
  }
  if (overdue) {
    kill_tree();
    std::_Exit(1);
  }
  // A process that was told to end needs a moment to do so: its end is an event here.
  const auto grace = Clock::now() + std::chrono::seconds{2} * slowness();
  auto left = descendants(::getpid());
  while (!left.empty() && Clock::now() < grace) {
    pollfd fd{signals, POLLIN, 0};
    ::poll(&fd, 1, 50);
    signalfd_siginfo info{};
    while (::read(signals, &info, sizeof info) == sizeof info) {}
    state.reap();
    left = descendants(::getpid());
  }
  if (!left.empty()) {
    std::cerr << "\nLEFT BEHIND when the tests had ended:" << std::endl;
    for (const auto& info : left)
      std::cerr << "  pid " << info.pid << " (" << info.state << ") " << info.name << ": " << info.command
                << "\n";
    dump_stacks(left);
    kill_tree();
  }
  if (WIFSIGNALED(state.status)) {
    std::cerr << "\nDIED: the test program was killed by " << ::strsignal(WTERMSIG(state.status));
    if (!state.running.empty()) std::cerr << " in \"" << state.running << "\"";
    std::cerr << std::endl;
    print_not_held(state.running, "died");
    std::_Exit(128 + WTERMSIG(state.status));
  }
  std::_Exit(left.empty() ? WEXITSTATUS(state.status) : 1);
}

constexpr int slowness_of_build() noexcept {
#if defined(__SANITIZE_THREAD__)
  return 5;
#elif defined(__SANITIZE_ADDRESS__)
  return 3;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
  return 5;
#else
  return 1;
#endif
#else
  return 1;
#endif
}

}  // namespace

int slowness() noexcept {
  static const int factor = [] {
    const char* const machine = std::getenv("KINDRED_TEST_SLOWER");
    return slowness_of_build() * (machine != nullptr ? std::max(1, std::atoi(machine)) : 1);
  }();
  return factor;
}

pid_t tree_root() noexcept { return watchdog != 0 ? watchdog : ::getpid(); }

Deadline::Deadline(std::chrono::seconds limit) { tell("limit " + std::to_string(limit.count())); }

void internal::case_begins(const std::string& name) { tell("begin " + name); }
void internal::case_ends() { tell("end"); }

void supervise(int argc, char** argv) {
  if (const char* fd = std::getenv(channel_variable)) {
    channel = std::atoi(fd);
    watchdog = ::getppid();
    ::fcntl(channel, F_SETFD, FD_CLOEXEC);
    ::unsetenv(channel_variable);  // NOLINT: no thread yet
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  const char* wish = std::getenv("KINDRED_TEST_SUPERVISE");
  if (wish != nullptr && std::string_view{wish} == "0") return;

  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t heard, before;
  ::sigemptyset(&heard);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&heard, number);
  ::sigprocmask(SIG_BLOCK, &heard, &before);
  const int far_end = 100;  // high, so that the tests' own descriptors begin where they would without us
  ::setenv(channel_variable, std::to_string(far_end).c_str(), 1);  // NOLINT: no thread yet
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], far_end);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &before);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::vector<char*> arguments{argv, argv + argc};
  arguments.push_back(nullptr);
  pid_t test = 0;
  const int error = ::posix_spawn(&test, "/proc/self/exe", &actions, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    std::cerr << "cannot start the tests below their watchdog: " << std::strerror(error) << std::endl;
    std::_Exit(1);
  }
  ::close(ends[1]);
  watch(test, ends[0]);
}

}  // namespace kindred::test
