// expect: kindred: the task cannot be called with these arguments
// expect: kindred: this call cannot be sent to a worker: the reason stands above
#include <kindred/kindred.hpp>

double area(double width, double height) { return width * height; }

void use(kindred::ProcessPoolExecutor& pool) {
#ifdef KINDRED_COMPILES
  pool.submit(area, 1.0, 2.0).get();
#else
  pool.submit(area, 1.0).get();
#endif
}
