#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <variant>

#include "wire/archive.hpp"

namespace kindred::internal::cluster {

/// Writes the alternative's index (one byte) and its members.
template <class Variant>
void encode_variant(Bytes& out, const Variant& value) {
  ArchiveWriter writer{out};
  writer(static_cast<std::uint8_t>(value.index()));
  std::visit([&](const auto& each) { writer(each); }, value);
}

/// Errors: `DecodeError` for an unknown index, a member that does not fit, or bytes that are left over.
template <class Variant>
[[nodiscard]] Variant decode_variant(std::span<const std::byte> bytes) {
  ArchiveReader reader{bytes};
  std::uint8_t index = 0;
  reader(index);
  Variant value;
  const bool known = [&]<std::size_t... I>(std::index_sequence<I...>) {
    return ((I == index && (value.template emplace<I>(), true)) || ...);
  }(std::make_index_sequence<std::variant_size_v<Variant>>{});
  if (!known) throw DecodeError{"a message of the unknown kind " + std::to_string(index)};
  std::visit([&](auto& each) { reader(each); }, value);
  reader.require_end();
  return value;
}

}  // namespace kindred::internal::cluster
