// Where workers run: see part_crowded in waiting.cpp.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "kindred/internal/cpu.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

// --- in the worker

SegmentHeader& my_segment() {
  std::ifstream maps{"/proc/self/maps"};
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0;
    if (line.find("/memfd:kindred-segment") != std::string::npos &&
        std::sscanf(line.c_str(), "%lx-", &begin) == 1)
      return *reinterpret_cast<SegmentHeader*>(begin);
  }
  throw std::runtime_error{"no segment"};
}
int say_that_it_is_crowded() {
  const int here = current_cpu();
  my_segment().crowded_cpu.store(static_cast<std::uint32_t>(here) + 1);
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::microseconds{300};  // its place is told every 100 us
  while (std::chrono::steady_clock::now() < until) {}
  return current_cpu() == here ? here : -1;
}
int where_it_runs() { return current_cpu(); }

}  // namespace

TEST_CASE_EACH_START_METHOD("a busy worker leaves a CPU that the parent says is crowded, once") {
  if (usable_cpus() < 2) KINDRED_SKIP("there is one CPU only");
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  bool went = false;
  for (int attempt = 0; !went && attempt < 200; ++attempt) {
    // Handed together, so that the worker does not sleep between and wake elsewhere.
    auto crowded = pool.submit(say_that_it_is_crowded);
    auto next = pool.submit(where_it_runs);
    const int there = crowded.get();
    const int then = next.get();
    went = there != -1 && then != there &&
           pool.submit([] { return my_segment().crowded_cpu.load(); }).get() == 0;
    std::this_thread::sleep_for(std::chrono::milliseconds{2});  // it does not move more often
  }
  CHECK(went);
}
