// expect: the worker supplies kindred::Worker& itself
#include "kindred/internal/codec_task.hpp"

#include "kindred/worker.hpp"

#ifdef KINDRED_COMPILES
int index_of(kindred::Worker& worker);
static_assert(kindred::internal::TaskTypes<decltype(&index_of)>::check());
#else
int index_of(kindred::Worker& worker, const kindred::Worker& other);
static_assert(kindred::internal::TaskTypes<decltype(&index_of), kindred::Worker&>::check());
#endif
