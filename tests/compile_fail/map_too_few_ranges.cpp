// expect: kindred: the function takes more parameters than map was given ranges: pass one range for each parameter
#include <vector>

#include <kindred/kindred.hpp>

double area(double width, double height) { return width * height; }

void use(kindred::ProcessPoolExecutor& pool) {
  const std::vector<double> widths{1, 2}, heights{3, 4};
#ifdef KINDRED_COMPILES
  for (double each : pool.map(area, widths, heights)) (void)each;
#else
  for (double each : pool.map(area, widths)) (void)each;
#endif
}
