// Many pools in one program, each of one worker.
//   --row start        construction of all of them until each has given its first result
//   --row round_trip   round trips over them in turn
//   --pools N --count rounds, or round trips
#include <deque>

#include "support/pool_options.hpp"

namespace {

std::size_t echo(std::size_t number) { return number; }

/// Constructs the pools, and has a task run in each of them at once.
void start_all(kindred::Entry& entry, const kindred::ExecutorOptions& options, std::size_t count,
               std::deque<kindred::ProcessPoolExecutor>& pools) {
  std::vector<kindred::Future<std::size_t>> futures;
  futures.reserve(count);
  for (std::size_t index = 0; index < count; ++index)
    futures.push_back(pools.emplace_back(entry, options).submit(echo, index));
  for (std::size_t index = 0; index < count; ++index) {
    if (futures[index].get() != index) bench::fail("a wrong result");
  }
}

void starts(kindred::Entry& entry, const bench::Options& options, std::size_t pools) {
  const auto count = options.number("count", 5);
  const auto chosen = bench::pool_options(options, 1);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    std::deque<kindred::ProcessPoolExecutor> all;
    const double begin = bench::now_ns();
    start_all(entry, chosen, pools, all);
    samples.add(bench::now_ns() - begin);
  }
  samples.report("ms", 1e-6);
}

void round_trips(kindred::Entry& entry, const bench::Options& options, std::size_t pools) {
  const auto count = options.number("count", 10'000);
  const auto warm_up = count / 10 + 1;
  std::deque<kindred::ProcessPoolExecutor> all;
  start_all(entry, bench::pool_options(options, 1), pools, all);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + warm_up; ++done) {
    auto& pool = all[done % pools];
    const double begin = bench::now_ns();
    if (pool.submit(echo, done).get() != done) bench::fail("a wrong result");
    if (done >= warm_up) samples.add(bench::now_ns() - begin);
  }
  samples.report("us", 1e-3);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto pools = options.number("pools", 64);
  const auto row = options.text("row", "start");
  if (row == "start")
    starts(entry, options, pools);
  else if (row == "round_trip")
    round_trips(entry, options, pools);
  else
    bench::fail("no row " + row);
}
