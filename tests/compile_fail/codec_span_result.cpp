// expect: return std::string or std::vector
#include <span>
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
std::vector<int> half(std::span<const int> values);
static_assert(kindred::internal::TaskTypes<decltype(&half), std::vector<int>&>::check());
#else
std::span<const int> half(const std::vector<int>& values);
static_assert(kindred::internal::TaskTypes<decltype(&half), std::vector<int>&>::check());
#endif
