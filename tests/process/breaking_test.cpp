// Deaths that come too often, starts that fail, results cut off, and workers that die while the pool ends.
#include <atomic>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int die() {
  ::raise(SIGKILL);
  return 0;
}
std::size_t size_of(const std::vector<char>& bytes) { return bytes.size(); }

// Its worker is killed in the middle of writing it.
struct CutOff {
  std::vector<char> bytes;
  template <class Archive>
  void save(Archive& archive) const {
    archive(bytes);
    if (in_worker()) ::raise(SIGKILL);
    archive(bytes);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(bytes);
    archive(bytes);
  }
};
CutOff cut_off(std::size_t size) { return {std::vector<char>(size, 'c')}; }

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a pool whose workers die over and over breaks at the limit, and says why") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{
      entry(), {.start_method = method, .max_workers = 1, .restart_limit = {.count = 5, .period = 1h}}};
  pool.logger().add_sink([](const LogRecord&) {});
  // The first death waits until all are submitted: a broken pool takes no more.
  const auto begun = pool.make_event(), go = pool.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(die_on, begun, go));
  for (int i = 0; i < 11; ++i) futures.push_back(pool.submit(die));
  int lost = 0, broken = 0;
  const auto before = cpu_seconds();
  go.set();
  for (auto& future : futures) {
    try {
      future.get();
    } catch (const WorkerLost&) {
      ++lost;
    } catch (const BrokenProcessPool& error) {
      ++broken;
      CHECK_CONTAINS(error.what(), "SIGKILL");
      CHECK_CONTAINS(error.what(), "restart_limit");
      REQUIRE(error.cause());
      CHECK_THROWS_AS(std::rethrow_exception(error.cause()), WorkerLost);
    }
  }
  CHECK(lost == 6);
  CHECK(broken == 6);
  CHECK(cpu_seconds() - before < 1.0 * slowness());
  CHECK_THROWS_AS(pool.submit(number, 1), BrokenProcessPool);
  CHECK(pool.worker_pids().empty());
}

TEST_CASE_EACH_START_METHOD(
    "where every task crashes, the usual restart limit ends them all soon, with little CPU time (row 17)") {
  ResourceAudit audit;
  // The usual limit. Where a sanitizer makes starts and deaths slower, its period is longer by as much.
  RestartLimit limit;
  limit.period *= slowness();
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .restart_limit = limit}};
  pool.logger().add_sink([](const LogRecord&) {});
  std::vector<Future<int>> futures;
  const auto cpu_before = cpu_seconds();
  const auto since = std::chrono::steady_clock::now();
  try {
    for (int i = 0; i < 300; ++i) futures.push_back(pool.submit(die));
  } catch (const BrokenProcessPool&) {  // while we still submit
  }
  int broken = 0;
  for (auto& future : futures) {
    try {
      future.get();
    } catch (const WorkerLost&) {
    } catch (const BrokenProcessPool&) {
      ++broken;
    }
  }
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count(),
               cpu = cpu_seconds() - cpu_before;
  const auto restarts = pool.stats().restarts;
  CHECK(broken > 0);
  CHECK(restarts >= 65);
  CHECK(restarts <= 65 + 2);  // and the other worker's
  CHECK_THROWS_AS(pool.submit(number, 1), BrokenProcessPool);
  CHECK(took <
        20.0 *
            slowness());  // some tenths of a second on a quiet machine: this one may be busy with other tests
  CHECK(cpu < 5.0 * slowness());
  scorecard(17,
            fmt::format("{} tasks ended after {} deaths in {:.2f} s, with {:.2f} s of CPU time of the parent",
                        futures.size(), restarts, took, cpu),
            took <= 2);
}

TEST_CASE_EACH_START_METHOD("a task that succeeds in between ends the count of deaths") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{
      entry(), {.start_method = method, .max_workers = 1, .restart_limit = {.count = 2, .period = 1h}}};
  pool.logger().add_sink([](const LogRecord&) {});
  for (int i = 0; i < 8; ++i) {
    CHECK_THROWS_AS(pool.submit(die).get(), WorkerLost);
    CHECK(pool.submit(number, i).get() == i);
  }
}

TEST_CASE_EACH_START_METHOD("with break_pool, one death ends everything, as in concurrent.futures") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{
      entry(), {.start_method = method, .max_workers = 1, .on_worker_death = OnWorkerDeath::break_pool}};
  pool.logger().add_sink([](const LogRecord&) {});
  const auto begun = pool.make_event(), go = pool.make_event();
  auto dying = pool.submit(die_on, begun, go);
  begun.wait();
  auto pending = pool.submit(number, 1);
  go.set();
  CHECK_THROWS_AS(dying.get(), Error);
  CHECK_THROWS_CONTAINS(pending.get(), BrokenProcessPool, "SIGKILL");
  CHECK_THROWS_AS(pool.submit(number, 1), BrokenProcessPool);
}

TEST_CASE_EACH_START_METHOD(
    "a worker killed in the middle of a large result fails that task, and the others finish") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::size_t size : {std::size_t{100}, std::size_t{30'000}, std::size_t{100} << 20U}) {
    CAPTURE(size);
    auto cut = pool.submit(cut_off, size);
    std::vector<Future<int>> others;
    for (int i = 0; i < 10; ++i) others.push_back(pool.submit(number, i));
    CHECK_THROWS_CONTAINS(cut.get(), WorkerLost, "SIGKILL");
    for (int i = 0; i < 10; ++i) CHECK(others[static_cast<std::size_t>(i)].get() == i);
  }
}

TEST_CASE_EACH_START_METHOD(
    "when all workers die with much in flight, everything ends, and so does shutdown") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 2, .restart_limit = {.count = 1000}}};
  pool.logger().add_sink([](const LogRecord&) {});
  const std::vector<char> large(200'000, 'x');
  std::vector<Future<std::size_t>> futures;
  for (int i = 0; i < 40; ++i) futures.push_back(pool.submit(size_of, large));
  futures.front().wait();
  const auto pids = pool.worker_pids();
  CHECK_FALSE(pids.empty());
  for (const auto pid : pids) ::kill(static_cast<pid_t>(pid), SIGKILL);
  for (int i = 0; i < 40; ++i) futures.push_back(pool.submit(size_of, large));
  pool.shutdown();
  std::size_t lost = 0;
  for (auto& future : futures) {
    REQUIRE(future.done());
    if (future.exception())
      ++lost;
    else
      CHECK(future.get() == large.size());
  }
  CHECK(lost <= 2);
}

TEST_CASE_EACH_START_METHOD("a worker that dies while shutdown waits does not keep it") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto dying = pool.submit(die_on, begun, go);
  begun.wait();
  auto after = pool.submit(number, 3);
  std::thread ends{[&] { pool.shutdown(); }};
  try {
    for (;;) {
      (void)pool.submit(number, 0);
      std::this_thread::yield();  // to the thread that is to begin the shutdown
    }
  } catch (const UsageError&) {  // now it has begun
  }
  go.set();
  ends.join();
  CHECK_THROWS_AS(dying.get(), WorkerLost);
  CHECK(after.get() == 3);
}

TEST_CASE_EACH_START_METHOD(
    "a pool whose workers are killed all the time ends in its grace, however it is ended (row 14)") {
  ResourceAudit audit;
  std::chrono::duration<double> longest{0};
  int ends = 0;
  constexpr auto grace = 1s;
  for (const char* how : {"shutdown", "terminate", "kill", "destroy"}) {
    for (int round = 0; round < (long_run() ? 50 : 3); ++round) {
      CAPTURE(std::string{how});
      CAPTURE(round);
      auto pool = std::make_unique<ProcessPoolExecutor>(entry(),
                                                        ExecutorOptions{.start_method = method,
                                                                        .max_workers = 3,
                                                                        .restart_limit = {.count = 1'000'000},
                                                                        .shutdown_grace = grace});
      pool->logger().add_sink([](const LogRecord&) {});
      std::vector<Future<int>> futures;
      for (int i = 0; i < 60; ++i)
        futures.push_back(i % 4 == 0 ? pool->submit(die) : pool->submit(number, i));
      futures[8].wait();
      std::atomic<bool> cease{false};
      std::thread kills{[&] {
        while (!cease) {
          for (const auto pid : pool->worker_pids()) ::kill(static_cast<pid_t>(pid), SIGKILL);
          std::this_thread::sleep_for(std::chrono::microseconds{300 * (round % 5 + 1)});
        }
      }};
      const auto since = std::chrono::steady_clock::now();
      switch (*how) {
        case 't': pool->terminate_workers(); break;
        case 'k': pool->kill_workers(); break;
        case 's': pool->shutdown({.wait = true, .cancel_pending = true}); break;
        default: cease = true;  // the destructor lets all tasks be run: in a storm for ever
      }
      if (*how != 'd') {
        pool->shutdown();
        for (auto& future : futures) CHECK(future.done());
      }
      cease = true;
      kills.join();
      pool.reset();
      for (auto& future : futures) CHECK(future.done());
      longest = std::max<std::chrono::duration<double>>(longest, std::chrono::steady_clock::now() - since);
      ++ends;
    }
  }
  audit.finish();
  CHECK(longest < (grace + 20s) * slowness());
  scorecard(14,
            fmt::format("{} pools with a grace of 1 s ended in {:.2f} s at most, 0 processes left", ends,
                        longest.count()),
            longest <= grace + 1s);
}

TEST_CASE_EACH_START_METHOD("a callback that submits while workers die does not stop the pool") {
  ResourceAudit audit;
  std::atomic<int> ended{0};
  {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method, .max_workers = 2, .restart_limit = {.count = 1000}}};
    pool.logger().add_sink([](const LogRecord&) {});
    const auto done = pool.make_event();
    for (int i = 0; i < 10; ++i) {
      pool.submit(die).on_done([&] {
        auto next = pool.submit(number, 1);
        next.on_done([&] {
          if (++ended == 10) done.set();
        });
        throw std::runtime_error{"and throws"};
      });
    }
    done.wait();
  }
  CHECK(ended == 10);
}
