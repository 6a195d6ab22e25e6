#include "kindred/internal/shared_bell.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/internal/futex.hpp"

namespace kindred::internal {
namespace {

long wake_one(const std::atomic<std::uint32_t>& word) noexcept {
  return ::syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

}  // namespace

SharedBell::SharedBell()
    : memory_{SharedMemory::create("kindred-bell", sizeof(std::uint32_t))},
      listener_{std::make_unique<Listener>()} {
  memory_.keep_out_of_forks();
}

SharedBell::SharedBell(Descriptor memory) {
  if (!memory) return;
  memory_ = SharedMemory::adopt(std::move(memory), sizeof(std::uint32_t));
  memory_.close_descriptor();
  memory_.keep_out_of_forks();
}

void SharedBell::ring() const noexcept {
  if (!usable()) return;
  if (!listener_) {
    word().fetch_add(1, std::memory_order_release);
    wake_one(word());
    return;
  }
  // The first ringer that sets it wakes the listener; the news of the other ringers is found by the same
  // look.
  if (listener_->rung.exchange(1, std::memory_order_seq_cst) != 0) return;
  // Order: `rung` before the look at `sleeps`; the listener stores `sleeps` before it looks at `rung`. A
  // listener that said that it sleeps and is not asleep yet is kept from it by the new word, unless a task
  // writes the old one back at this moment: then it is tried again.
  constexpr int tries = 8;
  for (int i = 0; i < tries && listener_->sleeps.load(std::memory_order_seq_cst) != 0 &&
                  listener_->rung.load(std::memory_order_relaxed) != 0;
       ++i) {
    word().fetch_add(1, std::memory_order_release);
    if (wake_one(word()) != 0) return;
    ::sched_yield();
  }
}

bool SharedBell::clear() const noexcept {
  if (!usable() || !listener_) return false;
  const bool ours = listener_->rung.load(std::memory_order_relaxed) != 0 &&
                    listener_->rung.exchange(0, std::memory_order_acquire) != 0;
  const std::uint32_t now = word().load(std::memory_order_acquire);
  return listener_->heard.exchange(now, std::memory_order_relaxed) != now || ours;
}

bool SharedBell::wait(Deadline deadline) const noexcept {
  if (!usable() || !listener_) return false;
  for (;;) {
    if (clear()) return true;
    if (deadline && std::chrono::steady_clock::now() >= *deadline) return false;
    listener_->sleeps.store(1, std::memory_order_seq_cst);
    if (listener_->rung.load(std::memory_order_seq_cst) == 0)
      futex_wait(word(), listener_->heard.load(std::memory_order_relaxed), deadline);
    listener_->sleeps.store(0, std::memory_order_relaxed);
  }
}

}  // namespace kindred::internal
