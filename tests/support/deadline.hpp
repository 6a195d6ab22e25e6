#pragma once

#include <chrono>
#include <string>

#include <sys/types.h>

namespace kindred::test {

/// Each test case has 60 s (KINDRED_TEST_CASE_SECONDS; times a factor under sanitizers, and times the load of
/// each CPU where others have the machine too). Make one of these where it needs other time, first thing in
/// the case.
///
/// The watchdog is a process outside: it runs the test program as its child, is told when a case begins and
/// ends, and is the reaper of whatever the tests orphan. When the time is over it prints the stacks of the
/// test and of all processes below it, kills them all, and fails. It also fails a program that ends while
/// processes of its own go on.
class Deadline {
 public:
  explicit Deadline(std::chrono::seconds limit);
};

/// Starts the watchdog and runs this program again below it: returns in the child only. Does nothing where
/// `KINDRED_TEST_SUPERVISE=0`, for debuggers.
void supervise(int argc, char** argv);

/// Where the tree of processes that belong to this test begins: the watchdog, or this process where there is
/// none.
[[nodiscard]] pid_t tree_root() noexcept;

/// How much longer things take here: 1, or more under a sanitizer, times KINDRED_TEST_SLOWER (an emulated
/// machine).
[[nodiscard]] int slowness() noexcept;

namespace internal {
void case_begins(const std::string& name);
void case_ends();
}  // namespace internal

}  // namespace kindred::test
