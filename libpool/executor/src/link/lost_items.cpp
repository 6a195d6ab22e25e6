#include "link/lost_items.hpp"

#include <algorithm>

#include "kindred/internal/task_entry.hpp"

namespace kindred::internal {

bool runs_items(const TaskState& task, const CodeBook& code) {
  // The reference was made from an EntryInfo of this process: see PoolCore::submit. Its library may be gone.
  const void* const entry = code.address(task.entry);
  return entry != nullptr && is_loaded(entry, sizeof(EntryInfo), true) &&
         static_cast<const EntryInfo*>(entry)->runs_items;
}

namespace {

/// From where `at` points to the end of that memory; empty where it points nowhere.
std::span<const std::byte> memory_from(const Segment& segment, const ResultBlocks& blocks, std::int64_t at) {
  if (at < 0) {
    const auto* const block = blocks.at(static_cast<std::size_t>(-(at + 1)));
    return block != nullptr ? std::span<const std::byte>{block->bytes()} : std::span<const std::byte>{};
  }
  const auto ring = segment.result_room();
  const auto ring_begins = ring.data() - reinterpret_cast<const std::byte*>(&segment.header().items);
  if (at < ring_begins || at > ring_begins + static_cast<std::int64_t>(ring.size())) return {};
  return ring.subspan(static_cast<std::size_t>(at - ring_begins));
}

}  // namespace

ItemsLeft read_items_left(const Segment& segment, const ResultBlocks& blocks, AttemptId attempt) {
  const ItemProgress& words = segment.header().items;
  ItemsLeft left;
  if (words.attempt.load(std::memory_order_acquire) != attempt) return left;
  left.known = true;
  left.done = words.done.load(std::memory_order_acquire);
  const std::uint64_t each = words.each.load(std::memory_order_relaxed);
  const std::uint64_t kept_bytes = words.kept_bytes.load(std::memory_order_relaxed);
  const auto memory = memory_from(segment, blocks, words.at.load(std::memory_order_relaxed));
  if (kept_bytes > memory.size() || (each != 0 && left.done > (memory.size() - kept_bytes) / each))
    return left;
  left.kept = std::min(left.done, words.kept.load(std::memory_order_relaxed));
  const auto results = memory.first(static_cast<std::size_t>(kept_bytes + left.done * each));
  left.results.assign(results.begin(), results.end());
  return left;
}

const ItemsLeft* items_left(const FutureState& state) noexcept {
  const auto* const lost = dynamic_cast<const LostItems*>(state.failure());
  return lost != nullptr ? &lost->left() : nullptr;
}

}  // namespace kindred::internal
