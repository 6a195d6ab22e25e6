// What bench/guard counts for a task that throws: the parent's instructions of --count times submit and get,
// in bursts whose results lie in the ring before the first is asked for.
#include <stdexcept>
#include <vector>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

namespace {

constexpr std::size_t burst = 100;

const bench::Bursts bursts;

int refuse(int number) {
  if (number == burst - 1) bursts.add_one();
  throw std::runtime_error{"no " + std::to_string(number)};
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1000);
  bench::stretch_ticks();
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = kindred::StartMethod::fork, .max_workers = 1, .start_all = true, .spin = false}};
  bench::begin([&](const auto& limited) { pool.submit(limited, refuse, 0); });
  std::vector<kindred::Future<int>> futures;
  futures.reserve(burst);
  std::size_t caught = 0;
  for (std::size_t done = 0; done < count; done += burst) {
    for (std::size_t i = 0; i < burst; ++i) futures.push_back(pool.submit(refuse, static_cast<int>(i)));
    bursts.wait(static_cast<std::uint32_t>(done / burst + 1));
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
