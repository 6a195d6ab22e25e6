// OpenMP in the parent and in its workers: openmp METHOD ORDER. `pool_first`: the pool is made before the
// parent's first parallel region.
#include <cstdio>
#include <string>

#include "kindred/kindred.hpp"

namespace {

long parallel_sum(long to) {
  long sum = 0;
#pragma omp parallel for reduction(+ : sum) num_threads(3)
  for (long i = 1; i <= to; ++i) sum += i;
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  if (argc < 3) return 2;
#ifdef WITHOUT_OPENMP
  return 77;
#endif
  const bool pool_first = std::string{argv[2]} == "pool_first";
  if (!pool_first && parallel_sum(1000) != 500500) return 3;
  kindred::ProcessPoolExecutor pool{
      entry,
      {.start_method = kindred::parse_start_method(argv[1]), .max_workers = 1, .max_tasks_per_worker = 2}};
  for (int round = 0; round < 5; ++round) {
    if (parallel_sum(1000) != 500500 || pool.submit(parallel_sum, 2000).get() != 2001000) return 4;
  }
  std::puts("done");
}
