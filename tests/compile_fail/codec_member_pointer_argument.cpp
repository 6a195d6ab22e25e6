// expect: write submit<&Class::member>(object, ...)
#include "kindred/internal/task_entry.hpp"

#ifdef KINDRED_COMPILES
struct Job {
  int size;
  int read_member() const { return size; }
};
static_assert(
    kindred::internal::TaskTypes<kindred::internal::FunctionConstant<&Job::read_member>, Job>::check());
#else
struct Job {
  int size;
};
int read_member(int Job::* member, const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&read_member), int Job::*, Job>::check());
#endif
