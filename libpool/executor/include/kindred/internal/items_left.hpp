#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kindred::internal {

class FutureState;

/// What is left of a map's chunk whose worker died while it ran.
struct ItemsLeft {
  bool known = false;                   ///< did the worker say how far it came?
  std::uint64_t done = 0;               ///< items that had run to their end; the next one was running
  std::uint64_t kept = 0;               ///< how many of them, from the first, have their results here
  std::vector<std::byte> results = {};  ///< as the worker encoded them
};

/// Returns what is left of a chunk whose worker died; null for every other finished state. The bytes of the
/// call are kept as well (`value_bytes`).
[[nodiscard]] const ItemsLeft* items_left(const FutureState& state) noexcept;

}  // namespace kindred::internal
