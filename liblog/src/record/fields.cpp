#include "record/fields.hpp"

#include <algorithm>
#include <string>
#include <type_traits>

#include <fmt/format.h>

namespace kindred::internal {
namespace {

constexpr std::size_t max_fields = 256;

void append(std::vector<std::byte>& out, const void* bytes, std::size_t count) {
  const auto* const first = static_cast<const std::byte*>(bytes);
  out.insert(out.end(), first, first + count);
}
template <class T>
void append_value(std::vector<std::byte>& out, const T& value) {
  append(out, &value, sizeof value);
}

void set_field(std::vector<Field>& fields, std::string_view key, FieldValue&& value) {
  for (Field& field : fields) {
    if (field.key == key) {
      field.value = std::move(value);
      return;
    }
  }
  fields.push_back({std::string{key}, std::move(value)});
}

}  // namespace

void encode_fields(std::vector<std::byte>& out, std::span<const Field> fields, std::size_t max_bytes) {
  const std::size_t begin = out.size();
  std::uint32_t count = 0;
  append_value(out, count);
  for (const Field& field : fields) {
    const std::size_t before = out.size();
    const std::string_view key =
        std::string_view{field.key}.substr(0, std::min<std::size_t>(0xffff, max_bytes / 4));
    const auto type = static_cast<std::uint8_t>(std::visit(
        [](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, bool>)
            return ArgType::boolean;
          else if constexpr (std::is_same_v<T, std::int64_t>)
            return ArgType::int64;
          else if constexpr (std::is_same_v<T, std::uint64_t>)
            return ArgType::uint64;
          else if constexpr (std::is_same_v<T, double>)
            return ArgType::real64;
          else
            return ArgType::string;
        },
        field.value));
    append_value(out, type);
    append_value(out, static_cast<std::uint16_t>(key.size()));
    append(out, key.data(), key.size());
    std::visit(
        [&](const auto& value) {
          if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
            const std::size_t used = out.size() - begin + sizeof(std::uint32_t);
            const auto text = std::string_view{value}.substr(0, used < max_bytes ? max_bytes - used : 0);
            append_value(out, static_cast<std::uint32_t>(text.size()));
            append(out, text.data(), text.size());
          } else {
            append_value(out, value);
          }
        },
        field.value);
    if (out.size() - begin > max_bytes || count == max_fields) {
      out.resize(before);
      break;
    }
    ++count;
  }
  std::memcpy(out.data() + begin, &count, sizeof count);
}

bool decode_field(ByteReader& reader, std::uint8_t type, std::vector<Field>& fields) {
  const auto key = reader.text(reader.value<std::uint16_t>());
  FieldValue value;
  switch (static_cast<ArgType>(type)) {
    case ArgType::boolean: value = reader.value<std::uint8_t>() != 0; break;
    case ArgType::character: value = std::string(1, reader.value<char>()); break;
    case ArgType::int32: value = std::int64_t{reader.value<std::int32_t>()}; break;
    case ArgType::uint32: value = std::uint64_t{reader.value<std::uint32_t>()}; break;
    case ArgType::int64: value = reader.value<std::int64_t>(); break;
    case ArgType::uint64: value = reader.value<std::uint64_t>(); break;
    case ArgType::real32: value = static_cast<double>(reader.value<float>()); break;
    case ArgType::real64: value = reader.value<double>(); break;
    case ArgType::string: value = std::string{reader.text(reader.value<std::uint32_t>())}; break;
    case ArgType::pointer: value = fmt::format("{:#x}", reader.value<std::uint64_t>()); break;
    default: return false;
  }
  if (!reader.ok()) return false;
  set_field(fields, key, std::move(value));
  return true;
}

bool decode_fields(std::span<const std::byte> bytes, std::vector<Field>& fields) {
  ByteReader reader{bytes};
  const auto count = reader.value<std::uint32_t>();
  if (count > max_fields) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!decode_field(reader, reader.value<std::uint8_t>(), fields)) return false;
  }
  return reader.ok();
}

}  // namespace kindred::internal
