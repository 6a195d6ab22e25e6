// Tasks that are untidy at random (descriptors, flags, forks, stops, groups, execs, messages, bells, deaths),
// beside honest ones: every future ends, honest tasks give what they should, and nothing is left. Rows 1 and
// 2 of the reliability table with the weapons that no write into the segment has.
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"

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

// Does one to three untidy things, and may end by the last one.
std::int64_t untidy(std::uint64_t seed) {
  Random random{seed};
  for (auto left = 1 + random() % 3; left > 0; --left) {
    const int fd = static_cast<int>(3 + random() % 8);
    switch (random() % 14) {
      case 0: ::syscall(SYS_close_range, fd, ~0U, 0); break;
      case 1: ::close(fd); break;
      case 2:
        ::close(fd);
        (void)::open("/dev/null", O_RDWR);
        break;
      case 3:
        for (int each = 0; each < 16; ++each)
          ::fcntl(each, F_SETFL, random() % 2 == 0 ? 0 : O_NONBLOCK | O_ASYNC);
        break;
      case 4: {
        std::array<char, 256> bytes{};
        (void)::recv(kindred::internal::worker_fd::socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
        break;
      }
      case 5: {
        std::array<char, 64> bytes{};
        for (auto& byte : bytes) byte = static_cast<char>(random());
        (void)::send(kindred::internal::worker_fd::socket, bytes.data(), random() % bytes.size(),
                     MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      }
      case 6:
        if (::fork() == 0) return -1;
        break;
      case 7:
        if (::fork() == 0) throw std::runtime_error{"a child of a task"};
        break;
      case 8:
        if (::fork() == 0) {  // goes on beside its worker, and after it
          ::usleep(static_cast<useconds_t>(random() % 20'000));
          ::_exit(0);
        }
        break;
      case 9:
        (void)::setsid();
        (void)::setpgid(0, 0);
        std::signal(SIGTERM, SIG_IGN);
        break;
      case 10:
        if (random() % 4 == 0) ::raise(SIGSTOP);
        break;
      case 11:
        if (random() % 2 == 0) ::execlp("sleep", "sleep", "1000", nullptr);
        break;
      case 12: ::dup2(0, fd); break;
      default:
        if (random() % 4 == 0) ::raise(SIGKILL);
        if (random() % 4 == 0) ::_exit(75);
        break;
    }
  }
  return 7;
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
