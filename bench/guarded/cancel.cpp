// What bench/guard counts for a cancel: the parent's instructions of --count cancels among 10,000 tasks that
// wait behind one that runs.
#include <chrono>
#include <thread>
#include <vector>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

namespace {

int echo(int number) { return number; }
void run_long() { std::this_thread::sleep_for(std::chrono::minutes{10}); }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1000);
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = kindred::StartMethod::fork, .max_workers = 1, .start_all = true, .spin = false}};
  auto runs = pool.submit(run_long);
  std::vector<kindred::Future<int>> futures;
  constexpr std::size_t pending = 10'000;
  futures.reserve(pending);
  for (std::size_t i = 0; i < pending; ++i) futures.push_back(pool.submit(echo, static_cast<int>(i)));
  // From the end: the first ones may have been handed to the worker, which is another path.
  for (std::size_t i = 0; i < count; ++i) {
    if (!futures[pending - 1 - i].cancel()) bench::fail("a pending task was not cancelled");
  }
  bench::leave();
}
