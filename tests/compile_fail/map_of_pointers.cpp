// expect: kindred: a raw pointer cannot cross to another process
#include <vector>

#include <kindred/kindred.hpp>

int size_of(const int* values) { return values[0]; }
int twice(int value) { return 2 * value; }

void use(kindred::ProcessPoolExecutor& pool, std::vector<int>& values) {
#ifdef KINDRED_COMPILES
  for (int each : pool.map(twice, values)) (void)each;
#else
  std::vector<int*> pointers{values.data()};
  for (int each : pool.map(size_of, pointers)) (void)each;
#endif
}
