// expect: pass the function and its arguments to submit
#include <functional>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int add(int a, int b);
static_assert(kindred::internal::TaskTypes<decltype(&add), int, int>::check());
#else
int add(int a, int b);
using Bound = decltype(std::bind(add, 1, 2));
static_assert(kindred::internal::TaskTypes<Bound>::check());
#endif
