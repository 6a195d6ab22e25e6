// What bench/guard counts for map: the parent's instructions for each of --count ints, of which each gives a
// double, in chunks of a fixed size, so that what a chunk costs is the same part of each item's count.
#include <numeric>
#include <span>
#include <vector>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

namespace {

constexpr std::size_t most = 250'000;  // so that what the program does for its vectors is always the same
constexpr std::size_t chunk = 5000;

double half(std::int64_t value) { return static_cast<double>(value) * 0.5; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 100'000);
  std::vector<std::int64_t> from(most);
  std::iota(from.begin(), from.end(), 0);
  std::vector<double> to(most);
  bench::stretch_ticks();
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = kindred::StartMethod::fork, .max_workers = 1, .start_all = true, .spin = false}};
  pool.submit(half, std::int64_t{0}).get();
  std::size_t at = 0;
  for (const double value : pool.map(half, std::span{from}.first(count), {.chunk_size = chunk}))
    to[at++] = value;
  if (at != count || to[count - 1] != static_cast<double>(from[count - 1]) * 0.5)
    bench::fail("a wrong result");
  bench::leave();
}
