#include "kindred/internal/escape.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace kindred::internal {
namespace {

constexpr std::uint64_t each_byte = 0x0101010101010101U;
constexpr std::uint64_t high_bits = each_byte * 0x80U;

/// The high bit of each byte that is below `limit` (<= 0x80). A byte above a hit may be marked wrongly, so
/// only the lowest counts.
constexpr std::uint64_t below(std::uint64_t word, std::uint64_t limit) noexcept {
  return (word - each_byte * limit) & ~word & high_bits;
}
constexpr std::uint64_t equal(std::uint64_t word, char c) noexcept {
  return below(word ^ (each_byte * static_cast<unsigned char>(c)), 1);
}

enum class Form { message, quotes, field_quotes, json };

/// Marks bytes that cannot simply be copied: the lowest mark is right, those above it may not be.
template <Form form>
std::uint64_t marks(std::uint64_t word) noexcept {
  std::uint64_t found = below(word, 0x20) | equal(word, '\x7f') | equal(word, '\\') | (word & high_bits);
  if constexpr (form != Form::message) found |= equal(word, '"');
  if constexpr (form == Form::field_quotes) found |= equal(word, '{');
  return found;
}
template <Form form>
bool marked(unsigned char c) noexcept {
  return c < 0x20 || c >= 0x7f || c == '\\' || (form != Form::message && c == '"') ||
         (form == Form::field_quotes && c == '{');
}

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

template <Form form>
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
  return form == Form::json ? put_code(target, c) : put_byte(target, c);
}

/// Returns whether all of it was UTF-8.
template <Form form>
bool escape(TextBuffer& out, std::string_view text) {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = at + text.size();
  bool all_utf8 = true;
  // Invariant: the room reserved is for what is left as it stands, and for one whole word of copying more (or
  // one escape of 6 bytes).
  const auto room = [&] { return out.reserve(static_cast<std::size_t>(end - at) + 16); };
  char* target = room();
  char* begin = target;
  const auto settle = [&] {
    out.advance(static_cast<std::size_t>(target - begin));
    target = begin = room();
  };
  while (at != end) {
    while (end - at >= 8) {
      std::uint64_t word;
      std::memcpy(&word, at, sizeof word);
      std::memcpy(target, at, sizeof word);
      const std::uint64_t found = marks<form>(word);
      if (found == 0) {
        at += 8;
        target += 8;
        continue;
      }
      const auto clean = static_cast<std::size_t>(std::countr_zero(found)) / 8;
      at += clean;
      target += clean;
      break;
    }
    while (at != end && !marked<form>(*at)) {
      *target++ = static_cast<char>(*at++);
      if (end - at >= 8) break;
    }
    while (at != end && marked<form>(*at)) {
      if (*at < 0x80) {
        target = put_ascii<form>(target, *at++);
        settle();
        continue;
      }
      const Character read = decode(at, static_cast<std::size_t>(end - at));
      if (read.bytes == 0) {
        all_utf8 = false;
        if constexpr (form == Form::json) {
          target = put_code(target, 0xfffd);
        } else {
          target = put_byte(target, *at);
        }
        ++at;
        settle();
      } else if (is_harmful(read.code)) {
        target = put_code(target, read.code);
        at += read.bytes;
        settle();
      } else {
        if (end - at >= 4)
          std::memcpy(target, at, 4);  // one move, whatever it counts
        else
          std::memcpy(target, at, read.bytes);
        target += read.bytes;
        at += read.bytes;
      }
    }
  }
  out.advance(static_cast<std::size_t>(target - begin));
  return all_utf8;
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
    case EscapeIn::message: escape<Form::message>(out, text); return;
    case EscapeIn::quotes: escape<Form::quotes>(out, text); return;
    case EscapeIn::field_quotes: escape<Form::field_quotes>(out, text); return;
  }
}

bool append_json_escaped(TextBuffer& out, std::string_view text) { return escape<Form::json>(out, text); }

bool needs_escape(std::string_view text) noexcept {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = at + text.size();
  while (at != end) {
    if (*at < 0x80) {
      if (marked<Form::message>(*at++)) return true;
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
