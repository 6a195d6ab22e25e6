// expect: a thread, its id, stop token or coroutine belongs to one process
#include <thread>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
void use(unsigned long number);
static_assert(kindred::internal::TaskTypes<decltype(&use), unsigned long>::check());
#else
void use(std::thread::id thread);
static_assert(kindred::internal::TaskTypes<decltype(&use), std::thread::id>::check());
#endif
