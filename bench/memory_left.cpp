// Memory that is left after many tasks, for the driver to look at before and after them.
//   --before N tasks before the first look, --count N until the second one, --batch N of them submitted
//   before their results are taken, --timeout seconds that each may take (0: no limit), --workers N
#include "support/pool_options.hpp"

namespace {

std::uint64_t echo(std::uint64_t number) { return number; }

/// Submits and gets `count` tasks, at most `batch` of them open at once. No future outlives it.
void run(kindred::ProcessPoolExecutor& pool, std::size_t count, std::size_t batch,
         const kindred::TaskOptions& task) {
  std::vector<kindred::Future<std::uint64_t>> futures;
  futures.reserve(std::min(count, batch));
  for (std::size_t done = 0; done < count; done += futures.size()) {
    futures.clear();
    const std::size_t size = std::min(batch, count - done);
    for (std::size_t index = 0; index < size; ++index)
      futures.push_back(pool.submit(task, echo, done + index));
    for (std::size_t index = 0; index < size; ++index) {
      if (futures[index].get() != done + index) bench::fail("a wrong result");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto before = options.number("before", 1'000);
  const auto count = options.number("count", 1'000'000);
  const auto batch = options.number("batch", count);
  kindred::TaskOptions task;
  if (const auto seconds = options.number("timeout", 0); seconds != 0)
    task.timeout = std::chrono::seconds{seconds};
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  run(pool, before, batch, {});
  bench::hold({});
  run(pool, count, batch, task);
  bench::hold({}, count);
}
