// expect: use std::array
#include <array>
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Job {
  std::array<std::string, 3> names;
  std::array<int, 3> sizes;
};
int run(const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&run), Job&>::check());
#else
struct Job {
  std::string names[3];
  int sizes[3];
};
int run(const Job& job);
static_assert(kindred::internal::TaskTypes<decltype(&run), Job&>::check());
#endif
