// A pool that has worked and rests, for the driver to look at: wake-ups, and the private memory of its
// workers.
//   --workers N
#include <set>

#include "support/pool_options.hpp"

namespace {

long own_pid() { return static_cast<long>(kindred::this_worker().pid()); }

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto workers = options.number("workers", 2);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  std::set<long> pids;
  for (int tries = 0; tries < 1000 && pids.size() < workers; ++tries) {
    std::vector<kindred::Future<long>> futures;
    for (int index = 0; index < 100; ++index) futures.push_back(pool.submit(own_pid));
    for (auto& future : futures) pids.insert(future.get());
  }
  if (pids.size() != workers) bench::fail("not all workers took a task");
  bench::hold({pids.begin(), pids.end()});
}
