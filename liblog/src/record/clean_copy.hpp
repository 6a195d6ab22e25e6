#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kindred::internal {

/// The forms in which a text can be shown: as it is, or escaped for a line, for quotes in a line, for the
/// fields of a line, or for JSON.
enum class TextForm : unsigned char { plain, message, quotes, field_quotes, json };

/// Must the byte be looked at, rather than simply copied?
template <TextForm form>
constexpr bool is_marked(unsigned char c) noexcept {
  return c < 0x20 || c >= 0x7f || c == '\\' || (form != TextForm::message && c == '"') ||
         (form == TextForm::field_quotes && c == '{');
}

/// Marks such bytes among the eight of `word` by their high bits. The lowest mark is right, those above it
/// may not be.
template <TextForm form>
constexpr std::uint64_t marks_of(std::uint64_t word) noexcept {
  constexpr std::uint64_t each_byte = 0x0101010101010101U;
  constexpr std::uint64_t high_bits = each_byte * 0x80U;
  // Without the last step, `& ~word & high_bits`, which all have in common.
  const auto below = [](std::uint64_t bytes, std::uint64_t limit) { return bytes - each_byte * limit; };
  const auto equal = [&](char c) {
    const std::uint64_t different = word ^ (each_byte * static_cast<unsigned char>(c));
    return below(different, 1) & ~different;
  };
  std::uint64_t found = (below(word, 0x20) & ~word) | equal('\x7f') | equal('\\') | word;
  if constexpr (form != TextForm::message) found |= equal('"');
  if constexpr (form == TextForm::field_quotes) found |= equal('{');
  return found & high_bits;
}

/// Copies eight bytes, and returns their marks.
template <TextForm form>
std::uint64_t copy_word(char* target, const char* source) noexcept {
  std::uint64_t word;
  std::memcpy(&word, source, sizeof word);
  std::memcpy(target, &word, sizeof word);
  return marks_of<form>(word);
}

/// Sixteen bytes at once, as numbers with a sign.
using SixteenBytes [[gnu::vector_size(16)]] = signed char;
using TwoWords [[gnu::vector_size(16)]] = std::uint64_t;

/// Must none of these bytes be looked at?
template <TextForm form>
[[gnu::always_inline]] inline bool is_clean(SixteenBytes bytes) noexcept {
  const auto all = [](char c) {
    const auto b = static_cast<signed char>(c);
    return SixteenBytes{b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b};
  };
  // With their sign, bytes of 0x80 and above are below 0x20, too.
  auto found = (bytes < all(0x20)) | (bytes == all(0x7f)) | (bytes == all('\\'));
  if constexpr (form != TextForm::message) found |= bytes == all('"');
  if constexpr (form == TextForm::field_quotes) found |= bytes == all('{');
#if defined(__SSE2__)
  return _mm_movemask_epi8(reinterpret_cast<__m128i>(found)) == 0;
#else
  const auto words = reinterpret_cast<TwoWords>(found);
  return (words[0] | words[1]) == 0;
#endif
}

/// Copies sixteen bytes. Must none of them be looked at?
template <TextForm form>
[[gnu::always_inline]] inline bool copy_sixteen(char* target, const char* source) noexcept {
  SixteenBytes bytes;
  std::memcpy(&bytes, source, sizeof bytes);
  std::memcpy(target, &bytes, sizeof bytes);
  return is_clean<form>(bytes);
}

/// Copies a text of which nothing is to be escaped, and returns true; false where something is. Most texts
/// are such, and short. `target` has room for all of it.
template <TextForm form>
[[gnu::always_inline]] inline bool copy_clean(char* target, std::string_view text) noexcept {
  const std::size_t bytes = text.size();
  const char* const source = text.data();
  if (bytes >= 16) {
    bool clean = true;
    for (std::size_t at = 0; at + 16 < bytes; at += 16) clean &= copy_sixteen<form>(target + at, source + at);
    // The rest, and some of what was copied already.
    return copy_sixteen<form>(target + bytes - 16, source + bytes - 16) && clean;
  }
  if (bytes >= 8) {
    TwoWords ends{};
    std::uint64_t first;
    std::uint64_t last;
    std::memcpy(&first, source, sizeof first);
    std::memcpy(&last, source + bytes - 8, sizeof last);
    std::memcpy(target, &first, sizeof first);
    std::memcpy(target + bytes - 8, &last, sizeof last);
    ends[0] = first;
    ends[1] = last;
    return is_clean<form>(reinterpret_cast<SixteenBytes>(ends));
  }
  if (bytes >= 4) {
    std::uint32_t first;
    std::uint32_t last;
    std::memcpy(&first, source, sizeof first);
    std::memcpy(&last, source + bytes - 4, sizeof last);
    std::memcpy(target, &first, sizeof first);
    std::memcpy(target + bytes - 4, &last, sizeof last);
    return marks_of<form>(first | std::uint64_t{last} << 32U) == 0;
  }
  for (std::size_t at = 0; at < bytes; ++at) {
    if (is_marked<form>(static_cast<unsigned char>(source[at]))) return false;
    target[at] = source[at];
  }
  return true;
}

/// A text longer than this is not copied in the hope that it is clean: it would be read twice for long.
inline constexpr std::size_t longest_clean_try = 4096;

}  // namespace kindred::internal
