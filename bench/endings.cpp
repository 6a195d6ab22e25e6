// Tasks that end otherwise than with a value.
//   --row throw    submit and get of a task that throws, one after another
//   --row cancel   cancel of a pending task, among as many that wait behind one that runs
//   --row death    a task ends its only worker: from its submit to the result of the next task
//   --row crashing each tenth task ends its worker, the others give their results; no retries
//   --count N
#include <unistd.h>

#include <stdexcept>
#include <thread>

#include "support/pool_options.hpp"

namespace {

std::size_t echo(std::size_t number) { return number; }
std::size_t refuse(std::size_t number) { throw std::runtime_error{"no " + std::to_string(number)}; }
void run_long() { std::this_thread::sleep_for(std::chrono::minutes{10}); }
void die() { ::_exit(3); }

void throws(kindred::Entry& entry, const bench::Options& options) {
  const auto count = options.number("count", 2000);
  const auto warm_up = count / 10 + 1;
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + warm_up; ++done) {
    const double begin = bench::now_ns();
    try {
      (void)pool.submit(refuse, done).get();
      bench::fail("a task that throws did not");
    } catch (const std::runtime_error&) {
      if (done >= warm_up) samples.add(bench::now_ns() - begin);
    }
  }
  samples.report("us", 1e-3);
}

void cancels(kindred::Entry& entry, const bench::Options& options) {
  const auto count = options.number("count", 100'000);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options, 1)};
  auto runs = pool.submit(run_long);
  std::vector<kindred::Future<std::size_t>> futures;
  futures.reserve(count);
  for (std::size_t index = 0; index < count; ++index) futures.push_back(pool.submit(echo, index));
  const double begin = bench::now_ns();
  for (auto& future : futures) {
    if (!future.cancel()) bench::fail("a pending task was not cancelled");
  }
  const double end = bench::now_ns();
  pool.kill_workers();
  bench::report((end - begin) / static_cast<double>(count), "ns");
}

void deaths(kindred::Entry& entry, const bench::Options& options) {
  const auto count = options.number("count", 50);
  auto chosen = bench::warm_pool_options(options, 1);
  chosen.restart_limit.count = count + 10;
  kindred::ProcessPoolExecutor pool{entry, chosen};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    const double begin = bench::now_ns();
    auto dies = pool.submit(die);
    if (pool.submit(echo, done).get() != done) bench::fail("a wrong result");
    samples.add(bench::now_ns() - begin);
    try {
      dies.get();
      bench::fail("a task that ends its worker did not");
    } catch (const kindred::WorkerLost&) {}
  }
  samples.report("ms", 1e-6);
}

std::size_t die_each_tenth(std::size_t number) {
  if (number % 10 == 7) ::_exit(3);
  return number;
}

/// Whether the task ended as it has to: with its result, or, each tenth, with its worker.
bool ended_right(kindred::Future<std::size_t>& future, std::size_t number) {
  try {
    return future.get() == number && number % 10 != 7;
  } catch (const kindred::WorkerLost&) {
    return number % 10 == 7;
  }
}

void crashing(kindred::Entry& entry, const bench::Options& options) {
  const auto count = options.number("count", 1'000);
  auto chosen = bench::warm_pool_options(options);
  chosen.restart_limit.count = count;
  kindred::ProcessPoolExecutor pool{entry, chosen};
  std::vector<kindred::Future<std::size_t>> futures;
  futures.reserve(count);
  const double begin = bench::now_ns();
  for (std::size_t index = 0; index < count; ++index) futures.push_back(pool.submit(die_each_tenth, index));
  for (std::size_t index = 0; index < count; ++index) {
    if (!ended_right(futures[index], index))
      bench::fail("task " + std::to_string(index) + " ended otherwise");
  }
  bench::report(static_cast<double>(count) / (bench::now_ns() - begin) * 1e9, "tasks/s");
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto row = options.text("row", "throw");
  if (row == "throw")
    throws(entry, options);
  else if (row == "cancel")
    cancels(entry, options);
  else if (row == "death")
    deaths(entry, options);
  else if (row == "crashing")
    crashing(entry, options);
  else
    bench::fail("no row " + row);
}
