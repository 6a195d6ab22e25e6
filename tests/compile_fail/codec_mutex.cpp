// expect: use executor.make_mutex()
#include <memory>
#include <mutex>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int use(std::shared_ptr<int> value);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::shared_ptr<int>&>::check());
#else
int use(std::shared_ptr<std::mutex> mutex);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::shared_ptr<std::mutex>&>::check());
#endif
