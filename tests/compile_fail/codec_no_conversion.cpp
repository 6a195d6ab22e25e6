// expect: an argument does not convert to the type of the task's parameter
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int length(const std::string& text);
static_assert(kindred::internal::TaskTypes<decltype(&length), const char (&)[4]>::check());
#else
int length(const std::string& text);
static_assert(kindred::internal::TaskTypes<decltype(&length), int>::check());
#endif
