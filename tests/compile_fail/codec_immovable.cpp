// expect: can be neither copied nor moved
#include <string>

#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct Loose {
  std::string text;
};
int use(const Loose& loose);
static_assert(kindred::internal::TaskTypes<decltype(&use), Loose&>::check());
#else
struct Fixed {
  std::string text;
  Fixed() = default;
  Fixed(Fixed&&) = delete;
};
int use(const Fixed& fixed);
static_assert(kindred::internal::TaskTypes<decltype(&use), Fixed&>::check());
#endif
