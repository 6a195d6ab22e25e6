#pragma once

// Small tasks that many tests submit, and what they time with.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

#include "kindred/kindred.hpp"

namespace kindred::test {

inline int number(int value) { return value; }
inline int add(int a, int b) { return a + b; }
inline int pid_of_worker() { return static_cast<int>(::getpid()); }
inline void kill_itself() { ::raise(SIGKILL); }

/// Returns `value` when `go` is set.
inline int wait_and_return(Event go, int value) {
  go.wait();
  return value;
}
/// Says that it runs, and returns 7 when `go` is set.
inline int begin_and_wait(Event begun, Event go) {
  begun.set();
  go.wait();
  return 7;
}
/// The same, and then dies.
inline int die_on(Event begun, Event go) {
  begun.set();
  go.wait();
  ::raise(SIGKILL);
  return 0;
}
/// One of as many as `all` waits for: each in a worker of its own.
inline int pid_together(Barrier all) {
  all.arrive_and_wait();
  return static_cast<int>(::getpid());
}

/// Of the process of that number.
[[nodiscard]] inline std::int64_t resident_kib(const std::string& pid = "self") {
  std::ifstream file{"/proc/" + pid + "/status"};
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmRSS:")) return std::stoll(line.substr(6));
  }
  return 0;
}

[[nodiscard]] inline std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds{1};
}
inline void note_time_and_die(Counter died_at) {
  died_at.store(now_ns());
  ::raise(SIGKILL);
}
/// What `part` of the times, in nanoseconds, do not exceed; sorts them.
[[nodiscard]] inline double milliseconds_at(std::vector<std::int64_t>& times, double part) {
  std::sort(times.begin(), times.end());
  return static_cast<double>(times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))]) /
         1e6;
}

}  // namespace kindred::test
