// What bench/guard counts for a task that throws: the parent's instructions of --count times submit and get,
// in bursts whose results lie in the ring before the first is asked for.
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

namespace {

int refuse(int number) { throw std::runtime_error{"no " + std::to_string(number)}; }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1000);
  constexpr std::size_t burst = 100;
  constexpr std::chrono::milliseconds until_done{100};
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = kindred::StartMethod::fork, .max_workers = 1, .start_all = true, .spin = false}};
  std::vector<kindred::Future<int>> futures;
  futures.reserve(burst);
  std::size_t caught = 0;
  for (std::size_t done = 0; done < count; done += burst) {
    for (std::size_t i = 0; i < burst; ++i) futures.push_back(pool.submit(refuse, static_cast<int>(i)));
    std::this_thread::sleep_for(until_done);
    for (auto& future : futures) {
      try {
        (void)future.get();
      } catch (const std::runtime_error&) {
        ++caught;
      }
    }
    futures.clear();
  }
  if (caught != count) bench::fail("a task that throws did not");
  bench::leave();
}
