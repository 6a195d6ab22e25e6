#include "task_store.hpp"

#include <algorithm>
#include <new>

#include "kindred/internal/large_pages.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t first_chunk_bytes = 16 * 1024;

// A sanitizer sees who uses a room too late only where each is an allocation of its own.
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

void* TaskStore::take() {
  if constexpr (one_by_one) return ::operator new(room_bytes, std::align_val_t{room_alignment});
  // Order: acquire, pairs with the release in give_back: whoever had the room is done with it.
  if (free_ == nullptr) free_ = returned_.exchange(nullptr, std::memory_order_acquire);
  void* room = free_;
  if (free_ != nullptr) {
    free_ = free_->next;
  } else {
    if (next_ == end_) add_chunk();
    room = next_;
    next_ += room_bytes;
  }
  return room;
}

void TaskStore::give_back(void* room) noexcept {
  if constexpr (one_by_one) return ::operator delete(room, std::align_val_t{room_alignment});
  auto* const freed = ::new (room) FreeRoom{returned_.load(std::memory_order_relaxed)};
  while (!returned_.compare_exchange_weak(freed->next, freed, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

void TaskStore::add_chunk() {
  const std::size_t bytes = chunks_.empty() ? first_chunk_bytes : std::min(first_chunk_bytes << std::min<std::size_t>(chunks_.size(), 16), large_page_bytes);
  const std::size_t alignment = bytes == large_page_bytes ? large_page_bytes : room_alignment;
  chunks_.reserve(chunks_.size() + 1);
  std::unique_ptr<std::byte, Free> chunk{static_cast<std::byte*>(std::aligned_alloc(alignment, bytes))};
  if (!chunk) throw std::bad_alloc{};
  if (bytes == large_page_bytes) prefer_large_pages(chunk.get(), bytes);
  next_ = chunk.get();
  end_ = next_ + bytes / room_bytes * room_bytes;
  chunks_.push_back(std::move(chunk));
  bytes_.store(bytes_.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
}

void TaskStore::clear() noexcept {
  free_ = nullptr;
  returned_.store(nullptr, std::memory_order_relaxed);
  next_ = end_ = nullptr;
  chunks_.clear();
  bytes_.store(0, std::memory_order_relaxed);
}

}  // namespace kindred::internal
