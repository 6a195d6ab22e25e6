// expect: the task cannot be called with these arguments
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
double area(double width, double height);
static_assert(kindred::internal::TaskTypes<decltype(&area), double, double>::check());
#else
double area(double width, double height);
static_assert(kindred::internal::TaskTypes<decltype(&area), double>::check());
#endif
