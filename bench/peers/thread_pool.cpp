// A thread pool with futures, in each of the rows that kindred has for tasks. Compiled once for each pool
// (thread_pools.hpp).
#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

#include "peers/thread_pools.hpp"
#include "support/heavy_tail.hpp"
#include "support/processor_time.hpp"

namespace {

using bench::now_ns;
using bench::Pool;

/// A pool's whole life; returns how long `count` tasks took.
double run_tasks(const bench::Options& options, std::size_t count) {
  const auto iterations = options.number("iterations", 0);
  const auto submitters = options.number("submitters", 1);
  Pool pool{options.number("workers", 2)};
  const auto run = [&](std::size_t all) {
    std::vector<std::future<std::uint64_t>> futures;
    futures.reserve(all);
    for (std::size_t index = 0; index < all; ++index)
      futures.push_back(pool.submit([iterations] { return bench::work(iterations); }));
    std::uint64_t sum = 0;
    for (auto& future : futures) sum += future.get();
    if (sum == 1) bench::fail("unreachable");
  };
  bench::in_threads(submitters, bench::warm_up_of(count), run);
  const double begin = now_ns();
  bench::in_threads(submitters, count, run);
  return now_ns() - begin;
}

/// Submit all, then get all.
void tasks(const bench::Options& options) {
  const auto count = options.number("count", 100'000);
  const double processor = bench::processor_ns();
  const double took = run_tasks(options, count);
  bench::report_tasks(count, took, bench::processor_ns() - processor);
}

void round_trip(const bench::Options& options, bool after_silence) {
  const auto count = options.number("count", 2000);
  const auto warm_up = count / 10 + 1;
  Pool pool{options.number("workers", 2)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + warm_up; ++done) {
    if (after_silence) std::this_thread::sleep_for(bench::silence(done));
    const double begin = now_ns();
    if (pool.submit([done] { return done; }).get() != done) bench::fail("a wrong result");
    if (done >= warm_up) samples.add(now_ns() - begin);
  }
  samples.report("us", 1e-3);
}

void throws(const bench::Options& options) {
  const auto count = options.number("count", 2000);
  const auto warm_up = count / 10 + 1;
  Pool pool{options.number("workers", 2)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + warm_up; ++done) {
    const double begin = now_ns();
    try {
      (void)pool.submit([done]() -> std::size_t { throw std::runtime_error{"no " + std::to_string(done)}; })
          .get();
      bench::fail("a task that throws did not");
    } catch (const std::runtime_error&) {
      if (done >= warm_up) samples.add(now_ns() - begin);
    }
  }
  samples.report("us", 1e-3);
}

void map(const bench::Options& options) {
  const auto count = options.number("count", 20);
  std::vector<std::int64_t> from(options.number("items", 100'000));
  std::vector<double> to(from.size());
  for (std::size_t index = 0; index < from.size(); ++index) from[index] = static_cast<std::int64_t>(index);
  Pool pool{options.number("workers", 2)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + 2; ++done) {
    const double begin = now_ns();
    pool.map(from, to, [](std::int64_t value) { return static_cast<double>(value) * 0.5; });
    if (done >= 2) samples.add(now_ns() - begin);
  }
  if (to.back() != static_cast<double>(from.back()) * 0.5) bench::fail("a wrong result");
  samples.report("ms", 1e-6);
}

void map_heavy_tailed(const bench::Options& options) {
  const auto count = options.number("count", 5);
  const auto from = bench::heavy_tailed(options.number("items", 10'000), options.number("iterations", 6'000));
  std::vector<double> to(from.size());
  Pool pool{options.number("workers", 2)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + 1; ++done) {
    const double begin = now_ns();
    pool.map(from, to, bench::run_heavy_tailed);
    if (done >= 1) samples.add(now_ns() - begin);
  }
  bench::check_heavy_tailed(from, to);
  samples.report("ms", 1e-6);
}

/// Bytes by value into the task and out of it, as they would have to be where the caller keeps its own.
void bytes(const bench::Options& options) {
  const auto count = options.number("count", 20);
  const std::vector<std::uint8_t> sent(options.number("bytes", 1U << 20U), 7);
  Pool pool{options.number("workers", 2)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + 2; ++done) {
    const double begin = now_ns();
    const auto back = pool.submit([argument = sent] { return std::vector<std::uint8_t>{argument}; }).get();
    if (done >= 2) samples.add(now_ns() - begin);
    if (back.size() != sent.size() || back.back() != 7) bench::fail("a wrong result");
  }
  samples.report("ms", 1e-6);
}

void start(const bench::Options& options) {
  const auto count = options.number("count", 20);
  const auto workers = options.number("workers", 2);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    const double begin = now_ns();
    Pool pool{workers};
    if (pool.submit([] { return 1; }).get() != 1) bench::fail("a wrong result");
    samples.add(now_ns() - begin);
  }
  samples.report("ms", 1e-6);
}

/// Constructs pools of one thread, and has a task run in each of them at once.
void start_pools(std::size_t count, std::deque<Pool>& pools) {
  std::vector<std::future<std::size_t>> futures;
  futures.reserve(count);
  for (std::size_t index = 0; index < count; ++index)
    futures.push_back(pools.emplace_back(1).submit([index] { return index; }));
  for (std::size_t index = 0; index < count; ++index) {
    if (futures[index].get() != index) bench::fail("a wrong result");
  }
}

void many_pools(const bench::Options& options) {
  const auto pools = options.number("pools", 64);
  const auto count = options.number("count", 5);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    std::deque<Pool> all;
    const double begin = now_ns();
    start_pools(pools, all);
    samples.add(now_ns() - begin);
  }
  samples.report("ms", 1e-6);
}

void many_pools_in_turn(const bench::Options& options) {
  const auto pools = options.number("pools", 64);
  const auto count = options.number("count", 10'000);
  const auto warm_up = count / 10 + 1;
  std::deque<Pool> all;
  start_pools(pools, all);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + warm_up; ++done) {
    const double begin = now_ns();
    if (all[done % pools].submit([done] { return done; }).get() != done) bench::fail("a wrong result");
    if (done >= warm_up) samples.add(now_ns() - begin);
  }
  samples.report("us", 1e-3);
}

/// One long task, then short ones that the other worker could run: how long the slowest of them took.
void fairness(const bench::Options& options) {
  const auto count = options.number("count", 20);
  const auto shorts = options.number("shorts", 100);
  const auto long_iterations = options.number("long_iterations", 12'000'000);
  const auto short_iterations = options.number("iterations", 6'000);
  Pool pool{2};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    std::vector<std::future<std::uint64_t>> before;
    for (int index = 0; index < 8; ++index) before.push_back(pool.submit([] { return bench::work(100); }));
    const double begin = now_ns();
    auto lengthy = pool.submit([long_iterations] { return bench::work(long_iterations); });
    std::vector<std::future<std::uint64_t>> futures;
    for (std::size_t index = 0; index < shorts; ++index)
      futures.push_back(pool.submit([short_iterations] { return bench::work(short_iterations); }));
    for (auto& future : futures) future.wait();
    samples.add(now_ns() - begin);
    lengthy.wait();
    for (auto& future : before) future.wait();
  }
  samples.report("ms", 1e-6);
}

void idle(const bench::Options& options) {
  const auto workers = options.number("workers", 2);
  Pool pool{workers};
  for (int index = 0; index < 100; ++index) pool.submit([] { return 1; }).get();
  bench::hold({});
}

/// Memory of tasks that wait: the driver looks before and after they are submitted.
void pending(const bench::Options& options) {
  const auto count = options.number("count", 1'000'000);
  Pool pool{options.number("workers", 2)};
  std::promise<void> open;
  const auto gate = open.get_future().share();
  std::vector<std::future<std::uint64_t>> futures;
  futures.resize(count);  // touched before the driver looks: the caller's own vector is not the pool's memory
  std::vector<std::future<void>> blocked;
  for (std::size_t index = 0; index < options.number("workers", 2); ++index)
    blocked.push_back(pool.submit([gate] { gate.wait(); }));
  bench::hold({});
  for (auto& future : futures)
    future = pool.submit([&future] { return reinterpret_cast<std::uint64_t>(&future); });
  bench::hold({}, count);
  open.set_value();
  for (auto& future : futures) future.wait();
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const std::map<std::string, void (*)(const bench::Options&)> rows{
      {"tasks", tasks},
      {"round_trip", [](const bench::Options& chosen) { round_trip(chosen, false); }},
      {"round_trip_after_silence", [](const bench::Options& chosen) { round_trip(chosen, true); }},
      {"throw", throws},
      {"map", map},
      {"map_heavy_tailed", map_heavy_tailed},
      {"bytes", bytes},
      {"start", start},
      {"pools", many_pools},
      {"pools_round_trip", many_pools_in_turn},
      {"fairness", fairness},
      {"idle", idle},
      {"pending", pending}};
  const auto row = rows.find(options.text("row", "tasks"));
  if (row == rows.end()) bench::fail("no row " + options.text("row", "tasks"));
  row->second(options);
}
