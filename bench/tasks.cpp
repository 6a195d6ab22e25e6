// Tasks with futures: submit all, then get all.
//   --count tasks --workers N --iterations of work each (0: an empty task) --submitters threads that share
//   the tasks, --priority 1 after one task has had a priority, --timeout seconds that each task may take (0:
//   no limit), --watched 1 while a program looks at the pool, --trace FILE while a trace is written
#include "support/pool_options.hpp"
#include "support/processor_time.hpp"
#include "support/watched.hpp"

namespace {

std::uint64_t run(std::uint64_t iterations) { return bench::work(iterations); }

/// A pool's whole life, with a tenth of `count` tasks before the clock starts. Returns how long `count` tasks
/// took.
double run_all(kindred::Entry& entry, const bench::Options& options, std::size_t count) {
  const auto submitters = options.number("submitters", 1);
  const std::uint64_t iterations = options.number("iterations", 0);
  const auto expected = bench::work(iterations);
  const auto seconds = options.number("timeout", 0);
  const kindred::TaskOptions limited{.timeout = std::chrono::seconds{seconds}};
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  const auto submit_and_get = [&](std::size_t all) {
    std::vector<kindred::Future<std::uint64_t>> futures;
    futures.reserve(all);
    for (std::size_t index = 0; index < all; ++index)
      futures.push_back(seconds == 0 ? pool.submit(run, iterations) : pool.submit(limited, run, iterations));
    for (auto& future : futures) {
      if (future.get() != expected) bench::fail("a wrong result");
    }
  };
  if (options.number("priority", 0) != 0)
    pool.submit(kindred::TaskOptions{.priority = 1}, run, std::uint64_t{0}).get();
  bench::in_threads(submitters, bench::warm_up_of(count), submit_and_get);
  const bench::Watched watched{pool, options};
  const double begin = bench::now_ns();
  bench::in_threads(submitters, count, submit_and_get);
  return bench::now_ns() - begin;
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 100'000);
  const double processor = bench::processor_ns();
  const double took = run_all(entry, options, count);
  bench::report_tasks(count, took, bench::processor_ns() - processor);
}
