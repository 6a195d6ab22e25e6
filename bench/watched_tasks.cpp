// Tasks of one length in blocks, as the driver asks for them by lines on standard input, so that several
// pools can work in turn (bench/watched_cpu).
//   --count tasks of a block --workers N --iterations of work each
//   trace FILE, trace        a trace is written from now on; ends
//   run                      a block: submit all, then get all
// Prints after each line one of JSON: nanoseconds of the block, and of CPU time that this process has used.
#include <ctime>
#include <iostream>
#include <string>

#include "support/pool_options.hpp"

namespace {

std::uint64_t run(std::uint64_t iterations) { return bench::work(iterations); }

double run_block(kindred::ProcessPoolExecutor& pool, std::size_t count, std::uint64_t iterations) {
  const auto expected = bench::work(iterations);
  std::vector<kindred::Future<std::uint64_t>> futures;
  futures.reserve(count);
  const double begin = bench::now_ns();
  for (std::size_t index = 0; index < count; ++index) futures.push_back(pool.submit(run, iterations));
  for (auto& future : futures) {
    if (future.get() != expected) bench::fail("a wrong result");
  }
  return bench::now_ns() - begin;
}

void answer(double block_ns) {
  // All threads of the process, also those that have ended.
  const double cpu_ns = static_cast<double>(std::clock()) * (1e9 / CLOCKS_PER_SEC);
  std::printf("{\"block_ns\": %.0f, \"cpu_ns\": %.0f}\n", block_ns, cpu_ns);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 100'000);
  const std::uint64_t iterations = options.number("iterations", 0);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  run_block(pool, count / 10 + 1, iterations);
  const auto pids = pool.worker_pids();
  std::printf("{\"workers\": [");
  for (std::size_t at = 0; at < pids.size(); ++at) std::printf("%s%u", at == 0 ? "" : ", ", pids[at]);
  std::puts("]}");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    double block_ns = 0;
    if (line == "run")
      block_ns = run_block(pool, count, iterations);
    else if (line == "trace")
      pool.trace("");
    else if (line.starts_with("trace "))
      pool.trace(line.substr(6));
    else
      bench::fail("unknown: " + line);
    answer(block_ns);
  }
}
