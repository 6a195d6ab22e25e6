// expect: pass the shared_ptr (lock())
#include <memory>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
int use(std::shared_ptr<int> value);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::shared_ptr<int>>::check());
#else
int use(std::weak_ptr<int> value);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::weak_ptr<int>>::check());
#endif
