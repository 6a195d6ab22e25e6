// expect: a function pointer cannot be passed as an argument
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Twice {
  int operator()(int value) const { return 2 * value; }
};
int apply(Twice function, int value);
static_assert(kindred::internal::TaskTypes<decltype(&apply), Twice, int>::check());
#else
int apply(int (*function)(int), int value);
static_assert(kindred::internal::TaskTypes<decltype(&apply), int (*)(int), int>::check());
#endif
