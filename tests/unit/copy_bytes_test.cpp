// Bytes of a program are copied whole, whatever their number and wherever they stand.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kindred/internal/copy_bytes.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

std::vector<std::uint8_t> numbered(std::size_t bytes) {
  std::vector<std::uint8_t> all(bytes);
  std::uint32_t number = 1;
  for (auto& byte : all) byte = static_cast<std::uint8_t>((number = number * 1664525 + 1013904223) >> 24U);
  return all;
}

}  // namespace

TEST_CASE("every byte is copied, and none beside them") {
  constexpr std::size_t mib = std::size_t{1} << 20U;
  constexpr std::uint8_t untouched = 0xee;
  constexpr std::size_t margin = 64;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{24}, copy_piece - 1, copy_piece,
                                  copy_piece + 1, 2 * copy_piece - 1, 2 * copy_piece, 2 * copy_piece + 1,
                                  std::size_t{4096}, std::size_t{65536}, mib - 1, mib, mib + 1}) {
    CAPTURE(bytes);
    for (const std::size_t from_offset : {0U, 1U, 16U}) {
      for (const std::size_t to_offset : {0U, 8U, 24U, 63U}) {
        const auto source = numbered(from_offset + bytes);
        std::vector<std::uint8_t> target(to_offset + bytes + margin, untouched);
        copy_bytes(target.data() + to_offset, source.data() + from_offset, bytes);
        std::vector<std::uint8_t> expected(target.size(), untouched);
        std::copy(source.begin() + static_cast<std::ptrdiff_t>(from_offset), source.end(),
                  expected.begin() + static_cast<std::ptrdiff_t>(to_offset));
        CHECK((target == expected));
      }
    }
  }
}

TEST_CASE("no byte may be copied from nowhere") { copy_bytes(nullptr, nullptr, 0); }

TEST_CASE("a copy in pieces is made of lengths that glibc does not copy by rep movsb") {
  // glibc 2.36, sysdeps/x86/dl-cacheinfo.h: from 2048 bytes on with registers of 16 bytes, and later with
  // longer ones, up to a part of the cache, which is 512 KiB at least where there are cores of AMD's.
  CHECK(copy_piece < 2048);
#if defined(__x86_64__)
  CHECK(!copied_in_pieces(copy_piece));
  CHECK(copied_in_pieces(2048));
  CHECK(copied_in_pieces(512 * 1024));
#endif
}
