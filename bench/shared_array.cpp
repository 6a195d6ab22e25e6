// A SharedArray passes by reference.
//   --row there   one array, given to task after task, which read its ends
//   --row back    arrays made by tasks: from the moment when the task returns to the moment when the parent
//   has read an element
//   --row both    a byte vector, copied into an array by the caller and out of it into another one by the
//   task: there and back, as `bytes` measures it, with two copies instead of four
//   --bytes N --count rounds
#include <algorithm>

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

using Bytes = kindred::SharedArray<std::uint8_t>;

/// Builds its result where the caller reads it.
void echo(const Bytes& bytes, Bytes result) { std::ranges::copy(bytes, result.mutable_span().begin()); }

void there(kindred::ProcessPoolExecutor& pool, std::size_t bytes, std::size_t count) {
  const auto size = bytes / sizeof(std::uint64_t);
  bench::Samples samples{count};
  auto array = pool.make_array<std::uint64_t>(size);
  array.mutable_span()[0] = 1;
  array.mutable_span()[size - 1] = 6;
  for (std::size_t done = 0; done < count + 2; ++done) {
    const double begin = bench::now_ns();
    if (pool.submit(ends, array).get() != 7) bench::fail("a wrong result");
    if (done >= 2) samples.add(bench::now_ns() - begin);
  }
  samples.report("us", 1e-3);
}

void back(kindred::ProcessPoolExecutor& pool, std::size_t bytes, std::size_t count) {
  const auto size = bytes / sizeof(std::uint64_t);
  bench::Samples samples{count};
  const double ticks_a_ns = bench::ticks_a_nanosecond();
  for (std::size_t done = 0; done < count + 2; ++done) {
    const auto array = pool.submit(make, size).get();
    if (array[size - 1] != 7) bench::fail("a wrong result");
    const auto took = static_cast<double>(kindred::internal::ticks() - array[0]) / ticks_a_ns;
    if (done >= 2) samples.add(took);
  }
  samples.report("us", 1e-3);
}

void there_and_back(kindred::ProcessPoolExecutor& pool, std::size_t bytes, std::size_t count) {
  std::vector<std::uint8_t> sent(bytes);
  bench::Samples samples{count};
  auto given = pool.make_array<std::uint8_t>(bytes);
  const auto result = pool.make_array<std::uint8_t>(bytes, kindred::ArrayAccess::all_write);
  for (std::size_t done = 0; done < count + 2; ++done) {
    sent.back() = static_cast<std::uint8_t>(done + 1);
    const double begin = bench::now_ns();
    std::ranges::copy(sent, given.mutable_span().begin());
    pool.submit(echo, given, result).get();
    if (done >= 2) samples.add(bench::now_ns() - begin);
    if (result[bytes - 1] != sent.back()) bench::fail("a wrong result");
  }
  samples.report("ms", 1e-6);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 100);
  const auto bytes = options.number("bytes", 64U << 20U);
  const auto row = options.text("row", "there");
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  (row == "both" ? there_and_back : row == "back" ? back : there)(pool, bytes, count);
}
