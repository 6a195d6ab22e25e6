// expect: a future belongs to the process that waits for it
#include <future>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int use(int value);
static_assert(kindred::internal::TaskTypes<decltype(&use), int>::check());
#else
int use(std::shared_future<int> value);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::shared_future<int>&>::check());
#endif
