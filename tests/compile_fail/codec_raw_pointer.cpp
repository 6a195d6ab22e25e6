// expect: pass the value, a container, or kindred::SharedArray
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int sum(const std::vector<int>& values);
static_assert(kindred::internal::TaskTypes<decltype(&sum), std::vector<int>&>::check());
#else
int sum(const int* values, int count);
static_assert(kindred::internal::TaskTypes<decltype(&sum), int*, int>::check());
#endif
