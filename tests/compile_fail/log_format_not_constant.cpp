// expect: the format of a log call is known when it is compiled
// A text that is known only when the program runs is an argument, not a format: braces in it would be taken
// for fields.
#include <string>

#include "kindred/log.hpp"

void use(const std::string& text) {
#ifdef KINDRED_COMPILES
  kindred::log_info("{}", text);
  kindred::log_info(fmt::runtime(text));
#else
  kindred::log_info(text);
#endif
}
