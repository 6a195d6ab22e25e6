// expect: take the value and return the new one
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
constexpr auto sort = [](auto values) { return values; };
static_assert(kindred::internal::TaskTypes<std::remove_cv_t<decltype(sort)>, std::vector<int>&>::check());
#else
constexpr auto sort = [](auto& values) { values.clear(); };
static_assert(kindred::internal::TaskTypes<std::remove_cv_t<decltype(sort)>, std::vector<int>&>::check());
#endif
