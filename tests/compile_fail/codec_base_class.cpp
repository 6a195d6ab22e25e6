// expect: a class with base classes is not taken apart
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Base {
  std::string name;
};
struct Job {
  Base base;
  int size;
};
int run(const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&run), Job&>::check());
#else
struct Base {
  std::string name;
};
struct Job : Base {
  int size;
};
int run(const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&run), Job&>::check());
#endif
