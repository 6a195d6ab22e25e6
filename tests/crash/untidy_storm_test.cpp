// Tasks that are untidy at random (descriptors, flags, forks, stops, groups, execs, messages, bells, deaths),
// beside honest ones: every future ends, honest tasks give what they should, and nothing is left. Rows 1 and
// 2 of the reliability table with the weapons that no write into the segment has.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"
#include "support/untidy.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

using Random = std::mt19937_64;

std::int64_t honest(std::int64_t value, int microseconds) {
  if (microseconds != 0) ::usleep(static_cast<useconds_t>(microseconds));
  if (value % 8 == 0) log_info("honest {}", value);
  return 3 * value;
}
std::vector<std::int64_t> honest_and_large(std::int64_t value) {
  return std::vector<std::int64_t>(20'000, value);
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "untidy tasks at random harm no honest one beyond its own worker, and leave nothing") {
  Deadline deadline{300s};
  const std::uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  Random random{seed};
  const int rounds = (long_run() ? 200 : 12) / (slowness() > 1 ? 4 : 1) + 1;
  std::int64_t honest_tasks = 0, lost = 0, untidy_tasks = 0;
  {
    ResourceAudit audit;
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method,
                              .max_workers = 3,
                              .restart_limit = {.count = 1'000'000},
                              .worker = {.capture_output = random() % 2 == 0},
                              .stopped_limit = 100ms}};
    pool.logger().add_sink([](const LogRecord&) {});
    for (int round = 0; round < rounds; ++round) {
      std::vector<std::pair<std::int64_t, Future<std::int64_t>>> plain;
      std::vector<std::pair<std::int64_t, Future<std::vector<std::int64_t>>>> large;
      std::vector<Future<std::int64_t>> wild;
      for (int i = 0; i < 24; ++i) {
        const auto value = static_cast<std::int64_t>(random() % 1'000'000);
        switch (random() % 4) {
          case 0: wild.push_back(pool.submit(untidy, random())); break;
          case 1: large.emplace_back(value, pool.submit(honest_and_large, value)); break;
          default:
            plain.emplace_back(value, pool.submit(honest, value, static_cast<int>(random() % 3'000)));
            break;
        }
      }
      const auto until = 60s * slowness();
      for (auto& future : wild) {
        REQUIRE(future.wait_for(until));
        try {
          const auto result = future.get();
          CHECK(result == 7);
        } catch (const WorkerLost&) {}
      }
      // An untidy task leaves its worker as it is: what comes to that worker next may be lost with it, and is
      // told so, but never wrong.
      for (auto& [value, future] : plain) {
        REQUIRE(future.wait_for(until));
        try {
          const auto result = future.get();
          CHECK(result == 3 * value);
        } catch (const WorkerLost&) {
          ++lost;
        }
      }
      for (auto& [value, future] : large) {
        REQUIRE(future.wait_for(until));
        try {
          const auto result = future.get();
          CHECK(result == std::vector<std::int64_t>(20'000, value));
        } catch (const WorkerLost&) {
          ++lost;
        }
      }
      untidy_tasks += static_cast<std::int64_t>(wild.size());
      honest_tasks += static_cast<std::int64_t>(plain.size() + large.size());
    }
    CHECK(pool.logger().flush());
  }
  CHECK(lost <= untidy_tasks);
  MESSAGE(fmt::format("{} untidy tasks beside {} honest ones, of which {} were lost", untidy_tasks,
                      honest_tasks, lost));
}

namespace {

// The processes, zombies not counted, whose environment had that variable when they were executed, or whose
// ancestor's had when it was copied.
std::vector<std::string> processes_marked(const std::string& mark) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc"}) {
    // A process may end while its files are read: then they are cut, or empty.
    const auto read = [&](const char* name) {
      std::ifstream file{entry.path() / name};
      std::string text;
      std::getline(file, text, '\x01');
      return text;
    };
    const std::string variables = read("environ");
    if (variables.find(mark) == std::string::npos) continue;
    const std::string stat = read("stat");
    const auto end = stat.rfind(')');
    if (end != std::string::npos && !is_ended(stat[end + 2])) found.push_back(stat.substr(0, end + 3));
  }
  return found;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a program that is killed in a storm of untidy tasks leaves no process (row 11)") {
  Deadline deadline{600s};
  const std::uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  Random random{seed};
  const int programs = (long_run() ? 100 : 6) / (slowness() > 1 ? 3 : 1) + 1;
  std::chrono::microseconds slowest{0};
  for (int i = 0; i < programs; ++i) {
    ResourceAudit audit;
    const std::string mark = "KINDRED_TEST_MARK=" + std::to_string(random());
    ProgramOptions options;
    options.environment.push_back(mark);
    Program program{
        victim("untidy_storm"), {std::string{to_string(method)}, std::to_string(random())}, options};
    CHECK(program.read_line() == "ready");
    ::usleep(static_cast<useconds_t>(random() % 400'000));
    program.signal(SIGKILL);
    CHECK(program.wait().signal == SIGKILL);
    const auto since = std::chrono::steady_clock::now();
    std::vector<std::string> left;
    do {  // how soon they go is the scorecard's figure: a busy machine may need long
      left = processes_marked(mark);
    } while (!left.empty() && std::chrono::steady_clock::now() - since < 10s * slowness());
    slowest = std::max(slowest, std::chrono::duration_cast<std::chrono::microseconds>(
                                    std::chrono::steady_clock::now() - since));
    for (const auto& process : left) MESSAGE("left: " << process);
    REQUIRE(left.empty());
  }
  scorecard(11,
            fmt::format("{} programs killed in a storm of untidy tasks under {}: the last process was gone "
                        "after {} us at the latest",
                        programs, to_string(method), slowest.count()),
            slowest <= 1s);
}
