#include "child/result_memory.hpp"

#include <utility>

#include "kindred/internal/assert.hpp"

namespace kindred::internal {

bool ResultMemory::take_kept(std::size_t place, std::size_t bytes, std::uint64_t freed) const noexcept {
  const auto& block = blocks_[place];
  return block && (block->ours || (freed >> place & 1U) != 0) && &block->memory != block_ &&
         block->memory.size() >= bytes;
}

// The smallest that is free and large enough; `max_result_blocks`: there is none.
std::size_t ResultMemory::best_kept(std::size_t bytes, std::uint64_t freed) const noexcept {
  std::size_t best = max_result_blocks;
  for (std::size_t place = 0; place < max_result_blocks; ++place) {
    if (!take_kept(place, bytes, freed)) continue;
    if (best == max_result_blocks || blocks_[place]->memory.size() < blocks_[best]->memory.size())
      best = place;
  }
  return best;
}

std::size_t ResultMemory::unused_place() const noexcept {
  std::size_t place = 0;
  while (place < max_result_blocks && blocks_[place]) ++place;
  return place;
}

std::span<std::byte> ResultMemory::take(std::size_t bytes, const std::function<void()>& before_new) {
  // Order: acquire, pairs with the release of the parent's reader.
  const std::size_t best = best_kept(bytes, freed_.load(std::memory_order_acquire));
  const std::uint64_t bit = best == max_result_blocks ? 0 : std::uint64_t{1} << best;
  if (best != max_result_blocks &&
      (blocks_[best]->ours || (freed_.fetch_and(~bit, std::memory_order_acq_rel) & bit) != 0)) {
    blocks_[best]->ours = true;
    KINDRED_ASSERT(&blocks_[best]->memory != block_);  // else a result that is read would be written over
    place_ = best;
    block_ = &blocks_[best]->memory;
    block_->map_pages(true);
    KINDRED_ASSERT(block_->size() >= bytes);
    return block_->bytes();
  }
  before_new();
  const std::size_t unused = unused_place();
  auto memory = SharedMemory::create("kindred-result", bytes, idle_memory_is_back);
  memory.map_pages(true);
  if (unused == max_result_blocks || !kept_.keep(memory.size())) {
    std::swap(memory, single_);
    outgrown_ = std::move(memory);
    block_ = &single_;
  } else {
    place_ = unused;
    block_ = &blocks_[unused].emplace(Block{std::move(memory)}).memory;
  }
  KINDRED_ASSERT(block_->size() >= bytes);
  return block_->bytes();
}

void ResultMemory::note_sent() noexcept {
  KINDRED_ASSERT(is_taken());
  if (!is_kept()) return;
  Block& block = *blocks_[place_];
  block.memory.close_descriptor();
  block.sent = true;
}

void ResultMemory::end_result() noexcept {
  block_ = nullptr;
  single_ = SharedMemory{};
  outgrown_ = SharedMemory{};
  for (std::size_t place = 0; place < blocks_.size(); ++place) {
    auto& block = blocks_[place];
    if (!block || !block->ours) continue;  // the usual one: a future's now
    if (!block->sent) {
      kept_.drop(block->memory.size());
      block.reset();
    } else {
      block->ours = false;
      freed_.fetch_or(std::uint64_t{1} << place, std::memory_order_release);
    }
  }
}

void ResultMemory::forget(std::size_t place) noexcept {
  if (place >= blocks_.size() || !blocks_[place]) return;
  kept_.drop(blocks_[place]->memory.size());
  blocks_[place].reset();
}

std::uint64_t ResultMemory::kept_bytes() const noexcept {
  std::uint64_t kept = 0;
  for (const auto& block : blocks_) kept += block ? block->memory.size() : 0;
  return kept;
}

}  // namespace kindred::internal
