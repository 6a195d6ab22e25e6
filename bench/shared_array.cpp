// A SharedArray passes by reference.
//   --row there   one array, given to task after task, which read its ends
//   --row back    arrays made by tasks: from the moment when the task returns to the moment when the parent
//   has read an element
//   --bytes N --count rounds
#include "kindred/internal/clock.hpp"
#include "support/log_bursts.hpp"
#include "support/pool_options.hpp"

namespace {

std::uint64_t ends(const kindred::SharedArray<std::uint64_t>& array) {
  return array[0] + array[array.size() - 1];
}

kindred::SharedArray<std::uint64_t> make(std::size_t size) {
  auto array = kindred::make_shared_array<std::uint64_t>(size);
  array.mutable_span()[size - 1] = 7;
  array.mutable_span()[0] = kindred::internal::ticks();  // the last thing that the task does
  return array;
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 100);
  const auto size = options.number("bytes", 64U << 20U) / sizeof(std::uint64_t);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  bench::Samples samples{count};
  if (options.text("row", "there") == "there") {
    auto array = pool.make_array<std::uint64_t>(size);
    array.mutable_span()[0] = 1;
    array.mutable_span()[size - 1] = 6;
    for (std::size_t done = 0; done < count + 2; ++done) {
      const double begin = bench::now_ns();
      if (pool.submit(ends, array).get() != 7) bench::fail("a wrong result");
      if (done >= 2) samples.add(bench::now_ns() - begin);
    }
  } else {
    const double ticks_a_ns = bench::ticks_a_nanosecond();
    for (std::size_t done = 0; done < count + 2; ++done) {
      const auto array = pool.submit(make, size).get();
      if (array[size - 1] != 7) bench::fail("a wrong result");
      const auto took = static_cast<double>(kindred::internal::ticks() - array[0]) / ticks_a_ns;
      if (done >= 2) samples.add(took);
    }
  }
  samples.report("us", 1e-3);
}
