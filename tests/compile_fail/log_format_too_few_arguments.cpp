// expect: call to
// A field without an argument is found when the call is compiled; key-values are no arguments of the format.
#include "kindred/log.hpp"

void use(int value) {
#ifdef KINDRED_COMPILES
  kindred::log_info("{} {}", value, value, kindred::kv("key", 3));
#else
  kindred::log_info("{} {}", value, kindred::kv("key", 3));
#endif
}
