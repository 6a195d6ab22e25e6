// expect: return std::string or std::vector
#include <string>
#include <string_view>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
std::string first_word(std::string_view text);
static_assert(kindred::internal::TaskTypes<decltype(&first_word), std::string_view>::check());
#else
std::string_view first_word(const std::string& text);
static_assert(kindred::internal::TaskTypes<decltype(&first_word), std::string&>::check());
#endif
