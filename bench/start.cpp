// From nothing to workers.
//   --row first     construction to the first result; the median of all pools but the first of the process,
//   which is reported beside it
//   --row all       construction until --workers workers run a task at once, divided by their number
//   --row further   what each worker beyond the first adds to that
//   --row processor the processor time of program, server and worker from construction to the end of a pool
//                   that ran one task
//   --sandbox none|files|network (workers that may use the network have no namespaces of their own)
//   --start-method M --count pools
#include "support/pool_options.hpp"
#include "support/processor_time.hpp"

namespace {

int one() { return 1; }

kindred::ExecutorOptions options_of(const bench::Options& options) {
  auto chosen = bench::pool_options(options);
  const std::string sandbox = options.text("sandbox", "none");
  if (sandbox == "none") return chosen;
  chosen.worker.sandbox = kindred::Sandbox::files({"/usr"});
  chosen.worker.sandbox->network = sandbox == "network";
  return chosen;
}

void meet(const kindred::Barrier& barrier) { (void)barrier.arrive_and_wait(); }

double first_result(kindred::Entry& entry, const kindred::ExecutorOptions& options) {
  const double begin = bench::now_ns();
  kindred::ProcessPoolExecutor pool{entry, options};
  if (pool.submit(one).get() != 1) bench::fail("a wrong result");
  return bench::now_ns() - begin;
}

double processor_time(kindred::Entry& entry, const kindred::ExecutorOptions& options) {
  const double begin = bench::processor_ns();
  {
    kindred::ProcessPoolExecutor pool{entry, options};
    pool.logger().add_sink([](const kindred::LogRecord&) {});
    if (pool.submit(one).get() != 1) bench::fail("a wrong result");
  }
  return bench::processor_ns() - begin;
}

/// Tasks that wait for each other: as many workers as tasks must be up before any of them ends.
double all_up(kindred::Entry& entry, kindred::ExecutorOptions options, std::size_t workers) {
  options.max_workers = workers;
  const double begin = bench::now_ns();
  kindred::ProcessPoolExecutor pool{entry, options};
  auto barrier = pool.make_barrier(static_cast<std::ptrdiff_t>(workers));
  std::vector<kindred::Future<void>> futures;
  for (std::size_t index = 0; index < workers; ++index) futures.push_back(pool.submit(meet, barrier));
  for (auto& future : futures) future.get();
  return bench::now_ns() - begin;
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto chosen = options_of(options);
  const auto row = options.text("row", "first");
  const auto count = options.number("count", 10);
  const auto workers = options.number("workers", 2);
  bench::Samples samples{count};
  if (row == "first") {
    const double first = first_result(entry, chosen);
    for (std::size_t done = 0; done < count; ++done) samples.add(first_result(entry, chosen));
    bench::report(samples.percentile(50) * 1e-6, "ms",
                  {{"p99", samples.percentile(99) * 1e-6}, {"first", first * 1e-6}});
    return 0;
  }
  for (std::size_t done = 0; done < count; ++done) {
    if (row == "processor") {
      samples.add(processor_time(entry, chosen));
    } else if (row == "further") {
      const double alone = all_up(entry, chosen, 1);
      samples.add((all_up(entry, chosen, workers) - alone) / static_cast<double>(workers - 1));
    } else {
      samples.add(all_up(entry, chosen, workers) / static_cast<double>(workers));
    }
  }
  samples.report("ms", 1e-6);
}
