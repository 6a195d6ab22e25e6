// The work of the row map_heavy_tailed, divided among threads before it begins so that all of them end at
// once: the sum of the work by the number of cores.
//   --items N --iterations of a short item --workers N --count rounds
#include <numeric>

#include "support/heavy_tail.hpp"

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto items =
      bench::heavy_tailed(options.number("items", 10'000), options.number("iterations", 6'000));
  const auto workers = options.number("workers", 2);
  const auto sum = std::accumulate(items.begin(), items.end(), std::int64_t{0});
  const auto share = static_cast<std::uint64_t>(sum) / workers;
  const auto count = options.number("count", 5);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    const double begin = bench::now_ns();
    bench::in_threads(workers, workers, [&](std::size_t) {
      if (bench::work(share) == 0) bench::fail("unreachable");
    });
    samples.add(bench::now_ns() - begin);
  }
  samples.report("ms", 1e-6);
}
