// expect: log a text as an argument
// A text that the program makes is no format: braces in it would be taken for fields.
#include <string>

#include "kindred/log.hpp"

void use(const std::string& text) {
#ifdef KINDRED_COMPILES
  kindred::log_info("{}", text);
#else
  kindred::log_info(text);
#endif
}
