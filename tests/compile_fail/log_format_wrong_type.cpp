// expect: call to
// The format of a log call is checked against its arguments when it is compiled.
#include <string>

#include "kindred/log.hpp"

void use(const std::string& text) {
#ifdef KINDRED_COMPILES
  kindred::log_info("{:>10}", text);
#else
  kindred::log_info("{:d}", text);
#endif
}
