#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace kindred::test {

/// What a program came to.
struct Outcome {
  int code = -1;           ///< exit code; -1 where a signal ended it
  int signal = 0;          ///< the signal that ended it, or 0
  bool timed_out = false;  ///< it was killed because it ran over its time
  std::string out;
  std::string err;
};
[[nodiscard]] std::string to_string(const Outcome& outcome);

struct ProgramOptions {
  std::vector<std::string> environment = {};  ///< `NAME=value`, added to ours; a bare `NAME` is taken away
  std::string working_folder = {};            ///< empty: ours
  bool own_group = false;  ///< leads a process group of its own, so that a Ctrl-C can be sent to it
  std::chrono::milliseconds timeout{30'000};  ///< for `wait` and `read_line`; the program is then killed
};

/// A program that runs beside the test: a victim. Its standard input is a pipe, its output is collected. What
/// still runs at the end of the object is killed and reaped.
class Program {
 public:
  explicit Program(const std::string& path, const std::vector<std::string>& arguments = {},
                   ProgramOptions options = {});
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// Returns the next line of its standard output, without the newline. Fails the test where none comes in
  /// time.
  [[nodiscard]] std::string read_line();
  void write(const std::string& text);
  void close_input();
  void signal(int number);
  /// Waits until it ends, and returns all that it wrote (lines that `read_line` took included).
  Outcome wait();
  /// Waits until nobody holds its standard output and error any more: neither the program nor anything that
  /// it started. Returns false where one still does after `limit`.
  [[nodiscard]] bool wait_for_end_of_output(std::chrono::milliseconds limit);

 private:
  bool pump(int milliseconds);  // reads what is there; false: the time is over
  bool reap(bool block);

  ProgramOptions options_;
  pid_t pid_ = -1;
  int input_ = -1, output_ = -1, error_ = -1, process_ = -1;
  bool ended_ = false;
  std::size_t read_to_ = 0;
  Outcome outcome_;
};

/// Runs a program to its end.
Outcome run_program(const std::string& path, const std::vector<std::string>& arguments = {},
                    ProgramOptions options = {});

/// Forks, runs `body` in the child with default signal handlers, and returns what became of it: exit code 0
/// where `body` returned, 99 where it threw (the text is in `err`).
Outcome run_forked(const std::function<void()>& body,
                   std::chrono::milliseconds timeout = std::chrono::seconds{30});

/// Processes that do nothing but take CPU time, until the end of the object.
class CpuHogs {
 public:
  explicit CpuHogs(unsigned count);
  CpuHogs(const CpuHogs&) = delete;
  CpuHogs& operator=(const CpuHogs&) = delete;
  ~CpuHogs();

 private:
  std::vector<pid_t> pids_;
};

/// Runs `body` in a fork, and fails the test unless it exits with `code` (or is killed by `signal`) and says
/// `text` on stderr.
void expect_exit(const std::function<void()>& body, int code, const std::string& text = {});
void expect_signal(const std::function<void()>& body, int signal, const std::string& text = {});

/// Returns the path of tests/victims/<name>.cpp as built.
[[nodiscard]] std::string victim(const std::string& name);

struct ProcessInfo {
  pid_t pid = 0;
  pid_t parent = 0;
  char state = '?';
  unsigned long long started = 0;  ///< in clock ticks since boot: with the pid it names a process for ever
  std::string name;
  std::string command;
};
/// All processes below `root` in /proc, without `root`.
[[nodiscard]] std::vector<ProcessInfo> descendants(pid_t root);
/// Does this state of /proc/PID/stat say that the process has ended? A zombie (Z) is dead (X) for an instant
/// while it is reaped.
[[nodiscard]] constexpr bool is_ended(char state) noexcept { return state == 'Z' || state == 'X'; }
[[nodiscard]] bool process_exists(
    pid_t pid);  ///< one that has ended does not count; once false, always false

}  // namespace kindred::test
