// expect: a task cannot return a raw pointer
#include <memory>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
std::unique_ptr<int> make(int value);
static_assert(kindred::internal::TaskTypes<decltype(&make), int>::check());
#else
int* make(int value);
static_assert(kindred::internal::TaskTypes<decltype(&make), int>::check());
#endif
