#include "record/message_plan.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "kindred/internal/escape.hpp"
#include "record/short_double.hpp"
#include "record/small_number.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t max_types = 1024;
constexpr std::size_t widest =
    65535;  ///< of a width or precision: a format from elsewhere must not make a message of a gigabyte
constexpr std::size_t longest_number = 32;
constexpr std::size_t copied_more = 16;  ///< a text is copied by this many bytes at once, however short it is

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

bool is_text(ArgType type) noexcept { return type == ArgType::string || type == ArgType::message; }

/// How many bytes an argument takes in a record, but for a text itself; 0: there is no such type.
std::uint32_t fixed_bytes_of(ArgType type) noexcept {
  switch (type) {
    case ArgType::boolean:
    case ArgType::character: return 1;
    case ArgType::int32:
    case ArgType::uint32:
    case ArgType::real32:
    case ArgType::string:
    case ArgType::message: return 4;
    case ArgType::int64:
    case ArgType::uint64:
    case ArgType::real64:
    case ArgType::pointer: return 8;
    default: return 0;
  }
}

/// Takes a `T` off the front of `bytes`, as 64 bits. False where there are fewer bytes.
template <class T>
[[gnu::always_inline]] inline bool take(std::span<const std::byte>& bytes, std::uint64_t& bits) noexcept {
  if (bytes.size() < sizeof(T)) [[unlikely]]
    return false;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes = bytes.subspan(sizeof value);
  // A number with a sign keeps it.
  bits =
      static_cast<std::uint64_t>(std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>{value});
  return true;
}

/// Takes one argument off the front of `bytes`. False where they end early, or there is no such type.
[[gnu::always_inline]] inline bool take(std::span<const std::byte>& bytes, ArgType type, Argument& argument,
                                        std::size_t& text_bytes) noexcept {
  argument.type = type;
  switch (type) {
    case ArgType::string:
    case ArgType::message: {
      std::uint64_t size;
      if (!take<std::uint32_t>(bytes, size) || bytes.size() < size) [[unlikely]]
        return false;
      argument.text = reinterpret_cast<const char*>(bytes.data());
      argument.text_bytes = static_cast<std::uint32_t>(size);
      text_bytes += size;
      bytes = bytes.subspan(size);
      return true;
    }
    case ArgType::int64:
    case ArgType::uint64:
    case ArgType::real64:
    case ArgType::pointer: return take<std::uint64_t>(bytes, argument.bits);
    case ArgType::int32: return take<std::int32_t>(bytes, argument.bits);
    case ArgType::uint32:
    case ArgType::real32: return take<std::uint32_t>(bytes, argument.bits);
    case ArgType::boolean:
    case ArgType::character: return take<std::uint8_t>(bytes, argument.bits);
    default: return false;
  }
}

bool read_fields(ByteReader& reader, char code, std::vector<Field>& fields) {
  const auto type = static_cast<std::uint8_t>(code);
  if (type == static_cast<std::uint8_t>(ArgType::fields)) return decode_fields(reader.rest(), fields);
  return decode_field(reader, type & static_cast<std::uint8_t>(~arg_is_field), fields);
}

[[gnu::noinline]] char* write_any_double(char* to, double number) {
  return fmt::format_to(to, FMT_COMPILE("{}"), number);
}

inline char* write_double(char* to, double number) {
  const std::uint64_t places = places_of(number);
  if (places == no_places) [[unlikely]]
    return write_any_double(to, number);
  return write_places(to, std::signbit(number), places);
}

/// Writes a value of the rarer types, as `{}` does: at most `longest_number` characters. Returns their end.
[[gnu::noinline]] char* write_rare(char* to, const Argument& value) {
  switch (value.type) {
    case ArgType::boolean: return fmt::format_to(to, FMT_COMPILE("{}"), value.bits != 0);
    case ArgType::real32:
      return fmt::format_to(to, FMT_COMPILE("{}"),
                            std::bit_cast<float>(static_cast<std::uint32_t>(value.bits)));
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

/// The position of a form in `room_`.
template <TextForm form>
constexpr std::size_t index_of() noexcept {
  static_assert(form == TextForm::plain || form == TextForm::message || form == TextForm::json);
  return form == TextForm::plain ? 0 : form == TextForm::message ? 1 : 2;
}

/// Appends a text that is not known to be clean.
template <TextForm form>
bool put_with_care(TextBuffer& out, std::string_view text) {
  if constexpr (form == TextForm::json) return append_json_escaped(out, text);
  if constexpr (form == TextForm::message) escape_into(out, text);
  if constexpr (form == TextForm::plain) out.append(text);
  return true;
}

}  // namespace

// --- making a plan

MessagePlan::MessagePlan(std::string_view format, std::string_view types) : types_{types} {
  is_message_ = !types_.empty() && types_.front() == static_cast<char>(ArgType::message);
  std::ranges::copy_if(types_, std::back_inserter(plain_types_), [](char type) { return !is_field(type); });
  has_fields_ = plain_types_.size() < types_.size();
  if (is_message_) {
    Piece message;
    set_type(message);
    add(std::move(message), {});
    add({}, {});
  } else if (!take_apart(format)) {
    pieces_.clear();
    texts_.clear();
    room_ = {};
    texts_are_utf8_ = texts_begin_cleanly_ = true;
    add({}, format);
  }
  for (std::size_t& room : room_) room += copied_more;
  look_at_order();
  is_usual_ = in_order_ && texts_begin_cleanly_;
}

/// Sets what the piece's argument is.
void MessagePlan::set_type(Piece& piece) const {
  piece.type = static_cast<ArgType>(plain_types_[piece.argument]);
  switch (piece.type) {
    case ArgType::string:
    case ArgType::message: piece.then = Then::text; break;
    case ArgType::character: piece.then = Then::character; break;
    case ArgType::int32: piece.then = Then::int32; break;
    case ArgType::uint32: piece.then = Then::uint32; break;
    case ArgType::int64: piece.then = Then::int64; break;
    case ArgType::uint64: piece.then = Then::uint64; break;
    case ArgType::real64: piece.then = Then::real64; break;
    default: piece.then = Then::rare; break;
  }
}

/// Decides whether the arguments can be taken as they lie in a record, and what is checked then.
void MessagePlan::look_at_order() {
  if (has_fields_ || (is_message_ && plain_types_.size() != 1)) return;
  std::uint32_t next = 0;
  for (const Piece& piece : pieces_) {
    const bool takes_argument = piece.then != Then::end && piece.then != Then::more;
    if (takes_argument && piece.argument != next++) return;
  }
  std::uint32_t gap = 0;
  for (const char code : types_) {
    const auto type = static_cast<ArgType>(code);
    const std::uint32_t bytes = fixed_bytes_of(type);
    if (bytes == 0) return;
    fixed_bytes_ += bytes;
    gap += bytes;
    if (!is_text(type)) continue;
    text_gaps_.push_back(gap);
    gap = 0;
  }
  in_order_ = true;
}

void MessagePlan::add(Piece&& piece, std::string_view text) {
  TextBuffer shown[3];
  shown[0].append(text);
  escape_into(shown[1], text);
  texts_are_utf8_ &= append_json_escaped(shown[2], text);
  texts_.resize(texts_.size() - (texts_.empty() ? 0 : copied_more));
  std::array<std::uint32_t, 3> begins{};
  std::size_t longest = 0;
  for (std::size_t form = 0; form < 3; ++form) {
    begins[form] = static_cast<std::uint32_t>(texts_.size());
    longest = std::max(longest, shown[form].size());
    texts_ += shown[form].view();
    room_[form] += shown[form].size() + longest_number;
  }
  texts_.resize(texts_.size() + copied_more);
  texts_begin_cleanly_ = texts_begin_cleanly_ && !begins_within_character(text);
  // Each piece has as much of the text as is copied at once.
  for (std::size_t at = 0;; at += copied_more) {
    Piece part{.then = Then::more};
    const bool last = at + copied_more >= longest;
    if (last) part = std::move(piece);  // once: NOLINT(bugprone-use-after-move)
    for (std::size_t form = 0; form < 3; ++form) {
      const std::size_t begin = std::min(at, shown[form].size());
      part.text[form] = begins[form] + static_cast<std::uint32_t>(begin);
      part.text_bytes[form] = static_cast<std::uint32_t>(std::min(shown[form].size() - begin, copied_more));
    }
    pieces_.push_back(std::move(part));
    if (last) return;
  }
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
    if (digit < '0' || digit > '9' || argument > max_types) return false;
    argument = argument * 10 + static_cast<std::size_t>(digit - '0');
  }
  if (argument >= plain_types_.size()) return false;
  piece.argument = static_cast<std::uint32_t>(argument);
  set_type(piece);
  if (colon == std::string_view::npos) return true;
  const auto spec = inside.substr(colon + 1);
  if (!numbers_are_small(spec) || spec.find('{') != std::string_view::npos) return false;
  if (spec.empty()) return true;
  piece.then = Then::formatted;
  piece.spec = fmt::format("{{:{}}}", spec);
  return true;
}

// --- following it

bool MessagePlan::decode_each(std::span<const std::byte> bytes, Arguments& arguments,
                              std::vector<Field>& fields) const {
  if (is_message_ && plain_types_.size() != 1) return false;
  Argument* next = arguments.make_room(plain_types_.size());
  Argument* const end = next + plain_types_.size();
  std::size_t text_bytes = 0;
  for (const char code : types_) {
    if (!is_field(code)) {
      if (!take(bytes, static_cast<ArgType>(code), *next++, text_bytes)) return false;
      continue;
    }
    ByteReader reader{bytes};
    if (!read_fields(reader, code, fields)) return false;
    bytes = reader.rest();
    if (code == static_cast<char>(ArgType::fields)) break;  // they go on to the end
  }
  std::fill(next, end, Argument{});
  arguments.set_text_bytes(text_bytes);
  return true;
}

/// The values of a message that takes its arguments as they lie in the record. They were checked.
class MessagePlan::InOrder {
 public:
  explicit InOrder(const Arguments& arguments) noexcept : at_{arguments.bytes()} {}

  template <class T>
  [[nodiscard]] T number(const Piece&) noexcept {
    T value;
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  [[nodiscard]] std::string_view text(const Piece& piece) noexcept {
    const auto bytes = number<std::uint32_t>(piece);
    const auto* const begin = reinterpret_cast<const char*>(std::exchange(at_, at_ + bytes));
    return {begin, bytes};
  }
  [[nodiscard]] Argument argument(const Piece& piece) noexcept {
    Argument argument;
    argument.type = piece.type;
    if (is_text(piece.type)) {
      const std::string_view its = text(piece);
      argument.text = its.data();
      argument.text_bytes = static_cast<std::uint32_t>(its.size());
      return argument;
    }
    switch (fixed_bytes_of(piece.type)) {
      case 1: argument.bits = number<std::uint8_t>(piece); break;
      case 4:
        argument.bits = piece.type == ArgType::int32
                            ? static_cast<std::uint64_t>(std::int64_t{number<std::int32_t>(piece)})
                            : number<std::uint32_t>(piece);
        break;
      default: argument.bits = number<std::uint64_t>(piece); break;
    }
    return argument;
  }

 private:
  const std::byte* at_;
};

/// The values of a message whose arguments were decoded.
class MessagePlan::ByIndex {
 public:
  explicit ByIndex(const Arguments& arguments) noexcept : arguments_{&arguments} {}

  template <class T>
  [[nodiscard]] T number(const Piece& piece) const noexcept {
    if constexpr (std::same_as<T, double>)
      return std::bit_cast<double>(argument(piece).bits);
    else
      return static_cast<T>(argument(piece).bits);
  }
  [[nodiscard]] std::string_view text(const Piece& piece) const noexcept {
    return {argument(piece).text, argument(piece).text_bytes};
  }
  [[nodiscard]] const Argument& argument(const Piece& piece) const noexcept {
    return (*arguments_)[piece.argument];
  }

 private:
  const Arguments* arguments_;
};

namespace {

/// Escapes a text with care; as `put_text`.
template <TextForm form>
[[gnu::noinline]] char* put_marked_text(TextBuffer& out, char* to, std::string_view text, std::size_t room,
                                        bool* all_utf8) {
  if (begins_within_character(text)) return nullptr;
  out.end_at(to);
  const bool utf8 = put_with_care<form>(out, text);
  if constexpr (form == TextForm::json) *all_utf8 &= utf8;
  return out.reserve(room);
}

/// Writes a text behind `to`, which is in the buffer's reserved room, and returns its end; null where it
/// cannot be escaped apart from what is before it. `room`: to be there behind it.
template <TextForm form>
[[gnu::always_inline]] inline char* put_text(TextBuffer& out, char* to, std::string_view text,
                                             std::size_t room, bool* all_utf8) {
  if constexpr (form == TextForm::plain)
    copy_text(reinterpret_cast<std::byte*>(to), text.data(), text.size());
  else if (text.size() > longest_clean_try || !copy_clean<form>(to, text)) [[unlikely]]
    return put_marked_text<form>(out, to, text, room, all_utf8);
  return to + text.size();
}

/// Writes a value as `spec` says; as `put_text`.
template <TextForm form>
[[gnu::noinline]] char* put_formatted(TextBuffer& out, char* to, const Argument& argument,
                                      const std::string& spec, std::size_t room, bool* all_utf8) {
  TextBuffer formatted;
  put_formatted(formatted, argument, spec);
  out.end_at(to);
  to = out.reserve(room + formatted.size());
  return put_text<form>(out, to, formatted.view(), room, all_utf8);
}

}  // namespace

/// Puts the pieces one after the other.
template <TextForm form, class Values>
void MessagePlan::put_from(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const {
  const std::size_t begin = out.size();
  Values values{arguments};
  // The most bytes that the message takes, as long as nothing in it is escaped.
  const std::size_t room = room_[index_of<form>()] + arguments.text_bytes();
  const char* const texts = texts_.data();
  char* to = out.reserve(room);
  for (const Piece* next = pieces_.data();; ++next) {
    const Piece& piece = *next;
    const std::size_t bytes = piece.text_bytes[index_of<form>()];
    const char* const text = texts + piece.text[index_of<form>()];
    std::memcpy(to, text, copied_more);
    to += bytes;
    switch (piece.then) {
      case Then::more: continue;
      case Then::end: out.end_at(to); return;
      case Then::formatted:
        to = put_formatted<form>(out, to, values.argument(piece), piece.spec, room, all_utf8);
        break;
      case Then::text: to = put_text<form>(out, to, values.text(piece), room, all_utf8); break;
      case Then::character: {
        const char letter = values.template number<char>(piece);
        to = put_text<form>(out, to, {&letter, 1}, room, all_utf8);
        break;
      }
      case Then::int32:
        to = write_number(to, std::int64_t{values.template number<std::int32_t>(piece)});
        continue;
      case Then::uint32:
        to = write_number(to, std::uint64_t{values.template number<std::uint32_t>(piece)});
        continue;
      case Then::int64: to = write_number(to, values.template number<std::int64_t>(piece)); continue;
      case Then::uint64: to = write_number(to, values.template number<std::uint64_t>(piece)); continue;
      case Then::real64: to = write_double(to, values.template number<double>(piece)); continue;
      case Then::rare: to = write_rare(to, values.argument(piece)); continue;
      default: __builtin_unreachable();
    }
    if (to == nullptr) [[unlikely]] {
      out.truncate(begin);
      return put_whole<form>(out, arguments, all_utf8);
    }
  }
}

template <TextForm form>
void MessagePlan::put(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const {
  if (!is_usual_) [[unlikely]] {
    if (form != TextForm::plain && !texts_begin_cleanly_) return put_whole<form>(out, arguments, all_utf8);
    if (!in_order_) return put_by_index<form>(out, arguments, all_utf8);
  }
  put_from<form, InOrder>(out, arguments, all_utf8);
}

/// As `put`, where the arguments were decoded. By itself, so that the usual way has the registers.
template <TextForm form>
void MessagePlan::put_by_index(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const {
  put_from<form, ByIndex>(out, arguments, all_utf8);
}

/// Puts the message where its pieces cannot be escaped one by one.
template <TextForm form>
void MessagePlan::put_whole(TextBuffer& out, const Arguments& arguments, bool* all_utf8) const {
  TextBuffer whole;
  append(whole, arguments);
  const bool utf8 = put_with_care<form>(out, whole.view());
  if constexpr (form == TextForm::json) *all_utf8 = utf8;
}

void MessagePlan::append(TextBuffer& out, const Arguments& arguments) const {
  put<TextForm::plain>(out, arguments, nullptr);
}

void MessagePlan::append_escaped(TextBuffer& out, const Arguments& arguments) const {
  put<TextForm::message>(out, arguments, nullptr);
}

bool MessagePlan::append_json(TextBuffer& out, const Arguments& arguments) const {
  bool all_utf8 = texts_are_utf8_;
  put<TextForm::json>(out, arguments, &all_utf8);
  return all_utf8;
}

}  // namespace kindred::internal
