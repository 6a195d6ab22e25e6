// A program with a pool that dies, or leaves, whatever its workers are doing: nothing of it goes on.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

// Waits until none of `processes` is there any more, for ten seconds at most, and names those that stay. How
// soon they go is a figure of the scorecard: a busy machine may need long. Pids may be used again: a process
// is named by its start too.
std::string still_there(const std::vector<ProcessInfo>& processes,
                        std::chrono::steady_clock::time_point* gone = nullptr) {
  const auto end = std::chrono::steady_clock::now() + 10s * slowness();
  // To ask after each is little work; to list all processes takes some milliseconds.
  while (std::ranges::any_of(processes, [](const auto& then) { return process_exists(then.pid); })) {
    if (std::chrono::steady_clock::now() >= end) break;
    std::this_thread::sleep_for(1ms);
  }
  if (gone != nullptr) *gone = std::chrono::steady_clock::now();
  std::string listing;
  for (const auto& now : descendants(tree_root())) {
    for (const auto& then : processes) {
      if (now.pid == then.pid && now.started == then.started && !is_ended(now.state))
        listing += std::to_string(now.pid) + " (" + now.name + ") ";
    }
  }
  return listing;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "when the parent is killed, every worker and server of its is gone, whatever they did (row 11)") {
  std::chrono::duration<double, std::milli> idle{0}, busy{0};
  for (const char* state : {"idle", "busy", "deaf", "initializer", "result", "respawning"}) {
    CAPTURE(std::string{state});
    ResourceAudit audit;
    Program program{victim("orphaned_pool"), {std::string{to_string(method)}, state}};
    CHECK(program.read_line() == "ready");
    const auto processes = descendants(program.pid());
    if (std::string{state} != "respawning") CHECK_FALSE(processes.empty());
    const auto since = std::chrono::steady_clock::now();
    program.signal(SIGKILL);
    auto gone = since;
    CHECK(still_there(processes, &gone) == "");
    auto& longest = std::string{state} == "idle" ? idle : busy;
    longest = std::max<std::chrono::duration<double, std::milli>>(longest, gone - since);
    CHECK(program.wait().signal == SIGKILL);
    CHECK(program.wait_for_end_of_output(5s));
  }
  scorecard(
      11,
      fmt::format(
          "nothing left {:.0f} ms after the SIGKILL of an idle program, {:.0f} ms after that of busy, deaf, starting and dying ones",
          idle.count(), busy.count()),
      idle <= 100ms && busy <= 1s);
}

TEST_CASE_EACH_START_METHOD("a parent that ends by a signal it does not handle leaves nothing behind") {
  for (const int signal : {SIGTERM, SIGINT, SIGSEGV}) {
    CAPTURE(signal);
    ResourceAudit audit;
    Program program{victim("orphaned_pool"), {std::string{to_string(method)}, "busy"}};
    CHECK(program.read_line() == "ready");
    const auto processes = descendants(program.pid());
    program.signal(signal);
    CHECK(program.wait().signal == signal);
    CHECK(still_there(processes) == "");
  }
}

TEST_CASE_EACH_START_METHOD("a parent killed at any moment of its workers' start leaves nothing behind") {
  for (int round = 0; round < 16; ++round) {
    ResourceAudit audit;
    Program program{victim("orphaned_pool"), {std::string{to_string(method)}, "starting"}};
    CHECK(program.read_line() == "ready");
    std::this_thread::sleep_for(
        std::chrono::microseconds{round * 700});  // two workers are up after some 3 to 15 ms
    program.signal(SIGKILL);
    CHECK(program.wait().signal == SIGKILL);
    CHECK(program.wait_for_end_of_output(5s));  // each of them has it
  }
}

TEST_CASE_EACH_START_METHOD(
    "a program that leaves with tasks pending and no shutdown ends, and its workers with it") {
  for (const char* state : {"exit", "leak"}) {
    CAPTURE(std::string{state});
    ResourceAudit audit;
    Program program{victim("orphaned_pool"), {std::string{to_string(method)}, state}};
    const auto outcome = program.wait();
    INFO(to_string(outcome));
    CHECK(outcome.code == 0);
    CHECK_FALSE(outcome.timed_out);
    CHECK(program.wait_for_end_of_output(5s));
  }
}
