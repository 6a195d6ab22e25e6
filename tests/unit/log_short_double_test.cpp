#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include <fmt/format.h>

#include "record/short_double.hpp"
#include "support/test.hpp"

namespace {

std::string written(double value) {
  char text[32];
  const auto places = kindred::internal::places_of(value);
  if (places == kindred::internal::no_places) return {};
  const char* const end = kindred::internal::write_places(text, value < 0, places);
  return std::string(static_cast<const char*>(text), end);
}

}  // namespace

TEST_CASE("a short decimal is written as fmt writes it") {
  for (const double value :
       {0.0, 1.0, -1.0, 4.25, -0.5, 0.1, 0.0001, 1000.0, 99.99, 123456.789, 1e14, 12345678.0001})
    CHECK(written(value) == fmt::format("{}", value));
}

TEST_CASE("what is no short decimal is left to fmt") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {-0.0, 1.0 / 3, 0.00001, 1e15, 1e300, infinity, -infinity,
                             std::numeric_limits<double>::quiet_NaN(), std::nextafter(0.1, 1.0)})
    CHECK(written(value).empty());
}

TEST_CASE("random decimals and random bits are never written otherwise than fmt writes them") {
  std::mt19937_64 random{20261128};
  std::size_t short_ones = 0;
  for (int i = 0; i < 200'000; ++i) {
    const auto digits = static_cast<double>(random() >> (11 + random() % 50));
    const double powers[] = {1, 10, 100, 1000, 1e4, 1e5};
    const double decimal = (random() % 2 != 0 ? -1 : 1) * digits / powers[random() % 6];
    for (const double value : {decimal, std::nextafter(decimal, 0.0), std::bit_cast<double>(random())}) {
      const auto text = written(value);
      if (text.empty()) continue;
      ++short_ones;
      REQUIRE(text == fmt::format("{}", value));
    }
  }
  CHECK(short_ones > 100'000);
}
