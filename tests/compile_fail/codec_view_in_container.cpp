// expect: a view (string_view, span, range) points into memory of this process: use std::string or std::vector
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int count(const std::vector<std::string>& words);
static_assert(kindred::internal::TaskTypes<decltype(&count), std::vector<std::string>>::check());
#else
int count(const std::vector<std::string_view>& words);
static_assert(kindred::internal::TaskTypes<decltype(&count), std::vector<std::string_view>>::check());
#endif
