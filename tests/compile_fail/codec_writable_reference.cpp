// expect: take the value and return the new one
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
std::vector<int> sort(std::vector<int> values);
static_assert(kindred::internal::TaskTypes<decltype(&sort), std::vector<int>&>::check());
#else
void sort(std::vector<int>& values);
static_assert(kindred::internal::TaskTypes<decltype(&sort), std::vector<int>&>::check());
#endif
