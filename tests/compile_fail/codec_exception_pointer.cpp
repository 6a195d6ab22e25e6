// expect: throw in the task, or return the exception object itself
#include <exception>
#include <stdexcept>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
std::runtime_error check(int value);
static_assert(kindred::internal::TaskTypes<decltype(&check), int>::check());
#else
std::exception_ptr check(int value);
static_assert(kindred::internal::TaskTypes<decltype(&check), int>::check());
#endif
