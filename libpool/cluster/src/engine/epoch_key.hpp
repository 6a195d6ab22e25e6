#pragma once

#include <charconv>
#include <string>

#include "engine/engine.hpp"

namespace kindred::internal::cluster {

/// Where the number of the epoch is kept.
inline const Place epoch_place{{StreamKind::epochs, 0}, "current"};

[[nodiscard]] inline Bytes epoch_bytes(Epoch epoch) {
  const std::string text = std::to_string(epoch);
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(begin, begin + text.size());
}
[[nodiscard]] inline Epoch epoch_in(const Bytes& bytes) {
  Epoch epoch = 0;
  const auto* const begin = reinterpret_cast<const char*>(bytes.data());
  (void)std::from_chars(begin, begin + bytes.size(), epoch);
  return epoch;
}

}  // namespace kindred::internal::cluster
