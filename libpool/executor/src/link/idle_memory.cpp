#include "link/idle_memory.hpp"

#include "kept_blocks.hpp"
#include "link/notices.hpp"

namespace kindred::internal {
void IdleMemory::note_freed() noexcept {
  if (some_is_free_.load(std::memory_order_relaxed) ||
      some_is_free_.exchange(true, std::memory_order_relaxed))
    return;
  wake_supervisor_();
}

void IdleMemory::check(Locked locked, Time now) {
  if (release_at_ && *release_at_ <= now) {
    release_at_.reset();
    release(locked, now - idle_memory_stays);
  }
  if (!release_at_ && some_is_free_.load(std::memory_order_relaxed)) release_at_ = now + idle_memory_stays;
}

// Where the worker's socket is full, the worker keeps the memory until it ends.
void IdleMemory::tell_to_forget(Locked locked, WorkerSlot& slot, ParentMessage what, std::uint64_t id) {
  (void)send_notice(slot.worker.socket, what, id);
  slot.header().mail.fetch_add(1, std::memory_order_release);
  control_.wake(locked, slot);
}

void IdleMemory::release(Locked locked, Time idle_since) {
  // Before the look: what is freed from now on says so again.
  some_is_free_.store(false, std::memory_order_relaxed);
  for (const auto& block : call_blocks_.free_since(idle_since)) {
    for (const auto& known : block->known_by) {
      WorkerSlot& slot = slots_.at(locked, static_cast<std::size_t>(known.slot));
      if (slot.takes_calls() && slot.incarnation == known.incarnation)
        tell_to_forget(locked, slot, ParentMessage::forget, known.id);
    }
  }
  bool more = false;
  for (WorkerSlot& slot : slots_.all(locked)) {
    if (!slot.takes_calls()) continue;
    const bool some = slot.memory.blocks.release_idle(
        [&](std::size_t place) { tell_to_forget(locked, slot, ParentMessage::forget_result, place); });
    more = more || some;
  }
  if (cells_.is_large() && cells_.in_use() == 0) cells_.clear(locked);
  if (more || call_blocks_.any_free()) some_is_free_.store(true, std::memory_order_relaxed);
}

}  // namespace kindred::internal
