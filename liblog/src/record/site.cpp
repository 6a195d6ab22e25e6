#include "record/site.hpp"

#include <algorithm>
#include <bit>
#include <memory>
#include <mutex>
#include <unordered_map>

#include <fmt/compile.h>
#include <fmt/format.h>

#include "front/small_lock.hpp"
#include "kindred/internal/call_site.hpp"
#include "record/short_double.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t longest_format = kindred::internal::longest_kept_format;
constexpr std::size_t longest_name = 1024;
constexpr std::size_t most_types = 1024;
constexpr std::size_t widest =
    65535;  ///< of a width or precision: a format from elsewhere must not make a message of a gigabyte
constexpr std::size_t longest_number = 32;

/// Does an argument of this type take no part in the message?
bool is_field(char type) noexcept {
  return (static_cast<std::uint8_t>(type) & arg_is_field) != 0 || type == static_cast<char>(ArgType::fields);
}

std::string_view tail(std::string_view text, std::size_t bytes) noexcept {
  return text.size() <= bytes ? text : text.substr(text.size() - bytes);
}

bool numbers_are_small(std::string_view spec) noexcept {
  std::size_t number = 0;
  for (const char c : spec) {
    number = c >= '0' && c <= '9' ? number * 10 + static_cast<std::size_t>(c - '0') : 0;
    if (number > widest) return false;
  }
  return true;
}

}  // namespace

void encode_site(std::vector<std::byte>& out, const SiteFacts& facts) {
  const auto format = facts.format.substr(0, longest_format);
  const auto file = tail(facts.file, longest_name);
  const auto function = facts.function.substr(0, longest_name);
  const auto types = facts.types.substr(0, most_types);
  const auto name = facts.level_name.substr(0, 255);
  const std::size_t begin = out.size();
  const std::size_t used =
      site_head_bytes + format.size() + file.size() + function.size() + types.size() + name.size();
  out.resize(begin + (used + 7) / 8 * 8);
  std::byte* to = out.data() + begin;
  const auto put = [&to](const void* bytes, std::size_t count) {
    if (count != 0) std::memcpy(to, bytes, count);
    to += count;
  };
  const std::uint32_t words[3] = {static_cast<std::uint32_t>(out.size() - begin), facts.line,
                                  static_cast<std::uint32_t>(format.size())};
  const std::uint16_t halves[3] = {static_cast<std::uint16_t>(file.size()),
                                   static_cast<std::uint16_t>(function.size()),
                                   static_cast<std::uint16_t>(types.size())};
  const std::uint8_t octets[2] = {static_cast<std::uint8_t>(facts.level),
                                  static_cast<std::uint8_t>(name.size())};
  put(words, sizeof words);
  put(halves, sizeof halves);
  put(octets, sizeof octets);
  for (const auto text : {format, file, function, types, name}) put(text.data(), text.size());
}

namespace {

bool decode_site(std::span<const std::byte> bytes, SiteFacts& facts) noexcept {
  ByteReader reader{bytes};
  if (reader.value<std::uint32_t>() != bytes.size()) return false;
  facts.line = reader.value<std::uint32_t>();
  const auto format = reader.value<std::uint32_t>();
  const auto file = reader.value<std::uint16_t>();
  const auto function = reader.value<std::uint16_t>();
  const auto types = reader.value<std::uint16_t>();
  const auto level = reader.value<std::uint8_t>();
  const auto name = reader.value<std::uint8_t>();
  if (level > static_cast<std::uint8_t>(Level::critical) || types > most_types || format > longest_format)
    return false;
  facts.level = static_cast<Level>(level);
  facts.format = reader.text(format);
  facts.file = reader.text(file);
  facts.function = reader.text(function);
  facts.types = reader.text(types);
  facts.level_name = reader.text(name);
  return reader.ok();
}

struct Sites {
  SmallLock lock;
  std::unordered_map<std::string, std::unique_ptr<const Site>> all;
  std::size_t bytes = 0;
};
Sites& sites() {
  static auto* const known = new Sites;  // never destroyed: records point into it
  return *known;
}
constexpr std::size_t most_bytes = 64U * 1024 * 1024;
constexpr std::size_t most_bytes_without_place = most_bytes + 4U * 1024 * 1024;

// The table is full: the record is kept, but its place in the code is not, nor, where that is not enough, its
// text. Only a process that lies about the types of its arguments, too, finds no site at all.
const Site* intern_without_place(SiteFacts facts) {
  facts.file = {};
  facts.function = {};
  facts.line = 0;
  for (;;) {
    std::vector<std::byte> bytes;
    encode_site(bytes, facts);
    const std::string key{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    Sites& known = sites();
    const std::lock_guard hold{known.lock};
    if (const auto found = known.all.find(key); found != known.all.end()) return found->second.get();
    constexpr std::string_view unknown = "(no room is left for the texts of places that log)";
    if (known.bytes + bytes.size() <= most_bytes_without_place) {
      known.bytes += bytes.size();
      return known.all.emplace(key, std::make_unique<const Site>(facts)).first->second.get();
    }
    if (facts.format == unknown) return nullptr;
    facts.format = unknown;
  }
}

}  // namespace

const Site* intern_site(std::span<const std::byte> bytes) {
  SiteFacts facts;
  if (!decode_site(bytes, facts)) return nullptr;
  const std::string key{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  Sites& known = sites();
  std::unique_lock hold{known.lock};
  if (const auto found = known.all.find(key); found != known.all.end()) return found->second.get();
  if (known.bytes + bytes.size() > most_bytes) {
    hold.unlock();
    return intern_without_place(facts);
  }
  auto site = std::make_unique<const Site>(facts);
  const Site* const result = site.get();
  known.all.emplace(key, std::move(site));
  known.bytes += bytes.size();
  return result;
}

const Site* intern_site(const SiteFacts& facts) {
  std::vector<std::byte> bytes;
  encode_site(bytes, facts);
  return intern_site(bytes);
}

Site::Site(const SiteFacts& facts)
    : level_{facts.level},
      level_name_{facts.level_name},
      format_{facts.format},
      file_{facts.file},
      function_{facts.function},
      types_{facts.types},
      source_{.file = file_, .line = facts.line, .function = function_} {
  is_message_ = !types_.empty() && types_.front() == static_cast<char>(ArgType::message);
  plain_arguments_ = types_.size() - static_cast<std::size_t>(std::ranges::count_if(types_, is_field));
  has_fields_ = plain_arguments_ < types_.size();
  if (!is_message_) take_apart();
}

void Site::take_apart() {
  Piece piece;
  std::size_t next_argument = 0;
  bool plain = true;
  for (std::size_t i = 0; i < format_.size();) {
    const char c = format_[i];
    if (c == '}' || (c == '{' && i + 1 < format_.size() && format_[i + 1] == '{')) {
      literals_ += c;
      ++piece.literal_bytes;
      i += 2;
      continue;
    }
    if (c != '{') {
      literals_ += c;
      ++piece.literal_bytes;
      ++i;
      continue;
    }
    const auto close = format_.find('}', ++i);
    if (close == std::string::npos) {
      broken_ = true;
      return;
    }
    const std::string_view inside{format_.data() + i, close - i};
    const auto colon = inside.find(':');
    const auto index = inside.substr(0, colon);
    if (index.empty()) {
      piece.argument = static_cast<std::uint32_t>(next_argument++);
    } else {
      piece.argument = 0;
      for (const char digit : index) {
        if (digit < '0' || digit > '9' || piece.argument > most_types) {
          broken_ = true;
          return;
        }
        piece.argument = piece.argument * 10 + static_cast<std::uint32_t>(digit - '0');
      }
    }
    if (colon != std::string_view::npos) {
      const auto spec = inside.substr(colon + 1);
      if (!numbers_are_small(spec) || spec.find('{') != std::string_view::npos) {
        broken_ = true;
        return;
      }
      piece.plain = spec.empty();
      if (!piece.plain) piece.spec = "{:" + std::string{spec} + "}";
    }
    if (piece.argument >= plain_arguments_) {
      broken_ = true;
      return;
    }
    plain = plain && piece.plain && piece.argument == pieces_.size();
    pieces_.push_back(std::move(piece));
    piece = Piece{.literal = static_cast<std::uint32_t>(literals_.size()), .spec = {}};
    i = close + 1;
  }
  const auto* const first_field = std::find_if(types_.data(), types_.data() + types_.size(), is_field);
  in_order_ = plain && pieces_.size() == plain_arguments_ && first_field == types_.data() + plain_arguments_;
  piece.argument = static_cast<std::uint32_t>(plain_arguments_);  // none: the text at the end
  pieces_.push_back(std::move(piece));
}

bool Site::read(ByteReader& reader, ArgType type, Value& value) noexcept {
  value.type = type;
  switch (type) {
    case ArgType::boolean:
    case ArgType::character: value.bits = reader.value<std::uint8_t>(); return reader.ok();
    case ArgType::int32:
      value.bits = static_cast<std::uint64_t>(std::int64_t{reader.value<std::int32_t>()});
      return reader.ok();
    case ArgType::uint32: value.bits = reader.value<std::uint32_t>(); return reader.ok();
    case ArgType::real32: value.bits = reader.value<std::uint32_t>(); return reader.ok();
    case ArgType::int64:
    case ArgType::uint64:
    case ArgType::real64:
    case ArgType::pointer: value.bits = reader.value<std::uint64_t>(); return reader.ok();
    case ArgType::string:
    case ArgType::message: value.text = reader.text(reader.value<std::uint32_t>()); return reader.ok();
    default: return false;
  }
}

void Site::append(TextBuffer& message, const Value& value) {
  if (value.type == ArgType::string || value.type == ArgType::message) return message.append(value.text);
  char* const begin = message.reserve(longest_number);
  char* end = begin;
  switch (value.type) {
    case ArgType::boolean: end = fmt::format_to(begin, FMT_COMPILE("{}"), value.bits != 0); break;
    case ArgType::character: *end++ = static_cast<char>(value.bits); break;
    case ArgType::int32:
    case ArgType::int64:
      end = fmt::format_to(begin, FMT_COMPILE("{}"), static_cast<std::int64_t>(value.bits));
      break;
    case ArgType::uint32:
    case ArgType::uint64: end = fmt::format_to(begin, FMT_COMPILE("{}"), value.bits); break;
    case ArgType::real32:
      end = fmt::format_to(begin, FMT_COMPILE("{}"),
                           std::bit_cast<float>(static_cast<std::uint32_t>(value.bits)));
      break;
    case ArgType::real64: {
      const auto number = std::bit_cast<double>(value.bits);
      end = write_short_double(begin, number);
      if (end == nullptr) end = fmt::format_to(begin, FMT_COMPILE("{}"), number);
      break;
    }
    case ArgType::pointer: end = fmt::format_to(begin, FMT_COMPILE("{:#x}"), value.bits); break;
    default: break;
  }
  message.advance(static_cast<std::size_t>(end - begin));
}

void Site::append(TextBuffer& message, const Value& value, const std::string& spec) {
  fmt::memory_buffer out;
  const auto put = [&](const auto& typed) {
    fmt::vformat_to(fmt::appender{out}, spec, fmt::make_format_args(typed));
  };
  try {
    switch (value.type) {
      case ArgType::boolean: put(value.bits != 0); break;
      case ArgType::character: put(static_cast<char>(value.bits)); break;
      case ArgType::int32: put(static_cast<std::int32_t>(value.bits)); break;
      case ArgType::int64: put(static_cast<std::int64_t>(value.bits)); break;
      case ArgType::uint32: put(static_cast<std::uint32_t>(value.bits)); break;
      case ArgType::uint64: put(value.bits); break;
      case ArgType::real32: put(std::bit_cast<float>(static_cast<std::uint32_t>(value.bits))); break;
      case ArgType::real64: put(std::bit_cast<double>(value.bits)); break;
      case ArgType::pointer:
        put(reinterpret_cast<const void*>(static_cast<std::uintptr_t>(value.bits)));
        break;
      default: put(value.text); break;
    }
    message.append({out.data(), out.size()});
  } catch (const fmt::format_error&) {
    message.append(spec);
  }
}

bool Site::format_in_order(ByteReader& reader, TextBuffer& message) const {
  for (const Piece& piece : pieces_) {
    message.append({literals_.data() + piece.literal, piece.literal_bytes});
    if (piece.argument == plain_arguments_) break;
    Value value;
    if (!read(reader, static_cast<ArgType>(types_[piece.argument]), value)) return false;
    append(message, value);
  }
  return true;
}

bool Site::format_any_order(ByteReader& reader, TextBuffer& message, std::vector<Field>& fields) const {
  constexpr std::size_t usual = 16;
  Value few[usual];
  std::vector<Value> many;
  Value* values = few;
  if (plain_arguments_ > usual) {
    many.resize(plain_arguments_);
    values = many.data();
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < types_.size(); ++i) {
    if (is_field(types_[i])) {
      if (!read_fields(reader, i, fields)) return false;
      if (types_[i] == static_cast<char>(ArgType::fields)) break;
    } else if (!read(reader, static_cast<ArgType>(types_[i]), values[next++])) {
      return false;
    }
  }
  if (broken_) {
    message.append(format_);
    return true;
  }
  for (const Piece& piece : pieces_) {
    message.append({literals_.data() + piece.literal, piece.literal_bytes});
    if (piece.argument == plain_arguments_) break;
    if (piece.plain)
      append(message, values[piece.argument]);
    else
      append(message, values[piece.argument], piece.spec);
  }
  return true;
}

/// Reads the key-value whose type is at `at`.
bool Site::read_fields(ByteReader& reader, std::size_t at, std::vector<Field>& fields) const {
  const auto type = static_cast<std::uint8_t>(types_[at]);
  if (type == static_cast<std::uint8_t>(ArgType::fields)) return decode_fields(reader.rest(), fields);
  return (type & arg_is_field) != 0 &&
         decode_field(reader, type & static_cast<std::uint8_t>(~arg_is_field), fields);
}

bool Site::format(std::span<const std::byte> arguments, TextBuffer& message,
                  std::vector<Field>& fields) const {
  ByteReader reader{arguments};
  if (!in_order_ && !is_message_) return format_any_order(reader, message, fields);
  if (in_order_) {
    if (!format_in_order(reader, message)) return false;
  } else {
    Value text;
    if (!read(reader, ArgType::message, text)) return false;
    message.append(text.text);
  }
  for (std::size_t i = in_order_ ? plain_arguments_ : 1; i < types_.size(); ++i) {
    if (!read_fields(reader, i, fields)) return false;
    if (types_[i] == static_cast<char>(ArgType::fields)) break;
  }
  return true;
}

}  // namespace kindred::internal
