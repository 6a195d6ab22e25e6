#pragma once

#include <algorithm>
#include <charconv>
#include <string>

#include "engine/engine.hpp"

namespace kindred::internal::cluster {

/// Where the number of the epoch is kept.
inline const Place epoch_place{{StreamKind::epochs, 0}, "current"};

/// The text is the epoch's number and, after a space, that of the epoch before.
[[nodiscard]] inline Bytes epoch_bytes(Epoch epoch, Epoch former) {
  const std::string text = std::to_string(epoch) + " " + std::to_string(former);
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(begin, begin + text.size());
}
[[nodiscard]] inline Epoch epoch_in(const Bytes& bytes) {
  Epoch epoch = 0;
  const auto* const begin = reinterpret_cast<const char*>(bytes.data());
  (void)std::from_chars(begin, begin + bytes.size(), epoch);
  return epoch;
}

/// 0: it is not known.
[[nodiscard]] inline Epoch former_epoch_in(const Bytes& bytes) {
  Epoch former = 0;
  const auto* const begin = reinterpret_cast<const char*>(bytes.data());
  const auto* const end = begin + bytes.size();
  const auto* const space = std::find(begin, end, ' ');
  if (space != end) (void)std::from_chars(space + 1, end, former);
  return former;
}

}  // namespace kindred::internal::cluster
