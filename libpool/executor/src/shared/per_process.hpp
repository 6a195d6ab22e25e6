#pragma once

#include <atomic>
#include <cstdint>

#include "kindred/internal/this_process.hpp"

namespace kindred::internal {

/// The one `Table` of this process; a fork begins with a fresh one. What a fork inherits is not its own:
/// another thread may have held the table's lock at that moment, and would hold it for ever. Never destroyed:
/// a handle in a static object may go after any static object of ours.
template <class Table>
[[nodiscard]] Table& per_process() {
  struct Owned {
    Table table;
    std::uint32_t generation = fork_generation();
  };
  static constinit std::atomic<Owned*> current{nullptr};
  // Order: acquire, pairs with the release below: the table is there before its address.
  Owned* seen = current.load(std::memory_order_acquire);
  while (seen == nullptr || seen->generation != fork_generation()) {
    auto* const made = new Owned;
    if (current.compare_exchange_strong(seen, made, std::memory_order_acq_rel, std::memory_order_acquire))
      return made->table;
    delete made;
  }
  return seen->table;
}

}  // namespace kindred::internal
