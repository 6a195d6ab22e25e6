// The machine's limit for bytes to a worker and back: four copies of --bytes over warm shared memory, two in
// each process (the caller's into the segment, the segment's into the task's argument, the result's into the
// segment, and out of it).
//   --row bytes   p50 of the whole way
//   --row map     the same with --workers processes that each take a share, and a double for each 8 bytes
#include <atomic>
#include <cstring>
#include <memory>

#include "floors/shared_block.hpp"
#include "floors/spsc_ring.hpp"
#include "support/bench.hpp"

namespace {

struct Turn {
  alignas(128) std::atomic<std::uint64_t> there{0};
  alignas(128) std::atomic<std::uint64_t> back{0};
};

void await(const std::atomic<std::uint64_t>& word, std::uint64_t value) {
  for (unsigned tries = 0; word.load(std::memory_order_acquire) != value; ++tries) {
    bench::step(tries < 64 ? bench::Wait::pause : bench::Wait::yield);
  }
}

std::byte* shared_bytes(std::size_t bytes) {
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) bench::fail("mmap failed");
  return static_cast<std::byte*>(memory);
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto bytes = options.number("bytes", 1U << 20U);
  const auto count = options.number("count", 20);
  const auto workers = options.text("row", "bytes") == "map" ? options.number("workers", 2) : 1;
  const auto share = bytes / workers;
  std::byte* segment = shared_bytes(2 * bytes);
  bench::SharedBlock<std::array<Turn, 64>> turns;
  std::vector<bench::Child> children;
  for (std::size_t index = 0; index < workers; ++index) {
    children.emplace_back([&, index] {
      std::vector<std::byte> own(share);
      for (std::uint64_t round = 1; round <= count + 2; ++round) {
        await((*turns)[index].there, round);
        std::memcpy(own.data(), segment + index * share, share);
        own[round % share] = std::byte{1};
        std::memcpy(segment + bytes + index * share, own.data(), share);
        (*turns)[index].back.store(round, std::memory_order_release);
      }
    });
  }
  std::vector<std::byte> argument(bytes, std::byte{7});
  std::vector<std::byte> result(bytes, std::byte{7});
  bench::Samples samples{count};
  for (std::uint64_t round = 1; round <= count + 2; ++round) {
    const double begin = bench::now_ns();
    for (std::size_t index = 0; index < workers; ++index) {
      std::memcpy(segment + index * share, argument.data() + index * share, share);
      (*turns)[index].there.store(round, std::memory_order_release);
    }
    for (std::size_t index = 0; index < workers; ++index) {
      await((*turns)[index].back, round);
      std::memcpy(result.data() + index * share, segment + bytes + index * share, share);
    }
    if (round > 2) samples.add(bench::now_ns() - begin);
  }
  if (result[(count + 2) % share] != std::byte{1}) bench::fail("the bytes did not come back");
  samples.report("ms", 1e-6);
}
