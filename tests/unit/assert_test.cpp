// An invariant that does not hold ends the process, and says which one and with what values.
#include "kindred/internal/assert.hpp"

#include <csignal>
#include <cstdint>
#include <string>

#include <doctest/doctest.h>

#include "support/test.hpp"

namespace {

enum class Colour : std::uint8_t { red, green };
struct Opaque {
  bool operator==(const Opaque&) const { return false; }
};

}  // namespace

TEST_CASE("an assertion that holds does nothing, and evaluates its operands once") {
  int count = 0;
  KINDRED_ASSERT(++count > 0);
  KINDRED_ASSERT(count < 5);
  KINDRED_ASSERT(true);
  CHECK(count == (KINDRED_ASSERTIONS ? 1 : 0));
}

#if KINDRED_ASSERTIONS
TEST_CASE("an assertion that fails says the place, the expression and the operands, and aborts") {
  const auto equal = kindred::test::run_forked([] {
    const int a = 14;
    const int b = 72;
    KINDRED_ASSERT(a == b);
  });
  CHECK(equal.signal == SIGABRT);
  CHECK_CONTAINS(equal.err, "assert_test.cpp:");
  CHECK_CONTAINS(equal.err, "assertion failed: a == b (14 == 72)");
}
#endif

TEST_CASE("operands are printed as what they are: numbers, texts, enumerators") {
  using kindred::internal::AssertedLeft;
  const auto said = [](const auto& asserted) { return asserted.operands(); };
  CHECK(said(AssertedLeft{} <=> 3 < 2) == "3 < 2");
  CHECK(said(AssertedLeft{} <=> std::string{"a"} != "b") == "a != b");
  CHECK(said(AssertedLeft{} <=> Colour::green == Colour::red) == "1 == 0");
  CHECK(said(AssertedLeft{} <=> Opaque{} == Opaque{}) == "(not printable) == (not printable)");
  CHECK(said(AssertedLeft{} <=> false) == "0");
}
