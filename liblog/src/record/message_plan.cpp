#include "record/message_plan.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "kindred/internal/escape.hpp"
#include "record/short_double.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t most_types = 1024;
constexpr std::size_t widest =
    65535;  ///< of a width or precision: a format from elsewhere must not make a message of a gigabyte
constexpr std::size_t longest_number = 32;
constexpr std::size_t copied_more = 16;  ///< a text is copied so many bytes at once, whatever it has

/// `append_escaped`, which a member hides.
void escape_into(TextBuffer& out, std::string_view text) { append_escaped(out, text); }

/// Does an argument of this type take no part in the message?
bool is_field(char type) noexcept {
  return (static_cast<std::uint8_t>(type) & arg_is_field) != 0 || type == static_cast<char>(ArgType::fields);
}

bool numbers_are_small(std::string_view spec) noexcept {
  std::size_t number = 0;
  for (const char c : spec) {
    number = c >= '0' && c <= '9' ? number * 10 + static_cast<std::size_t>(c - '0') : 0;
    if (number > widest) return false;
  }
  return true;
}

/// Would the text complete a character of UTF-8 that the text before it began? Then the two cannot be escaped
/// apart.
bool begins_within_character(std::string_view text) noexcept {
  return !text.empty() && (static_cast<unsigned char>(text.front()) & 0xc0U) == 0x80U;
}

/// Reads one argument. False where the bytes end early, or there is no such type.
[[gnu::always_inline]] inline bool read(ByteReader& reader, ArgType type, Argument& argument,
                                        Arguments& all) noexcept {
  argument.type = type;
  switch (type) {
    case ArgType::string:
    case ArgType::message: {
      const auto text = reader.text(reader.value<std::uint32_t>());
      argument.text = text.data();
      argument.text_bytes = static_cast<std::uint32_t>(text.size());
      all.count_text(text.size());
      break;
    }
    case ArgType::int64:
    case ArgType::uint64:
    case ArgType::real64:
    case ArgType::pointer: argument.bits = reader.value<std::uint64_t>(); break;
    case ArgType::int32:
      argument.bits = static_cast<std::uint64_t>(std::int64_t{reader.value<std::int32_t>()});
      break;
    case ArgType::uint32:
    case ArgType::real32: argument.bits = reader.value<std::uint32_t>(); break;
    case ArgType::boolean:
    case ArgType::character: argument.bits = reader.value<std::uint8_t>(); break;
    default: return false;
  }
  return reader.ok();
}

bool read_fields(ByteReader& reader, char code, std::vector<Field>& fields) {
  const auto type = static_cast<std::uint8_t>(code);
  if (type == static_cast<std::uint8_t>(ArgType::fields)) return decode_fields(reader.rest(), fields);
  return decode_field(reader, type & static_cast<std::uint8_t>(~arg_is_field), fields);
}

/// Writes a value that is no text, as `{}` does: at most `longest_number` characters. Returns their end.
[[gnu::always_inline]] inline char* write_value(char* to, const Argument& value) {
  switch (value.type) {
    case ArgType::boolean: return fmt::format_to(to, FMT_COMPILE("{}"), value.bits != 0);
    case ArgType::int32:
    case ArgType::int64: return write_decimal(to, static_cast<std::int64_t>(value.bits));
    case ArgType::uint32:
    case ArgType::uint64: return write_decimal(to, value.bits);
    case ArgType::real32:
      return fmt::format_to(to, FMT_COMPILE("{}"),
                            std::bit_cast<float>(static_cast<std::uint32_t>(value.bits)));
    case ArgType::real64: {
      const auto number = std::bit_cast<double>(value.bits);
      char* const end = write_short_double(to, number);
      return end != nullptr ? end : fmt::format_to(to, FMT_COMPILE("{}"), number);
    }
    case ArgType::pointer: return fmt::format_to(to, FMT_COMPILE("{:#x}"), value.bits);
    default: return to;
  }
}

/// Appends a value as `spec` says: "{:>8}".
void put_formatted(TextBuffer& out, const Argument& argument, const std::string& spec) {
  fmt::memory_buffer text;
  const auto put = [&](const auto& typed) {
    fmt::vformat_to(fmt::appender{text}, spec, fmt::make_format_args(typed));
  };
  try {
    switch (argument.type) {
      case ArgType::boolean: put(argument.bits != 0); break;
      case ArgType::character: put(static_cast<char>(argument.bits)); break;
      case ArgType::int32: put(static_cast<std::int32_t>(argument.bits)); break;
      case ArgType::int64: put(static_cast<std::int64_t>(argument.bits)); break;
      case ArgType::uint32: put(static_cast<std::uint32_t>(argument.bits)); break;
      case ArgType::uint64: put(argument.bits); break;
      case ArgType::real32: put(std::bit_cast<float>(static_cast<std::uint32_t>(argument.bits))); break;
      case ArgType::real64: put(std::bit_cast<double>(argument.bits)); break;
      case ArgType::pointer:
        put(reinterpret_cast<const void*>(static_cast<std::uintptr_t>(argument.bits)));
        break;
      default: put(std::string_view{argument.text, argument.text_bytes}); break;
    }
    out.append({text.data(), text.size()});
  } catch (const fmt::format_error&) {
    out.append(spec);
  }
}

/// Which of the forms that a plan keeps.
template <TextForm form>
constexpr std::size_t index_of() noexcept {
  static_assert(form == TextForm::plain || form == TextForm::message || form == TextForm::json);
  return form == TextForm::plain ? 0 : form == TextForm::message ? 1 : 2;
}

/// Appends a text that is not known to be clean.
template <TextForm form>
bool put_with_care(TextBuffer& out, std::string_view text) {
  if constexpr (form == TextForm::json) return append_json_escaped(out, text);
  if constexpr (form == TextForm::message) append_escaped(out, text);
  if constexpr (form == TextForm::plain) out.append(text);
  return true;
}

}  // namespace

// ----------------------------------------------------------------------------------------------------------------------------
// Making a plan

MessagePlan::MessagePlan(std::string_view format, std::string_view types) : types_{types} {
  is_message_ = !types_.empty() && types_.front() == static_cast<char>(ArgType::message);
  plain_arguments_ = types_.size() - static_cast<std::size_t>(std::ranges::count_if(types_, is_field));
  if (is_message_) {
    Piece message;
    message.then = Then::value;
    add(std::move(message), {});
    add({}, {});
  } else if (!take_apart(format)) {
    pieces_.clear();
    texts_.clear();
    room_ = {};
    texts_are_utf8_ = texts_begin_cleanly_ = true;
    add({}, format);
  }
}

void MessagePlan::add(Piece&& piece, std::string_view text) {
  TextBuffer shown[3];
  shown[0].append(text);
  escape_into(shown[1], text);
  texts_are_utf8_ &= append_json_escaped(shown[2], text);
  texts_.resize(texts_.size() - (texts_.empty() ? 0 : copied_more));
  for (std::size_t form = 0; form < 3; ++form) {
    piece.text[form] = static_cast<std::uint32_t>(texts_.size());
    piece.text_bytes[form] = static_cast<std::uint32_t>(shown[form].size());
    texts_ += shown[form].view();
    room_[form] += shown[form].size() + longest_number;
  }
  texts_.resize(texts_.size() + copied_more);
  texts_begin_cleanly_ = texts_begin_cleanly_ && !begins_within_character(text);
  pieces_.push_back(std::move(piece));
}

/// False where the format makes no sense.
bool MessagePlan::take_apart(std::string_view format) {
  std::string text;
  std::size_t next_argument = 0;
  for (std::size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    const bool doubled = c == '}' || (c == '{' && i + 1 < format.size() && format[i + 1] == '{');
    if (c != '{' || doubled) {
      text += c;
      if (doubled) ++i;
      continue;
    }
    const auto close = format.find('}', i);
    if (close == std::string_view::npos) return false;
    Piece piece;
    if (!take_argument(format.substr(i + 1, close - i - 1), next_argument, piece)) return false;
    add(std::move(piece), text);
    text.clear();
    i = close;
  }
  add({}, text);
  return true;
}

/// Reads what stands between braces: an index and a specification, each of which may be missing.
bool MessagePlan::take_argument(std::string_view inside, std::size_t& next_argument, Piece& piece) const {
  const auto colon = inside.find(':');
  const auto index = inside.substr(0, colon);
  std::size_t argument = 0;
  if (index.empty()) argument = next_argument++;
  for (const char digit : index) {
    if (digit < '0' || digit > '9' || argument > most_types) return false;
    argument = argument * 10 + static_cast<std::size_t>(digit - '0');
  }
  if (argument >= plain_arguments_) return false;
  piece.argument = static_cast<std::uint32_t>(argument);
  piece.then = Then::value;
  if (colon == std::string_view::npos) return true;
  const auto spec = inside.substr(colon + 1);
  if (!numbers_are_small(spec) || spec.find('{') != std::string_view::npos) return false;
  if (spec.empty()) return true;
  piece.then = Then::formatted;
  piece.spec = fmt::format("{{:{}}}", spec);
  return true;
}

// ----------------------------------------------------------------------------------------------------------------------------
// Following it

bool MessagePlan::decode(std::span<const std::byte> bytes, Arguments& arguments,
                         std::vector<Field>& fields) const {
  ByteReader reader{bytes};
  Argument* next = arguments.make_room(plain_arguments_);
  if (has_fields() || is_message_) [[unlikely]]
    return decode_fields_too(reader, arguments, next, fields);
  for (const char code : types_) {
    if (!read(reader, static_cast<ArgType>(code), *next++, arguments)) [[unlikely]]
      return false;
  }
  return true;
}

bool MessagePlan::decode_fields_too(ByteReader& reader, Arguments& arguments, Argument* next,
                                    std::vector<Field>& fields) const {
  if (is_message_ && plain_arguments_ != 1) return false;
  Argument* const end = next + plain_arguments_;
  for (const char code : types_) {
    if (!is_field(code)) {
      if (!read(reader, static_cast<ArgType>(code), *next++, arguments)) return false;
      continue;
    }
    if (!read_fields(reader, code, fields)) return false;
    if (code == static_cast<char>(ArgType::fields)) break;  // they go on to the end
  }
  std::fill(next, end, Argument{});
  return true;
}

/// Where nothing is to be escaped, the message needs no more.
template <TextForm form>
std::size_t MessagePlan::room_for(const Arguments& arguments) const noexcept {
  return room_[index_of<form>()] + arguments.text_bytes() + copied_more;
}

/// False where the pieces cannot be escaped one by one: then something may have been appended.
template <TextForm form>
bool MessagePlan::put(TextBuffer& out, const Arguments& arguments, bool& all_utf8) const {
  const std::size_t room = room_for<form>(arguments);
  char* begin = out.reserve(room);
  char* to = begin;
  const auto put_text = [&](std::string_view text) {
    if (form != TextForm::plain && begins_within_character(text)) [[unlikely]]
      return false;
    if constexpr (form == TextForm::plain) {
      copy_text(reinterpret_cast<std::byte*>(to), text.data(), text.size());
    } else if (text.size() > longest_clean_try || !copy_clean<form>(to, text)) [[unlikely]] {
      out.advance(static_cast<std::size_t>(to - begin));
      all_utf8 &= put_with_care<form>(out, text);
      begin = to = out.reserve(room);
      return true;
    }
    to += text.size();
    return true;
  };
  for (const Piece& piece : pieces_) {
    const std::size_t bytes = piece.text_bytes[index_of<form>()];
    const char* const text = texts_.data() + piece.text[index_of<form>()];
    std::memcpy(to, text, copied_more);
    if (bytes > copied_more) [[unlikely]]
      std::memcpy(to + copied_more, text + copied_more, bytes - copied_more);
    to += bytes;
    if (piece.then == Then::end) break;
    const Argument& argument = arguments[piece.argument];
    if (piece.then == Then::formatted) [[unlikely]] {
      TextBuffer formatted;
      put_formatted(formatted, argument, piece.spec);
      out.advance(static_cast<std::size_t>(to - begin));
      begin = to = out.reserve(room + formatted.size());
      if (!put_text(formatted.view())) return false;
    } else if (argument.type == ArgType::string || argument.type == ArgType::message) {
      if (!put_text({argument.text, argument.text_bytes})) return false;
    } else if (argument.type == ArgType::character) {
      const char letter = static_cast<char>(argument.bits);
      if (!put_text({&letter, 1})) return false;
    } else {
      to = write_value(to, argument);
    }
  }
  out.advance(static_cast<std::size_t>(to - begin));
  return true;
}

void MessagePlan::append(TextBuffer& out, const Arguments& arguments) const {
  bool all_utf8 = true;
  put<TextForm::plain>(out, arguments, all_utf8);
}

void MessagePlan::append_escaped(TextBuffer& out, const Arguments& arguments) const {
  const std::size_t begin = out.size();
  bool all_utf8 = true;
  if (texts_begin_cleanly_ && put<TextForm::message>(out, arguments, all_utf8)) [[likely]]
    return;
  out.truncate(begin);
  TextBuffer whole;
  append(whole, arguments);
  escape_into(out, whole.view());
}

bool MessagePlan::append_json(TextBuffer& out, const Arguments& arguments) const {
  const std::size_t begin = out.size();
  bool all_utf8 = texts_are_utf8_;
  if (texts_begin_cleanly_ && put<TextForm::json>(out, arguments, all_utf8)) [[likely]]
    return all_utf8;
  out.truncate(begin);
  TextBuffer whole;
  append(whole, arguments);
  return append_json_escaped(out, whole.view());
}

}  // namespace kindred::internal
