// The tests' own machinery: what it says must be true before anything that it says about kindred is.
#include <atomic>
#include <csignal>
#include <stdexcept>
#include <string_view>
#include <thread>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/test.hpp"

namespace test = kindred::test;

TEST_CASE_EACH_START_METHOD("a case for each start method is told its method") {
  CHECK_FALSE(to_string(method).empty());
}

TEST_CASE("a forked body is judged by its exit code and its words") {
  test::expect_exit(
      [] {
        std::fputs("out of ideas\n", stderr);
        std::_Exit(3);
      },
      3, "out of ideas");
  test::expect_exit([] { throw std::runtime_error{"no such thing"}; }, 99, "no such thing");
}

TEST_CASE("a forked body is judged by its signal") {
  test::expect_signal([] { ::raise(SIGKILL); }, SIGKILL);
}

TEST_CASE("a program's output, code and signal are told apart") {
  const auto said = test::run_program("/bin/sh", {"-c", "echo one; echo two >&2; exit 7"});
  CHECK(said.code == 7);
  CHECK(said.out == "one\n");
  CHECK(said.err == "two\n");
  CHECK(test::run_program("/bin/sh", {"-c", "kill -9 $$"}).signal == SIGKILL);
}

TEST_CASE("a program that runs over its time is killed") {
  const auto outcome =
      test::run_program("/bin/sleep", {"600"},
                        {.environment = {}, .working_folder = {}, .timeout = std::chrono::milliseconds{20}});
  CHECK(outcome.timed_out);
  CHECK(outcome.signal == SIGKILL);
}

TEST_CASE("a program is talked to line by line, and its orphans are seen to hold its output") {
  test::Program program{"/bin/sh", {"-c", "read word; echo $word; sleep 600 & echo $!"}};
  program.write("hello\n");
  CHECK(program.read_line() == "hello");
  const auto orphan = std::stoi(program.read_line());
  CHECK(program.wait().code == 0);
  CHECK_FALSE(program.wait_for_end_of_output(std::chrono::milliseconds{20}));
  ::kill(orphan, SIGKILL);
  CHECK(program.wait_for_end_of_output(std::chrono::seconds{10}));
}

TEST_CASE("the audit sees a descriptor, a memfd mapping, a thread, a process and a named memory that stay") {
  test::ResourceAudit nothing;
  {
    test::ResourceAudit audit;
    const int fd = ::memfd_create("kindred-audit", MFD_CLOEXEC);
    REQUIRE(::ftruncate(fd, 4096) == 0);
    void* memory = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
    std::atomic<bool> stop{false};
    std::thread thread{[&] { stop.wait(false); }};
    test::Program program{"/bin/sleep", {"600"}};
    const auto named = "kindred-audit-" + std::to_string(::getpid());
    test::write_file("/dev/shm/" + named, "x");
    while (test::read_file("/proc/" + std::to_string(program.pid()) + "/comm") != "sleep\n")
      std::this_thread::yield();  // the kernel names it late in its exec
    const auto listing = audit.difference(std::chrono::milliseconds{0});
    ::unlink(("/dev/shm/" + named).c_str());
    CHECK_CONTAINS(listing, "/dev/shm entry " + named);
    CHECK_CONTAINS(listing, "descriptor");
    CHECK_CONTAINS(listing, "/memfd:kindred-audit");
    CHECK_CONTAINS(listing, "mapping");
    CHECK_CONTAINS(listing, "thread tid");
    CHECK_CONTAINS(listing, "(sleep)");
    stop = true;
    stop.notify_all();
    thread.join();
    ::munmap(memory, 4096);
    ::close(fd);
    program.signal(SIGKILL);
    program.wait();
  }
}

TEST_CASE("the audit sees an orphan") {
  test::ResourceAudit audit;
  test::Program program{"/bin/sh", {"-c", "sleep 600 & echo $!"}};
  const auto orphan = std::stoi(program.read_line());
  CHECK(program.wait().code == 0);
  CHECK_CONTAINS(audit.difference(std::chrono::milliseconds{0}), "pid " + std::to_string(orphan));
  ::kill(orphan, SIGKILL);
}

TEST_CASE("a process that has ended is never seen to exist again, also while it is reaped") {
  for (const char state : std::string_view{"ZX"}) CHECK(test::is_ended(state));
  for (const char state : std::string_view{"RSDTtI"}) CHECK_FALSE(test::is_ended(state));
  // Where a dead process (X) counted as one that exists, some three of these would be seen to rise again.
  int risen = 0;
  for (int i = 0; i < 200; ++i) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      for (;;) ::pause();
    }
    std::atomic<bool> reaped{false};
    std::thread reaper{[&] {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      reaped = true;
    }};
    bool ended = false;
    while (!reaped) {
      const bool exists = test::process_exists(pid);
      risen += ended && exists ? 1 : 0;
      ended = ended || !exists;
    }
    reaper.join();
  }
  CHECK(risen == 0);
}
