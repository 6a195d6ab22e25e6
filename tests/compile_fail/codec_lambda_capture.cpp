// expect: pass the capture as an argument
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
constexpr bool check() {
  auto task = [](int value, int offset) { return value + offset; };
  return kindred::internal::TaskTypes<decltype(task), int, int>::check();
}
static_assert(check());
#else
constexpr bool check() {
  int offset = 3;
  auto task = [offset](int value) { return value + offset; };
  return kindred::internal::TaskTypes<decltype(task), int>::check();
}
static_assert(check());
#endif
