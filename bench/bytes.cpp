// A byte vector to a task and back.
//   --bytes N --count rounds --workers N
#include "support/pool_options.hpp"

namespace {

std::vector<std::uint8_t> echo(std::vector<std::uint8_t> bytes) { return bytes; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 20);
  const std::vector<std::uint8_t> sent(options.number("bytes", 1U << 20U), 7);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + 2; ++done) {
    const double begin = bench::now_ns();
    const auto back = pool.submit(echo, sent).get();
    if (done >= 2) samples.add(bench::now_ns() - begin);
    if (back.size() != sent.size() || back.back() != 7) bench::fail("a wrong result");
  }
  samples.report("ms", 1e-6);
}
