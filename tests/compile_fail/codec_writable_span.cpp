// expect: take std::span<const T>
#include <span>
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int sum(std::span<const int> values);
static_assert(kindred::internal::TaskTypes<decltype(&sum), std::vector<int>&>::check());
#else
void sort(std::span<int> values);
static_assert(kindred::internal::TaskTypes<decltype(&sort), std::vector<int>&>::check());
#endif
