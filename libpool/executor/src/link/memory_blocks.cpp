#include "link/memory_blocks.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"

namespace kindred::internal {
namespace {

// A small value may take a larger block, but not one many times its size.
constexpr std::size_t generous_bytes = std::size_t{1} << 20U;

}  // namespace

std::shared_ptr<CallBlock> CallBlocks::take(std::size_t bytes) {
  std::unique_ptr<CallBlock> found;
  {
    const std::scoped_lock lock{mutex_};
    auto best = free_.end();
    for (auto at = free_.begin(); at != free_.end(); ++at) {
      const std::size_t size = (*at)->size();
      if (size >= bytes && size <= std::max(4 * bytes, generous_bytes) &&
          (best == free_.end() || size < (*best)->size()))
        best = at;
    }
    if (best != free_.end()) {
      found = std::move(*best);
      free_.erase(best);
    }
    ++in_use_;
  }
  try {
    if (found) {
      found->map_pages(true);
    } else {
      found =
          std::make_unique<CallBlock>(SharedMemory::create("kindred-arguments", bytes, idle_memory_is_back));
      found->seal_writes();
      found->map_pages(true);
      const std::scoped_lock lock{mutex_};
      found->kept = kept_.keep(found->size());
    }
  } catch (...) {
    const std::scoped_lock lock{mutex_};
    KINDRED_ASSERT(in_use_ != 0U);
    --in_use_;
    throw;
  }
  // Where there is no memory for it, the shared_ptr gives the block back before it throws.
  return {found.release(), [this](CallBlock* block) { give_back(std::unique_ptr<CallBlock>{block}); }};
}

std::shared_ptr<CallBlock> CallBlocks::take_if_few(std::size_t bytes) {
  {
    const std::scoped_lock lock{mutex_};
    if (in_use_ >= max_in_use) return nullptr;
  }
  try {
    return take(bytes);
  } catch (const SystemError& error) {
    if (error.code().value() == EMFILE || error.code().value() == ENFILE) return nullptr;
    throw;
  }
}

void CallBlocks::give_back(std::unique_ptr<CallBlock> block) {
  if (process_id() != pid_) return;
  const bool kept = block->kept;
  {
    const std::scoped_lock lock{mutex_};
    KINDRED_ASSERT(in_use_ != 0U);
    --in_use_;
    if (kept) keep(std::move(block));
  }
  if (kept) freed_();
}

// With the lock. A block that there is no memory to note is let go: this runs where a shared_ptr ends.
void CallBlocks::keep(std::unique_ptr<CallBlock> block) noexcept {
  block->free_since = std::chrono::steady_clock::now();
  try {
    free_.push_back(std::move(block));
  } catch (const std::bad_alloc&) {
    kept_.drop(block->size());
  }
}

std::vector<std::unique_ptr<CallBlock>> CallBlocks::free_since(std::chrono::steady_clock::time_point moment) {
  std::vector<std::unique_ptr<CallBlock>> old;
  const std::scoped_lock lock{mutex_};
  for (auto& block : free_) {
    if (block->free_since > moment) continue;
    kept_.drop(block->size());
    old.push_back(std::move(block));
  }
  std::erase(free_, nullptr);
  return old;
}

bool CallBlocks::any_free() const {
  const std::scoped_lock lock{mutex_};
  return !free_.empty();
}

std::shared_ptr<SharedMemory> ResultBlocks::lend(std::size_t place) {
  if (place >= max_result_blocks || !blocks_[place]) return nullptr;
  SharedMemory* const memory = blocks_[place].get();
  return {memory, [shared = shared_, kept = blocks_[place], place](SharedMemory*) {
            if (process_id() != shared->pid) return;  // whose segment is not mapped here
            // Order: release, pairs with the acquire of the process that clears the bit: our reading is over.
            shared->segment->header().free_result_blocks.fetch_or(std::uint64_t{1} << place,
                                                                  std::memory_order_release);
            shared->times.fetch_add(1, std::memory_order_relaxed);
            shared->freed();
          }};
}

bool ResultBlocks::release_idle(const std::function<void(std::size_t)>& forget) {
  if (!shared_) return false;
  std::uint64_t there = 0;
  for (std::size_t place = 0; place < max_result_blocks; ++place)
    there |= blocks_[place] ? std::uint64_t{1} << place : 0;
  if (there == 0) return false;
  if (const auto times = shared_->times.load(std::memory_order_relaxed); times != times_seen_) {
    times_seen_ = times;
    return true;
  }
  const std::uint64_t free =
      shared_->segment->header().free_result_blocks.fetch_and(~there, std::memory_order_acq_rel) & there;
  for (std::size_t place = 0; place < max_result_blocks; ++place) {
    if ((free >> place & 1U) == 0) continue;
    blocks_[place].reset();
    forget(place);
  }
  return false;  // those that are lent tell when they are free
}

}  // namespace kindred::internal
