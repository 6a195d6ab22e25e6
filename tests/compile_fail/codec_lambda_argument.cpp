// expect: pass the capture as an argument
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
template <class F>
int apply(F function, int value) {
  return function(value);
}
constexpr bool check() {
  auto add = [](int value) { return value + 3; };
  return kindred::internal::TaskTypes<decltype(&apply<decltype(add)>), decltype(add)&, int>::check();
}
static_assert(check());
#else
template <class F>
int apply(F function, int value) {
  return function(value);
}
constexpr bool check() {
  int offset = 3;
  auto add = [&offset](int value) { return value + offset; };
  return kindred::internal::TaskTypes<decltype(&apply<decltype(add)>), decltype(add)&, int>::check();
}
static_assert(check());
#endif
