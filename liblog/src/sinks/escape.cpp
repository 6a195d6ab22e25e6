#include "kindred/internal/escape.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "record/clean_copy.hpp"

namespace kindred::internal {
namespace {

constexpr std::string_view hex_digits = "0123456789abcdef";

struct Character {
  std::uint32_t code = 0;
  std::size_t bytes = 0;  ///< 0: not UTF-8
};

/// Reads one character of at least two bytes, strictly: no overlong forms, no surrogates, nothing above
/// U+10FFFF (Unicode, table 3-7).
Character decode(const unsigned char* at, std::size_t left) noexcept {
  const unsigned first = at[0];
  const auto tail = [&](std::size_t i) { return i < left && (at[i] & 0xc0U) == 0x80U; };
  if (first >= 0xc2 && first <= 0xdf) {
    if (tail(1)) return {((first & 0x1fU) << 6U) | (at[1] & 0x3fU), 2};
  } else if ((first & 0xf0U) == 0xe0U) {
    if (tail(1) && tail(2)) {
      const std::uint32_t code = ((first & 0x0fU) << 12U) | ((at[1] & 0x3fU) << 6U) | (at[2] & 0x3fU);
      if (code >= 0x800 && (code < 0xd800 || code > 0xdfff)) return {code, 3};
    }
  } else if (first >= 0xf0 && first <= 0xf4) {
    if (tail(1) && tail(2) && tail(3)) {
      const std::uint32_t code =
          ((first & 0x07U) << 18U) | ((at[1] & 0x3fU) << 12U) | ((at[2] & 0x3fU) << 6U) | (at[3] & 0x3fU);
      if (code >= 0x10000 && code <= 0x10ffff) return {code, 4};
    }
  }
  return {};
}

bool is_harmful(std::uint32_t code) noexcept {
  if (code < 0x61c) return code < 0xa0;
  if (code < 0x200e) return code == 0x61c;
  if (code <= 0x2069) return code <= 0x200f || (code >= 0x2028 && code <= 0x202e) || code >= 0x2066;
  return code == 0xfeff || (code >= 0xfff9 && code <= 0xfffb);
}

char* put_byte(char* target, unsigned char byte) noexcept {
  *target++ = '\\';
  *target++ = 'x';
  *target++ = hex_digits[byte >> 4U];
  *target++ = hex_digits[byte & 15U];
  return target;
}
char* put_code(char* target, std::uint32_t code) noexcept {
  *target++ = '\\';
  *target++ = 'u';
  for (unsigned shift = 16; shift > 0;) *target++ = hex_digits[(code >> (shift -= 4U)) & 15U];
  return target;
}

template <TextForm form>
char* put_ascii(char* target, unsigned char c) noexcept {
  const auto pair = [&](char letter) {
    *target++ = '\\';
    *target++ = letter;
    return target;
  };
  switch (c) {
    case '\\': return pair('\\');
    case '\n': return pair('n');
    case '\r': return pair('r');
    case '\t': return pair('t');
    case '"': return pair('"');
    default: break;
  }
  return form == TextForm::json ? put_code(target, c) : put_byte(target, c);
}

/// Escapes the marked character at `at`, and passes over it.
template <TextForm form>
char* escape_one(char* target, const unsigned char*& at, const unsigned char* end, bool& all_utf8) {
  if (*at < 0x80) return put_ascii<form>(target, *at++);
  const Character read = decode(at, static_cast<std::size_t>(end - at));
  if (read.bytes == 0) {
    all_utf8 = false;
    const unsigned char byte = *at++;
    return form == TextForm::json ? put_code(target, 0xfffd) : put_byte(target, byte);
  }
  const unsigned char* const character = std::exchange(at, at + read.bytes);
  if (is_harmful(read.code)) return put_code(target, read.code);
  std::memcpy(target, character, read.bytes);
  return target + read.bytes;
}

/// Returns whether all of it was UTF-8.
template <TextForm form>
[[gnu::noinline]] bool escape_with_care(TextBuffer& out, std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = at + text.size();
  bool all_utf8 = true;
  while (at != end) {
    // Invariant: there is room for what is left as it stands, and for one whole word of copying more, or one
    // escape of 6 bytes.
    char* const begin = out.reserve(static_cast<std::size_t>(end - at) + 16);
    char* target = begin;
    while (end - at >= 8) {
      const std::uint64_t found = copy_word<form>(target, reinterpret_cast<const char*>(at));
      const auto clean = found == 0 ? 8 : static_cast<std::size_t>(std::countr_zero(found)) / 8;
      at += clean;
      target += clean;
      if (found != 0) break;
    }
    while (at != end && !is_marked<form>(*at)) *target++ = static_cast<char>(*at++);
    // A text in another script is marked throughout, and needs no more room than it has; where a byte grew,
    // room is made anew.
    for (bool grew = false; !grew && at != end && is_marked<form>(*at);) {
      const char* const before = target;
      const auto* const from = at;
      target = escape_one<form>(target, at, end, all_utf8);
      grew = target - before > at - from;
    }
    out.advance(static_cast<std::size_t>(target - begin));
  }
  return all_utf8;
}

template <TextForm form>
[[gnu::noinline]] bool escape(TextBuffer& out, std::string_view text) {
  if (text.size() <= longest_clean_try && copy_clean<form>(out.reserve(text.size()), text)) [[likely]] {
    out.advance(text.size());
    return true;
  }
  return escape_with_care<form>(out, text);
}

constexpr std::array<bool, 256> token_chars = [] {
  std::array<bool, 256> table{};
  for (std::size_t c = '0'; c <= '9'; ++c) table[c] = true;
  for (std::size_t c = 'a'; c <= 'z'; ++c) table[c] = table[c - 'a' + 'A'] = true;
  for (const char c : std::string_view{"_-.:/+@$~*,%&"}) table[static_cast<unsigned char>(c)] = true;
  for (std::size_t c = 0x80; c <= 0xff; ++c) table[c] = true;
  return table;
}();

int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/// Reads `digits` hexadecimal digits; -1 where there are fewer.
std::int32_t read_hex(std::string_view text, std::size_t digits) noexcept {
  if (text.size() < digits) return -1;
  std::int32_t value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    const int digit = hex_value(text[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

void append_escaped(TextBuffer& out, std::string_view text, EscapeIn where) {
  switch (where) {
    case EscapeIn::message: escape<TextForm::message>(out, text); return;
    case EscapeIn::quotes: escape<TextForm::quotes>(out, text); return;
    case EscapeIn::field_quotes: escape<TextForm::field_quotes>(out, text); return;
  }
}

bool append_json_escaped(TextBuffer& out, std::string_view text) { return escape<TextForm::json>(out, text); }

bool needs_escape(std::string_view text) noexcept {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = at + text.size();
  while (at != end) {
    if (*at < 0x80) {
      if (is_marked<TextForm::message>(*at++)) return true;
      continue;
    }
    const Character read = decode(at, static_cast<std::size_t>(end - at));
    if (read.bytes == 0 || is_harmful(read.code)) return true;
    at += read.bytes;
  }
  return false;
}

bool is_token_char(char c) noexcept { return token_chars[static_cast<unsigned char>(c)]; }

void append_token(TextBuffer& out, std::string_view name, EscapeIn quotes) {
  bool bare = true;
  unsigned char seen = 0;
  for (const char c : name) {
    bare = bare && is_token_char(c);
    seen |= static_cast<unsigned char>(c);
  }
  if (bare && (seen < 0x80 || !needs_escape(name))) {
    out.append(name);
    return;
  }
  out.push_back('"');
  append_escaped(out, name, quotes);
  out.push_back('"');
}

bool append_unescaped(std::string& out, std::string_view text) {
  while (true) {
    const auto backslash = text.find('\\');
    out.append(text.substr(0, backslash));
    if (backslash == std::string_view::npos) return true;
    text.remove_prefix(backslash + 1);
    if (text.empty()) return false;
    const char kind = text.front();
    text.remove_prefix(1);
    switch (kind) {
      case '\\':
      case '"': out.push_back(kind); break;
      case 'n': out.push_back('\n'); break;
      case 'r': out.push_back('\r'); break;
      case 't': out.push_back('\t'); break;
      case 'x': {
        const auto byte = read_hex(text, 2);
        if (byte < 0) return false;
        out.push_back(static_cast<char>(byte));
        text.remove_prefix(2);
        break;
      }
      case 'u': {
        const auto code = read_hex(text, 4);
        if (code < 0x80 || (code >= 0xd800 && code <= 0xdfff)) return false;
        if (code < 0x800) {
          out.push_back(static_cast<char>(0xc0 | (code >> 6)));
        } else {
          out.push_back(static_cast<char>(0xe0 | (code >> 12)));
          out.push_back(static_cast<char>(0x80 | ((code >> 6) & 0x3f)));
        }
        out.push_back(static_cast<char>(0x80 | (code & 0x3f)));
        text.remove_prefix(4);
        break;
      }
      default: return false;
    }
  }
}

}  // namespace kindred::internal
