// map where one item in a hundred takes a hundred times as long as the others.
//   --items N --iterations of a short item --count rounds --workers N
#include "support/heavy_tail.hpp"
#include "support/pool_options.hpp"

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto items =
      bench::heavy_tailed(options.number("items", 10'000), options.number("iterations", 6'000));
  const auto count = options.number("count", 5);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  bench::Samples samples{count};
  std::vector<double> results;
  for (std::size_t done = 0; done < count + 1; ++done) {
    results.clear();
    const double begin = bench::now_ns();
    for (const double result : pool.map(bench::run_heavy_tailed, items)) results.push_back(result);
    if (done >= 1) samples.add(bench::now_ns() - begin);
    bench::check_heavy_tailed(items, results);
  }
  samples.report("ms", 1e-6);
}
