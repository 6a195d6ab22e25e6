// The machine's limit for tasks: a raw ring between processes.
//   --row one_way      hand-overs of 8 bytes per second, one producer, one consumer, a core each
//   --row round_trip   one number there and back, p50 and p99, a core for each end
//   --row tasks        a ring to and a ring from each of --workers processes that do --iterations of work for
//   each number
//   --row behind       --shorts numbers through one process, --iterations of work each: what a busy second
//   one must not delay
//   --wait pause|yield  how an end waits after 64 polite spins
#include <memory>

#include "floors/shared_block.hpp"
#include "floors/spsc_ring.hpp"
#include "support/bench.hpp"

namespace {

using bench::Wait;
using Ring = bench::SpscRing<std::uint64_t, 1024>;
constexpr std::uint64_t stop = ~0ULL;

void one_way(std::size_t count, Wait wait) {
  bench::SharedBlock<Ring> ring;
  bench::SharedBlock<Ring> back;
  bench::Child consumer{[&] {
    bench::stay_on(bench::Core::last);
    back->push(0, wait);
    std::uint64_t sum = 0;
    for (std::size_t done = 0; done < count; ++done) sum += ring->pop(wait);
    back->push(sum, wait);
  }};
  bench::stay_on(bench::Core::first);
  (void)back->pop(wait);
  const double begin = bench::now_ns();
  for (std::size_t done = 0; done < count; ++done) ring->push(done, wait);
  const std::uint64_t sum = back->pop(wait);
  const double took = bench::now_ns() - begin;
  if (sum != count * (count - 1) / 2) bench::fail("numbers were lost");
  bench::report(static_cast<double>(count) / took * 1e9, "tasks/s");
}

void round_trip(std::size_t count, Wait wait) {
  bench::SharedBlock<Ring> there;
  bench::SharedBlock<Ring> back;
  bench::Child echo{[&] {
    bench::stay_on(bench::Core::last);
    for (;;) {
      const auto number = there->pop(wait);
      back->push(number, wait);
      if (number == stop) return;
    }
  }};
  bench::stay_on(bench::Core::first);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + count / 10; ++done) {
    const double begin = bench::now_ns();
    there->push(done, wait);
    (void)back->pop(wait);
    if (done >= count / 10) samples.add(bench::now_ns() - begin);
  }
  there->push(stop, wait);
  samples.report("us", 1e-3);
}

struct Pair {
  Ring calls;
  Ring results;
};

void tasks(std::size_t count, std::size_t workers, std::uint64_t iterations, Wait wait) {
  std::vector<std::unique_ptr<bench::SharedBlock<Pair>>> pairs;
  std::vector<bench::Child> children;
  for (std::size_t index = 0; index < workers; ++index) {
    pairs.push_back(std::make_unique<bench::SharedBlock<Pair>>());
    auto& pair = **pairs.back();
    children.emplace_back([&pair, iterations, wait] {
      for (;;) {
        const auto call = pair.calls.pop(wait);
        if (call == stop) return;
        pair.results.push(bench::work(iterations) | 1U, wait);
      }
    });
  }
  const auto run = [&](std::size_t all) {
    std::size_t sent = 0;
    std::size_t received = 0;
    while (received < all) {
      bool moved = false;
      for (auto& pair : pairs) {
        while (sent < all && (*pair)->calls.try_push(sent)) {
          ++sent;
          moved = true;
          if (sent % 64 == 0) break;
        }
        std::uint64_t result = 0;
        while ((*pair)->results.try_pop(result)) {
          ++received;
          moved = true;
        }
      }
      if (!moved) bench::step(wait);
    }
  };
  run(count / 10 + 1);
  const double begin = bench::now_ns();
  run(count);
  const double took = bench::now_ns() - begin;
  for (auto& pair : pairs) (*pair)->calls.push(stop, wait);
  bench::report(static_cast<double>(count) / took * 1e9, "tasks/s");
}

void behind(std::size_t count, std::size_t shorts, std::uint64_t iterations, Wait wait) {
  bench::SharedBlock<Pair> pair;
  bench::Child worker{[&] {
    for (;;) {
      const auto call = pair->calls.pop(wait);
      if (call == stop) return;
      pair->results.push(bench::work(iterations) | 1U, wait);
    }
  }};
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    const double begin = bench::now_ns();
    for (std::size_t index = 0; index < shorts; ++index) pair->calls.push(index, wait);
    for (std::size_t index = 0; index < shorts; ++index) (void)pair->results.pop(wait);
    samples.add(bench::now_ns() - begin);
  }
  pair->calls.push(stop, wait);
  samples.report("ms", 1e-6);
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto wait = options.text("wait", "yield") == "pause" ? Wait::pause : Wait::yield;
  const auto row = options.text("row", "one_way");
  const auto count = options.number("count", 100'000);
  if (row == "one_way") {
    one_way(count, wait);
  } else if (row == "round_trip") {
    round_trip(count, wait);
  } else if (row == "tasks") {
    tasks(count, options.number("workers", 2), options.number("iterations", 0), wait);
  } else if (row == "behind") {
    behind(count, options.number("shorts", 100), options.number("iterations", 6000), wait);
  } else {
    bench::fail("--row one_way|round_trip|tasks|behind");
  }
}
