// Names of code: what no symbol tells is told as file and offset, and nothing is read that is not loaded.
#include <cstdint>
#include <string>

#include "kindred/internal/code_reference.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

const int number = 3;
int function_with_a_name() { return number; }

}  // namespace

TEST_CASE("what is loaded is told from what is not, and data from code") {
  CHECK(is_loaded(&number, sizeof number, true));
  CHECK(is_loaded(reinterpret_cast<const void*>(&function_with_a_name), 1, false));
  CHECK_FALSE(is_loaded(reinterpret_cast<const void*>(&function_with_a_name), 1, true));
  CHECK_FALSE(is_loaded(nullptr, 1, false));
  CHECK_FALSE(is_loaded(&number, std::size_t{1} << 40U, false));
  CHECK_FALSE(is_loaded(&number, SIZE_MAX, false));
  const int local = 0;
  CHECK_FALSE(is_loaded(&local, sizeof local, false));
}

TEST_CASE("code is named by its symbol, and by file and offset") {
  const auto* const code = reinterpret_cast<const void*>(&function_with_a_name);
  CHECK_CONTAINS(function_name(code), "function_with_a_name");
  const auto program = loaded_modules().front();
  CHECK_CONTAINS(place_name(code), program.path.substr(program.path.rfind('/') + 1) + "+0x");
  CHECK(function_name(nullptr).empty());
  CHECK(place_name(nullptr).empty());
}
