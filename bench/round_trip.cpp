// One round trip after another, or each after 1 to 3 ms of silence.
//   --row round_trip|round_trip_after_silence --count N --workers N
#include <thread>

#include "support/pool_options.hpp"

namespace {

std::size_t echo(std::size_t number) { return number; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 2000);
  const auto warm_up = count / 10 + 1;
  const bool after_silence = options.text("row", "round_trip") == "round_trip_after_silence";
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + warm_up; ++done) {
    if (after_silence) std::this_thread::sleep_for(bench::silence(done));
    const double begin = bench::now_ns();
    if (pool.submit(echo, done).get() != done) bench::fail("a wrong result");
    if (done >= warm_up) samples.add(bench::now_ns() - begin);
  }
  samples.report("us", 1e-3);
}
