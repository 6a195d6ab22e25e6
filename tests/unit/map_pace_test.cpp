// How large the chunks of a map are, and how many items are open: pure arithmetic.
#include "kindred/internal/map_pace.hpp"

#include <algorithm>
#include <cstddef>
#include <deque>

#include <doctest/doctest.h>

using kindred::internal::MapPace;

namespace {

constexpr MapPace::Aims aims{.chunk_seconds = 0.00005, .chunk_bytes = 12.0 * 1024};

// A pace after chunks of items that took `each` seconds, until it changes no more.
MapPace settled(double each, std::size_t bytes = 8, std::size_t chunk = 0) {
  MapPace pace{aims, chunk};
  for (int i = 0; i < 20; ++i) {
    pace.note_sent(pace.chunk(), bytes * pace.chunk());
    pace.note_run(pace.chunk(), each * static_cast<double>(pace.chunk()));
  }
  return pace;
}

// Returns the number of chunks that a map makes of so many items. A call of its own takes 0.5 us.
std::size_t chunks_of(std::size_t items, std::size_t workers, double each) {
  MapPace pace{aims, 0};
  std::deque<std::size_t> open;
  std::size_t taken = 0;
  std::size_t fetched = 0;
  std::size_t chunks = 0;
  while (taken < items) {
    while (fetched < items && fetched - taken + pace.chunk() <= pace.window(workers, workers)) {
      open.push_back(std::min(pace.chunk(), items - fetched));
      fetched += open.back();
      pace.note_sent(open.back(), 8 * open.back());
      ++chunks;
    }
    const std::size_t first = open.front();
    open.pop_front();
    pace.note_run(first, 5e-7 + each * static_cast<double>(first));
    taken += first;
  }
  return chunks;
}

}  // namespace

TEST_CASE("a chunk grows until it runs for 50 us, or its arguments take 12 KiB") {
  CHECK(settled(1e-6).chunk() == 50);
  CHECK(settled(2e-5).chunk() == 2);
  CHECK(settled(1.0).chunk() == 1);
  CHECK(settled(1e-9).chunk() == 12 * 1024 / 9);
  CHECK(settled(0).chunk() == 12 * 1024 / 9);
  CHECK(settled(1e-9, 1 << 20).chunk() == 1);
  CHECK(settled(1e-9, 0).chunk() == 12 * 1024);
}

TEST_CASE("a chunk grows eight-fold at once, and a size that the caller gave stays") {
  MapPace pace{aims, 0};
  CHECK(pace.chunk() == 1);
  pace.note_sent(1, 8);
  CHECK(pace.item_bytes() == 9);
  pace.note_run(1, 1e-9);
  CHECK(pace.chunk() == 8);
  CHECK(settled(1e-9, 8, 7).chunk() == 7);
}

TEST_CASE("a map has enough items open that a long one holds no other worker up") {
  CHECK(MapPace{aims, 0}.window(2, 1) == 8);              // nothing is known yet
  CHECK(settled(0.01 / 512, 8, 3).window(2, 1) == 1024);  // 10 ms of work for each worker
  CHECK(settled(33e-9, 8, 1500).window(2, 1) == 12'000);  // four chunks each
  CHECK(settled(2e-6, 8, 25).window(4, 3) == 4096);       // no more than 1,024 each
  CHECK(settled(1.0, 8, 1).window(3, 2) == 12);
}

TEST_CASE("chunks of less than 20 us are opened for the workers that have a core beside the caller") {
  CHECK(settled(13e-9, 8, 1500).window(2, 1) == 6000);
  CHECK(settled(14e-9, 8, 1500).window(2, 1) == 12'000);
  CHECK(settled(13e-9, 8, 1500).window(64, 63) == 63 * 6000);
}

TEST_CASE("a chunk that the kernel interrupted changes nothing, and a second long one counts") {
  MapPace pace = settled(1e-6);
  const std::size_t window = pace.window(2, 1);
  pace.note_run(50, 0.01);
  CHECK(pace.chunk() == 50);
  CHECK(pace.window(2, 1) == window);
  pace.note_run(50, 0.00005);
  CHECK(pace.chunk() == 50);
  pace.note_run(50, 0.01);
  pace.note_run(50, 0.01);
  CHECK(pace.chunk() == 1);
}

TEST_CASE("few items travel in the small chunks of the beginning") {
  CHECK(chunks_of(100'000, 1, 2e-9) < 100);  // 74 of 12 KiB
  CHECK(chunks_of(100'000, 2, 2e-9) < 120);
}
