// expect: a member function is submitted as submit<&Class::member>(object, ...)
#include "kindred/internal/task_entry.hpp"

struct Job {
  int size;
  int twice() const { return 2 * size; }
};

#ifdef KINDRED_COMPILES
static_assert(kindred::internal::TaskTypes<kindred::internal::FunctionConstant<&Job::twice>, Job>::check());
#else
static_assert(kindred::internal::TaskTypes<decltype(&Job::twice), Job>::check());
#endif
