// What the driver runs before each contestant, so that the first in a round does not pay for all. A virtual
// machine gives memory that is free for two seconds back to its host, large pages first, and whoever touches
// it next waits for the host: here 2 to 3 times the whole row of empty tasks. So a thread on each core
// touches --mib of memory in large pages and gives it back, which wakes the cores, too.
#include <sys/mman.h>

#include <thread>

#include "support/bench.hpp"

namespace {

constexpr std::size_t page = 4096;

void touch(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) bench::fail("there is no memory to warm");
  madvise(memory, bytes, MADV_HUGEPAGE);
  for (std::size_t at = 0; at < bytes; at += page) static_cast<volatile char*>(memory)[at] = 1;
  munmap(memory, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto threads = std::max<std::size_t>(1, std::thread::hardware_concurrency());
  const auto bytes = options.number("mib", 512) * (std::size_t{1} << 20) / threads;
  const double begin = bench::now_ns();
  std::vector<std::jthread> all;
  for (std::size_t index = 0; index < threads; ++index) all.emplace_back(touch, bytes);
  all.clear();
  bench::report((bench::now_ns() - begin) * 1e-6, "ms");
}
