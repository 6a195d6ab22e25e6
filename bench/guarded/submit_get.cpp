// What bench/guard counts for a call: the parent's instructions of --count times submit and get, one after another. Nothing spins, so the
// count is the path's own, the way to sleep and back included.
#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

namespace {

std::uint64_t echo(std::uint64_t number) { return number; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1000);
  kindred::ProcessPoolExecutor pool{entry, {.start_method = kindred::StartMethod::fork, .max_workers = 1, .start_all = true, .spin = false}};
  for (std::uint64_t done = 0; done < count; ++done) {
    if (pool.submit(echo, done).get() != done) bench::fail("a wrong result");
  }
  bench::leave();
}
