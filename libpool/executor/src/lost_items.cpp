#include "lost_items.hpp"

#include <algorithm>

#include "kindred/internal/task_entry.hpp"

namespace kindred::internal {

bool runs_items(const TaskState& task, const CodeBook& code) {
  // The reference was made of an EntryInfo of this process: see PoolCore::submit. Its library may be gone.
  const void* const entry = code.address(task.entry);
  return entry != nullptr && is_loaded(entry, sizeof(EntryInfo), true) &&
         static_cast<const EntryInfo*>(entry)->runs_items;
}

ItemsLeft read_items_left(const Segment& segment, std::uint64_t task_id) {
  const ItemProgress& words = segment.header().items;
  ItemsLeft left;
  if (words.task.load(std::memory_order_acquire) != task_id) return left;
  left.known = true;
  left.done = words.done.load(std::memory_order_acquire);
  const std::uint64_t each = words.each.load(std::memory_order_relaxed);
  const std::uint64_t kept_bytes = words.kept_bytes.load(std::memory_order_relaxed);
  const std::int64_t at = words.at.load(std::memory_order_relaxed);

  const auto ring = segment.result_room();
  const auto ring_begins = ring.data() - reinterpret_cast<const std::byte*>(&words);
  const auto ring_bytes = static_cast<std::int64_t>(ring.size());
  const bool inside = at >= ring_begins && at <= ring_begins + ring_bytes;
  const std::uint64_t room = inside ? static_cast<std::uint64_t>(ring_begins + ring_bytes - at) : 0;
  const bool adds_up = inside && kept_bytes <= room && (each == 0 || left.done <= (room - kept_bytes) / each);
  if (!adds_up) return left;
  left.kept = std::min(left.done, words.kept.load(std::memory_order_relaxed));
  const auto bytes = static_cast<std::size_t>(kept_bytes + left.done * each);
  const auto* const from = reinterpret_cast<const std::byte*>(&words) + at;
  left.results.assign(from, from + bytes);
  return left;
}

const ItemsLeft* items_left(const FutureState& state) noexcept {
  const auto* const lost = dynamic_cast<const LostItems*>(state.failure());
  return lost != nullptr ? &lost->left() : nullptr;
}

}  // namespace kindred::internal
