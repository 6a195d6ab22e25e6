// Something large that every worker needs, loaded once. Under `forkserver` a preload call runs in the server
// before any worker is forked, so that the workers share what it has loaded, copy-on-write: they start at
// once, and the memory is there once.
//
// expect: [info] [parent] loaded by process
// expect: 4 workers, 1 table, all found 524288 in it
#include <unistd.h>

#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

#include <kindred/kindred.hpp>

struct Table {
  std::vector<std::uint64_t> numbers;
  int loaded_by = 0;
};
Table& table() {
  static Table the_table;
  return the_table;
}

void load_table(std::size_t size) {
  table().numbers.resize(size);
  std::iota(table().numbers.begin(), table().numbers.end(), 0);
  table().loaded_by = getpid();
}

struct Found {
  std::uint64_t number;
  int loaded_by;
  int worker;
};
Found look_up(const kindred::Barrier& all_workers, std::size_t at) {
  all_workers.arrive_and_wait();  // so that each of the four tasks has a worker of its own
  return {table().numbers.at(at), table().loaded_by, kindred::this_worker().index()};
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  // With `fork`, what is loaded before the executor is made is inherited in the same way. With `spawn` there
  // is nothing to inherit: there each worker loads its own in the initializer.
  kindred::ProcessPoolExecutor pool{entry,
                                    {.start_method = kindred::StartMethod::forkserver,
                                     .max_workers = 4,
                                     .preload = {{load_table, std::size_t{1} << 20}}}};
  pool.logger().add_sink(kindred::sinks::stdout_color());

  const auto all_workers = pool.make_barrier(4);
  std::vector<kindred::Future<Found>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(pool.submit(look_up, all_workers, std::size_t{1} << 19));

  std::set<int> loaders, workers;
  std::uint64_t found = 0;
  for (const auto& future : futures) {
    const Found one = future.get();
    loaders.insert(one.loaded_by);
    workers.insert(one.worker);
    found = one.number;
  }
  pool.logger().info("loaded by process {}, which is not this one: {}", *loaders.begin(),
                     *loaders.begin() != getpid());
  pool.logger().info("{} workers, {} table, all found {} in it", workers.size(), loaders.size(), found);
}
