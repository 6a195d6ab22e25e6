// expect: kindred: map takes ranges of arguments after the function, one for each of its parameters
#include <vector>

#include <kindred/kindred.hpp>

double half(double value) { return value / 2; }

void use(kindred::ProcessPoolExecutor& pool) {
#ifdef KINDRED_COMPILES
  for (auto& each : pool.map_outcomes(half, std::vector<double>{4.0})) (void)each;
#else
  for (auto& each : pool.map_outcomes(half, 4.0)) (void)each;
#endif
}
