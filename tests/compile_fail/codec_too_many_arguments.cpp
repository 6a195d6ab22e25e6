// expect: more arguments were passed than the task takes
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
double area(double radius);
static_assert(kindred::internal::TaskTypes<decltype(&area), double>::check());
#else
double area(double radius);
static_assert(kindred::internal::TaskTypes<decltype(&area), double, int>::check());
#endif
