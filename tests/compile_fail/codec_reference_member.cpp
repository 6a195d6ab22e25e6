// expect: a class with a reference member cannot cross
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Job {
  int total;
};
int run(const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&run), Job&>::check());
#else
struct Job {
  int& total;
};
int run(const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&run), Job&>::check());
#endif
