// expect: return by value
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
std::string longer(const std::string& a, const std::string& b);
static_assert(kindred::internal::TaskTypes<decltype(&longer), std::string&, std::string&>::check());
#else
const std::string& longer(const std::string& a, const std::string& b);
static_assert(kindred::internal::TaskTypes<decltype(&longer), std::string&, std::string&>::check());
#endif
