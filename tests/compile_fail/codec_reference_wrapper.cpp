// expect: std::ref, reference_wrapper
#include <functional>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int next(int value);
static_assert(kindred::internal::TaskTypes<decltype(&next), std::reference_wrapper<int>>::check());
#else
int next(std::reference_wrapper<int> value);
static_assert(kindred::internal::TaskTypes<decltype(&next), std::reference_wrapper<int>>::check());
#endif
