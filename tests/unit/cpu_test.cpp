// Where a thread runs.
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <new>
#include <thread>

#include "kindred/internal/cpu.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

cpu_set_t usable_here() {
  cpu_set_t usable;
  REQUIRE(::sched_getaffinity(0, sizeof usable, &usable) == 0);
  return usable;
}

}  // namespace

TEST_CASE("a thread that leaves a CPU goes on on another one, and may use the same ones as before") {
  const cpu_set_t before = usable_here();
  if (CPU_COUNT(&before) < 2) KINDRED_SKIP("there is one CPU only");
  std::thread{[&before] {
    bool went = false;
    for (int attempt = 0; !went && attempt < 1000; ++attempt) {  // the kernel may take it back at once
      const int here = current_cpu();
      CHECK(leave_cpu(here));
      went = current_cpu() != here;
    }
    CHECK(went);
    const cpu_set_t after = usable_here();
    CHECK(CPU_EQUAL(&before, &after));
  }}.join();
}

TEST_CASE("another process leaves a CPU for another one, and may use the same ones as before") {
  const cpu_set_t before = usable_here();
  if (CPU_COUNT(&before) < 2) KINDRED_SKIP("there is one CPU only");
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  auto& cpu = *::new (memory) std::atomic<int>{-1};
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (;;) cpu = ::sched_getcpu();
  }
  while (cpu == -1) std::this_thread::yield();
  bool went = false;
  for (int attempt = 0; !went && attempt < 1000; ++attempt) {
    const int there = cpu;
    CHECK(leave_cpu(there, static_cast<std::uint32_t>(child)));
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds{1};
    while (!went && std::chrono::steady_clock::now() < until) went = cpu != there;
  }
  CHECK(went);
  cpu_set_t after;
  REQUIRE(::sched_getaffinity(child, sizeof after, &after) == 0);
  CHECK(CPU_EQUAL(&before, &after));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::munmap(memory, 4096);
}

TEST_CASE("a thread that goes to a CPU goes on there, and may use the same ones as before") {
  const cpu_set_t before = usable_here();
  std::thread{[&before] {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before)) continue;
      CAPTURE(cpu);
      bool went = false;
      for (int attempt = 0; !went && attempt < 1000; ++attempt) {  // the kernel may take it back at once
        CHECK(go_to_cpu(cpu));
        went = current_cpu() == cpu;
      }
      CHECK(went);
    }
    const cpu_set_t after = usable_here();
    CHECK(CPU_EQUAL(&before, &after));
  }}.join();
}

TEST_CASE("a thread that may use one CPU stays there") {
  std::thread{[] {
    const int here = current_cpu();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(here, &one);
    REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK_FALSE(leave_cpu(here));
    CHECK_FALSE(leave_cpu(-1));
    CHECK_FALSE(leave_cpu(CPU_SETSIZE));
    CHECK(go_to_cpu(here));
    for (const int other : {-1, here == 0 ? 1 : 0, CPU_SETSIZE}) CHECK_FALSE(go_to_cpu(other));
    const cpu_set_t after = usable_here();
    CHECK(CPU_EQUAL(&one, &after));
  }}.join();
}
