// expect: use executor.make_counter()
#include <atomic>
#include <memory>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int use(const std::unique_ptr<int>& counter);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::unique_ptr<int>>::check());
#else
int use(const std::unique_ptr<std::atomic<int>>& counter);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::unique_ptr<std::atomic<int>>>::check());
#endif
