// Tasks that wait behind blocked workers, for the driver to look at before and after: memory of a pending
// task.
//   --count tasks --workers N
#include <thread>

#include "support/pool_options.hpp"

namespace {

void wait_for(const kindred::Event& event) { event.wait(); }
std::uint64_t echo(std::uint64_t number) { return number; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1'000'000);
  const auto workers = options.number("workers", 2);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  auto event = pool.make_event();
  std::vector<kindred::Future<void>> blocked;
  for (std::size_t index = 0; index < workers; ++index) blocked.push_back(pool.submit(wait_for, event));
  while (pool.stats().running < workers) std::this_thread::yield();
  std::vector<kindred::Future<std::uint64_t>> futures(
      count);  // touched before the driver looks: the caller's own vector is not the pool's memory
  bench::hold({});
  for (std::uint64_t index = 0; index < count; ++index) futures[index] = pool.submit(echo, index);
  bench::hold({}, count);
  event.set();
  for (std::uint64_t index = 0; index < count; ++index) {
    if (futures[index].get() != index) bench::fail("a wrong result");
  }
}
