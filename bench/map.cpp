// map over ints with the adaptive chunk size, all results taken in order.
//   --items N --count rounds --workers N
#include "support/pool_options.hpp"

namespace {

double half(std::int64_t value) { return static_cast<double>(value) * 0.5; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 20);
  std::vector<std::int64_t> from(options.number("items", 100'000));
  std::vector<double> to(from.size());
  for (std::size_t index = 0; index < from.size(); ++index) from[index] = static_cast<std::int64_t>(index);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + 2; ++done) {
    const double begin = bench::now_ns();
    std::size_t at = 0;
    for (const double value : pool.map(half, from)) to[at++] = value;
    if (done >= 2) samples.add(bench::now_ns() - begin);
    if (at != from.size() || to.back() != static_cast<double>(from.back()) * 0.5)
      bench::fail("a wrong result");
  }
  samples.report("ms", 1e-6);
}
