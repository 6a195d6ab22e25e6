#include "kindred/internal/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace kindred::internal {

void assertion_failed(const char* file, int line, const char* expression,
                      const std::string& operands) noexcept {
  std::fprintf(stderr, "%s:%d: assertion failed: %s (%s)\n", file, line, expression, operands.c_str());
  std::abort();
}

}  // namespace kindred::internal
