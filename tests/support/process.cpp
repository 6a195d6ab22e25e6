#include "support/process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/deadline.hpp"
#include "support/stop_process.hpp"

extern char** environ;  // NOLINT: POSIX's name

namespace kindred::test {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const char* what, int error = errno) {
  throw std::system_error{error, std::generic_category(), what};
}

void close_fd(int& fd) {
  if (fd >= 0) ::close(fd);
  fd = -1;
}

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe2");
    read = ends[0];
    write = ends[1];
  }
};

std::vector<std::string> environment_with(const std::vector<std::string>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view old{*entry};
    const auto name = old.substr(0, old.find('='));
    const bool changed = std::any_of(changes.begin(), changes.end(), [&](const std::string& change) {
      return std::string_view{change}.substr(0, change.find('=')) == name;
    });
    if (!changed) result.emplace_back(old);
  }
  for (const auto& change : changes) {
    if (change.find('=') != std::string::npos) result.push_back(change);
  }
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

int remaining_ms(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 1'000'000));
}

void read_available(int& fd, std::string& into) {
  std::array<char, 65536> buffer;  // NOLINT: filled by read
  for (;;) {
    const auto got = ::read(fd, buffer.data(), buffer.size());
    if (got > 0) {
      into.append(buffer.data(), static_cast<std::size_t>(got));
    } else if (got == 0) {
      return close_fd(fd);
    } else if (errno != EINTR) {
      if (errno != EAGAIN) close_fd(fd);
      return;
    }
  }
}

}  // namespace

std::string to_string(const Outcome& outcome) {
  std::ostringstream text;
  if (outcome.timed_out) text << "timed out, ";
  if (outcome.signal != 0) {
    text << "killed by signal " << outcome.signal << " (" << ::strsignal(outcome.signal) << ")";
  } else {
    text << "exited with code " << outcome.code;
  }
  text << "\n--- stdout\n" << outcome.out << "\n--- stderr\n" << outcome.err << "\n---";
  return text.str();
}

Program::Program(const std::string& path, const std::vector<std::string>& arguments, ProgramOptions options)
    : options_{std::move(options)} {
  options_.timeout *= slowness();
  Pipe in, out, err;
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in.read, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out.write, 1);
  ::posix_spawn_file_actions_adddup2(&actions, err.write, 2);
  if (!options_.working_folder.empty())
    ::posix_spawn_file_actions_addchdir_np(&actions, options_.working_folder.c_str());
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (options_.own_group) flags |= POSIX_SPAWN_SETPGROUP;
  ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags));
  std::vector<std::string> words{path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  auto environment = environment_with(options_.environment);
  const int error = ::posix_spawn(&pid_, path.c_str(), &actions, &attributes, pointers(words).data(),
                                  pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  close_fd(in.read);
  close_fd(out.write);
  close_fd(err.write);
  input_ = in.write;
  output_ = out.read;
  error_ = err.read;
  if (error != 0) {
    close_fd(input_);
    close_fd(output_);
    close_fd(error_);
    fail(("posix_spawn of " + path).c_str(), error);
  }
  for (const int fd : {output_, error_}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
  process_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0));
}

Program::~Program() {
  if (!ended_) {
    ::kill(pid_, SIGKILL);
    reap(true);
  }
  for (int* fd : {&input_, &output_, &error_, &process_}) close_fd(*fd);
}

bool Program::reap(bool block) {
  if (ended_) return true;
  int status = 0;
  pid_t got = 0;
  do {
    got = ::waitpid(pid_, &status, block ? 0 : WNOHANG);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return false;
  ended_ = true;
  if (got == pid_) {
    if (WIFEXITED(status)) outcome_.code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) outcome_.signal = WTERMSIG(status);
  }
  return true;
}

bool Program::pump(int milliseconds) {
  std::array<pollfd, 3> fds{{{output_, POLLIN, 0}, {error_, POLLIN, 0}, {ended_ ? -1 : process_, POLLIN, 0}}};
  if (::poll(fds.data(), fds.size(), milliseconds) == 0) return false;
  if (fds[0].revents != 0) read_available(output_, outcome_.out);
  if (fds[1].revents != 0) read_available(error_, outcome_.err);
  if (fds[2].revents != 0) reap(false);
  return true;
}

std::string Program::read_line() {
  const auto end = Clock::now() + options_.timeout;
  for (;;) {
    const auto newline = outcome_.out.find('\n', read_to_);
    if (newline != std::string::npos) {
      auto line = outcome_.out.substr(read_to_, newline - read_to_);
      read_to_ = newline + 1;
      return line;
    }
    if (output_ < 0 || !pump(remaining_ms(end))) {
      throw std::runtime_error{"pid " + std::to_string(pid_) +
                               " wrote no further line; so far: " + to_string(outcome_)};
    }
  }
}

void Program::write(const std::string& text) {
  std::string_view left{text};
  while (!left.empty()) {
    const auto put = ::write(input_, left.data(), left.size());
    if (put < 0) {
      if (errno == EINTR) continue;
      fail("write to the program");
    }
    left.remove_prefix(static_cast<std::size_t>(put));
  }
}

void Program::close_input() { close_fd(input_); }

void Program::signal(int number) {
  if (!ended_) ::kill(options_.own_group ? -pid_ : pid_, number);
}

Outcome Program::wait() {
  close_input();
  const auto end = Clock::now() + options_.timeout;
  while (!ended_) {
    if (!pump(remaining_ms(end))) {
      outcome_.timed_out = true;
      ::kill(pid_, SIGKILL);
      reap(true);
    }
  }
  if (output_ >= 0) read_available(output_, outcome_.out);
  if (error_ >= 0) read_available(error_, outcome_.err);
  return outcome_;
}

bool Program::wait_for_end_of_output(std::chrono::milliseconds limit) {
  const auto end = Clock::now() + limit * slowness();
  while (output_ >= 0 || error_ >= 0) {
    if (!pump(remaining_ms(end))) return false;
  }
  return true;
}

Outcome run_program(const std::string& path, const std::vector<std::string>& arguments,
                    ProgramOptions options) {
  return Program{path, arguments, std::move(options)}.wait();
}

Outcome run_forked(const std::function<void()>& body, std::chrono::milliseconds timeout) {
  Pipe out, err;
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) fail("fork");
  if (pid == 0) {
    for (int number = 1; number < 32; ++number) ::signal(number, SIG_DFL);
    ::dup2(out.write, 1);
    ::dup2(err.write, 2);
    int code = 0;
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      code = 99;
    } catch (...) {
      std::fprintf(stderr, "something that is no std::exception was thrown\n");
      code = 99;
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  close_fd(out.write);
  close_fd(err.write);
  for (const int fd : {out.read, err.read}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
  int process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  Outcome outcome;
  const auto end = Clock::now() + timeout * slowness();
  for (;;) {
    std::array<pollfd, 3> fds{{{out.read, POLLIN, 0}, {err.read, POLLIN, 0}, {process, POLLIN, 0}}};
    if (::poll(fds.data(), fds.size(), remaining_ms(end)) == 0) {
      outcome.timed_out = true;
      ::kill(pid, SIGKILL);
      break;
    }
    if (out.read >= 0) read_available(out.read, outcome.out);
    if (err.read >= 0) read_available(err.read, outcome.err);
    if (fds[2].revents != 0) break;
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  if (out.read >= 0) read_available(out.read, outcome.out);
  if (err.read >= 0) read_available(err.read, outcome.err);
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  close_fd(out.read);
  close_fd(err.read);
  close_fd(process);
  return outcome;
}

CpuHogs::CpuHogs(unsigned count) {
  const pid_t parent = ::getpid();
  for (unsigned i = 0; i < count; ++i) {
    const pid_t pid = ::fork();
    if (pid < 0) throw std::runtime_error{"cannot fork a process that takes CPU time"};
    if (pid != 0) {
      pids_.push_back(pid);
      continue;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close_range(3, ~0U, 0);
    if (::getppid() != parent) ::_exit(0);
    for (volatile unsigned rounds = 0;;) rounds = rounds + 1;
  }
}

CpuHogs::~CpuHogs() {
  for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
  for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
}

void expect_exit(const std::function<void()>& body, int code, const std::string& text) {
  const auto outcome = run_forked(body);
  INFO(to_string(outcome));
  CHECK(outcome.code == code);
  CHECK(outcome.err.find(text) != std::string::npos);
}

void expect_signal(const std::function<void()>& body, int signal, const std::string& text) {
  const auto outcome = run_forked(body);
  INFO(to_string(outcome));
  CHECK(outcome.signal == signal);
  CHECK(outcome.err.find(text) != std::string::npos);
}

std::string victim(const std::string& name) { return std::string{KINDRED_TEST_VICTIMS} + "/" + name; }

std::vector<ProcessInfo> descendants(pid_t root) {
  std::vector<ProcessInfo> all;
  DIR* folder = ::opendir("/proc");
  if (folder == nullptr) return all;
  while (const dirent* entry = ::readdir(folder)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
    std::string stat;
    std::getline(file, stat);
    // The name stands in parentheses and may hold anything, parentheses too: what follows begins after the
    // last one.
    const auto open = stat.find('('), close = stat.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    ProcessInfo info;
    info.pid = pid;
    info.name = stat.substr(open + 1, close - open - 1);
    std::istringstream rest{stat.substr(close + 1)};
    rest >> info.state >> info.parent;
    std::string ignored;
    for (int field = 5; field <= 21; ++field) rest >> ignored;
    rest >> info.started;
    std::ifstream arguments{"/proc/" + std::to_string(pid) + "/cmdline"};
    std::getline(arguments, info.command);
    std::replace(info.command.begin(), info.command.end(), '\0', ' ');
    all.push_back(std::move(info));
  }
  ::closedir(folder);
  std::vector<pid_t> tree{root};
  std::vector<ProcessInfo> below;
  for (std::size_t at = 0; at < tree.size(); ++at) {
    for (const auto& info : all) {
      if (info.parent == tree[at]) {
        tree.push_back(info.pid);
        below.push_back(info);
      }
    }
  }
  return below;
}

namespace {

// As in /proc/PID/stat; 'X' where there is no such process.
char state_of(pid_t pid) {
  std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
  std::string stat;
  std::getline(file, stat);
  const auto close = stat.rfind(')');
  return close != std::string::npos && close + 2 < stat.size() ? stat[close + 2] : 'X';
}

}  // namespace

bool process_exists(pid_t pid) { return !is_ended(state_of(pid)); }

void stop_process(pid_t pid) {
  ::kill(pid, SIGSTOP);
  for (char state = state_of(pid); state != 'T'; state = state_of(pid)) {
    if (is_ended(state))
      throw std::runtime_error{"process " + std::to_string(pid) + " ended and cannot stop"};
    std::this_thread::yield();
  }
}

}  // namespace kindred::test
