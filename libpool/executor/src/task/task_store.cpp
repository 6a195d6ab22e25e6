#include "task/task_store.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/large_pages.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t block_bytes = 16 * 1024;
constexpr std::size_t cells_in_block = block_bytes / TaskStore::cell_bytes;
constexpr std::size_t max_blocks = (std::size_t{1} << 32U) / cells_in_block;

// A sanitizer sees a use of a dead cell only where each cell is an allocation of its own.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool one_by_one = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool one_by_one = true;
#else
constexpr bool one_by_one = false;
#endif
#else
constexpr bool one_by_one = false;
#endif

}  // namespace

std::byte* TaskStore::cell_at(Place place) const noexcept {
  return blocks_[place / cells_in_block] + place % cells_in_block * cell_bytes;
}

TaskStore::Place TaskStore::place_of(void* cell) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(cell);
  const auto* const head = reinterpret_cast<const BlockHead*>(at & ~(block_bytes - 1));
  return head->first + static_cast<Place>(at % block_bytes / cell_bytes);
}

void* TaskStore::take(Locked) {
  void* cell = nullptr;
  if constexpr (one_by_one) {
    cell = ::operator new(cell_bytes, std::align_val_t{cell_alignment});
  } else {
    if (free_ == 0 && !is_closed_ && returned_.load(std::memory_order_relaxed) != 0) {
      // Order: acquire, pairs with the release in give_back: the threads that had the cells are done with
      // them.
      const auto returned = returned_.exchange(0, std::memory_order_acquire);
      taken_.store(taken_.load(std::memory_order_relaxed) - count_of(returned), std::memory_order_relaxed);
      free_ = static_cast<Place>(returned);
    }
    if (free_ != 0) {
      cell = cell_at(free_);
      free_ = static_cast<FreeCell*>(cell)->next;
    } else {
      if (next_ == block_end_) begin_block();
      cell = std::exchange(next_, next_ + cell_bytes);
    }
  }
  taken_.store(taken_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return cell;
}

bool TaskStore::give_back(void* cell) noexcept {
  Place place = 0;
  if constexpr (one_by_one)
    ::operator delete(cell, std::align_val_t{cell_alignment});
  else
    place = place_of(cell);
  auto returned = returned_.load(std::memory_order_relaxed);
  do {
    if (returned == closed) return false;
    if constexpr (!one_by_one) ::new (cell) FreeCell{static_cast<Place>(returned)};
    // Order: release, pairs with the acquires in take, in_use and close.
  } while (!returned_.compare_exchange_weak(returned, (count_of(returned) + 1) << 32U | place,
                                            std::memory_order_release, std::memory_order_relaxed));
  return true;
}

void TaskStore::begin_block() {
  if (blocks_.size() == max_blocks) throw std::bad_alloc{};
  if (next_ == chunk_end_) add_chunk();
  blocks_.push_back(next_);
  ::new (next_) BlockHead{static_cast<Place>((blocks_.size() - 1) * cells_in_block)};
  block_end_ = next_ + block_bytes;
  next_ += cell_bytes;
}

void TaskStore::add_chunk() {
  const std::size_t bytes =
      std::min(block_bytes << std::min<std::size_t>(chunks_.size(), 16), large_page_bytes);
  const std::size_t alignment = bytes == large_page_bytes ? large_page_bytes : block_bytes;
  chunks_.reserve(chunks_.size() + 1);
  std::unique_ptr<std::byte, Free> chunk{static_cast<std::byte*>(std::aligned_alloc(alignment, bytes))};
  if (!chunk) throw std::bad_alloc{};
  if (bytes == large_page_bytes) prefer_large_pages(chunk.get(), bytes);
  next_ = block_end_ = chunk.get();
  chunk_end_ = next_ + bytes;
  chunks_.push_back(std::move(chunk));
  bytes_.store(bytes_.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
}

void TaskStore::clear(Locked) noexcept {
  KINDRED_ASSERT((is_closed_ || in_use() == 0));
  const auto returned = returned_.load(std::memory_order_relaxed);
  if (returned != closed) {
    taken_.store(taken_.load(std::memory_order_relaxed) - count_of(returned), std::memory_order_relaxed);
    returned_.store(0, std::memory_order_relaxed);
  }
  free_ = 0;
  next_ = block_end_ = chunk_end_ = nullptr;
  blocks_.clear();
  chunks_.clear();
  bytes_.store(0, std::memory_order_relaxed);
}

std::size_t TaskStore::close(Locked) noexcept {
  KINDRED_ASSERT(!is_closed_);
  is_closed_ = true;
  // Order: acquire, pairs with the release in give_back: the caller may be the last, and destroy what those
  // that gave a cell back have used.
  const auto returned = returned_.exchange(closed, std::memory_order_acquire);
  return static_cast<std::size_t>(taken_.load(std::memory_order_relaxed) - count_of(returned));
}

}  // namespace kindred::internal
