// What bench/guard counts for a call: the parent's instructions of --count times submit and get, in bursts
// whose results lie in the ring before the first is asked for. So nobody waits: how often a thread looks,
// yields or sleeps is a matter of the scheduler, and not of the path. --priority 1: after one task has had a
// priority; --timeout 1: each task has a timeout, which it keeps.
#include <chrono>
#include <vector>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"
#include "support/watched.hpp"

namespace {

constexpr std::size_t burst = 200;

const bench::Bursts bursts;

std::uint64_t echo(std::uint64_t number) {
  if (number % burst == burst - 1) bursts.add_one();
  return number;
}

template <class Submit>
void run(std::size_t count, Submit&& submit) {
  std::vector<kindred::Future<std::uint64_t>> futures;
  futures.reserve(burst);
  for (std::size_t done = 0; done < count; done += burst) {
    for (std::size_t i = 0; i < burst; ++i) futures.push_back(submit(done + i));
    bursts.wait(static_cast<std::uint32_t>(done / burst + 1));
    for (std::size_t i = 0; i < burst; ++i) {
      if (futures[i].get() != done + i) bench::fail("a wrong result");
    }
    futures.clear();
  }
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
  pool.submit(echo, std::uint64_t{0}).get();
  const bench::Watched watched{pool, options};
  // With a visitor the supervisor sleeps until its next look, and a task does not wake it: until then each
  // submit has the workers ring, which is 80 of the count, and no more of them afterwards. So the count is
  // some 1,210 or 1,290, by how long the run takes; the larger one is kept.
  if (options.number("watched", 0) == 0)
    bench::begin([&](const auto& limited) { pool.submit(limited, echo, std::uint64_t{0}); });
  if (options.number("priority", 0) != 0)
    pool.submit(kindred::TaskOptions{.priority = 1}, echo, std::uint64_t{0}).get();
  if (options.number("timeout", 0) != 0)
    run(count, [&](std::uint64_t number) {
      return pool.submit(kindred::TaskOptions{.timeout = std::chrono::minutes{10}}, echo, number);
    });
  else
    run(count, [&](std::uint64_t number) { return pool.submit(echo, number); });
  bench::leave();
}
