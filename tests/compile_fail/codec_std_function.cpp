// expect: a std::function cannot cross
#include <functional>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int task(int value);
static_assert(kindred::internal::TaskTypes<decltype(&task), int>::check());
#else
static_assert(kindred::internal::TaskTypes<std::function<int(int)>, int>::check());
#endif
