// A test program that goes wrong in every way a test program can: unit/watchdog_test.cpp runs it a case at a
// time, and judges the judge.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.hpp"

namespace {

// A function of its own, so that its name in a printed stack proves that the stack is readable.
[[gnu::noinline]] void wait_for_godot() {
  for (;;) ::pause();
}

}  // namespace

TEST_CASE("passes") { CHECK(true); }
TEST_CASE("fails") { CHECK_CONTAINS("what was said", "what was meant"); }
TEST_CASE("skips") { KINDRED_SKIP("the moon is not full"); }
TEST_CASE("hangs") {
  kindred::test::Deadline deadline{std::chrono::seconds{1}};
  if (::fork() == 0) ::pause();
  wait_for_godot();
}
TEST_CASE("crashes") { ::raise(SIGSEGV); }
TEST_CASE("exits") { std::_Exit(0); }
TEST_CASE("leaves an orphan") {
  if (::fork() == 0) {
    if (::fork() == 0) ::pause();
    std::_Exit(0);
  }
  int status = 0;
  ::wait(&status);
}
TEST_CASE("leaks a descriptor") {
  kindred::test::ResourceAudit audit;
  CHECK(::open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}
TEST_CASE("says a figure and holds (rows 1, 2) [fork]") {
  kindred::test::scorecard(1, "3 < 4 & \"all\" right");
  kindred::test::scorecard(3, "5 ms", false);
}
TEST_CASE("says a figure and fails afterwards (G7, row 4)") {
  kindred::test::scorecard(4, "nothing lost");
  CHECK(false);
}
TEST_CASE("fails before it says anything (row 5, B6)") { throw 1; }
TEST_CASE("skips its row (row 6)") { KINDRED_SKIP("no such kernel"); }
TEST_CASE("crashes in its row (row 7)") { ::raise(SIGSEGV); }
