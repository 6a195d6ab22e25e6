#include "child/cpu_manners.hpp"

#include <algorithm>

#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

// The kernel packs a parent and a worker that wait for each other on one core, and leaves them there as long
// as both yield. After this many yields to the parent without a sleep between, the worker goes to another
// core; not more often than `moves_nanoseconds`. Where it comes to that again and again, the time doubles.
constexpr unsigned max_yields_to_parent = 64;
constexpr double parent_wakes_nanoseconds = 50'000;
constexpr double short_task_nanoseconds = 50'000;
constexpr double moves_nanoseconds = 1'000'000;
constexpr double max_moves_nanoseconds = 100'000'000;

std::uint64_t ticks_of(double nanoseconds) {
  return static_cast<std::uint64_t>(nanoseconds * ticks_per_nanosecond());
}

}  // namespace

void CpuManners::tell_cpu() noexcept {
  header_.cpu.store(static_cast<std::uint32_t>(current_cpu()) + 1, std::memory_order_relaxed);
}

bool CpuManners::shares_core() const noexcept {
  return header_.parent_cpu.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(current_cpu()) + 1;
}

void CpuManners::note_woken() noexcept {
  tell_cpu();
  shares_core_ = shares_core();
}

bool CpuManners::yield_once_to_waker() noexcept {
  return !std::exchange(shares_core_, false) || try_yield(yield_) || !shares_core() ||
         waits_for_rung_parent();
}

// A parent that was just rung may be on its way to another core, and say so soon; or it is queued behind the
// worker, and gets the core only where that sleeps. Which of the two it is seldom changes.
bool CpuManners::waits_for_rung_parent() noexcept {
  if (!rang_parent_just_now()) return false;
  if (!awaited_parent_) awaited_parent_ = waiting_for_parent_.take();
  return awaited_parent_;
}

bool CpuManners::rang_parent_just_now() const noexcept {
  return ticks() - rang_parent_at_ < ticks_of(parent_wakes_nanoseconds);
}

bool CpuManners::yield_while_spinning() noexcept {
  bool may_go_on = true;
  if (shares_core())
    may_go_on = yield_to_parent();
  else if (rang_parent_just_now())
    yield_();
  tell_cpu();
  return may_go_on;
}

// Or goes to another core, where it has yielded often and not slept. False: it should sleep.
bool CpuManners::yield_to_parent() noexcept {
  if (!try_yield(yield_)) return waits_for_rung_parent();
  if (++yields_to_parent_ < max_yields_to_parent) return true;
  yields_to_parent_ = 0;
  if (shares_core()) move_apart(ticks());
  return true;
}

void CpuManners::tell_cpu_and_move(std::uint64_t now) noexcept {
  told_at_ = now;
  tell_cpu();
  const auto cpu = header_.cpu.load(std::memory_order_relaxed);
  if (header_.crowded_cpu.load(std::memory_order_relaxed) != cpu) return;
  header_.crowded_cpu.store(0, std::memory_order_relaxed);
  move_apart(now);
}

bool CpuManners::Moves::allow(std::uint64_t now) noexcept {
  if (now - last < pause) return false;
  pause = now - last < 2 * pause ? std::min(2 * pause, ticks_of(max_moves_nanoseconds))
                                 : ticks_of(moves_nanoseconds);
  last = now;
  return true;
}

void CpuManners::move_apart(std::uint64_t now) noexcept {
  if (!apart_.allow(now)) return;
  (void)leave_cpu(current_cpu());
  tell_cpu();
}

// A parent and a worker that wake each other on one core are let in by the kernel at once, and it moves the
// other programs away from there. On two cores each of them would wait for an interrupt from the other core
// at each wake-up, and now and then for the end of another program's turn.
void CpuManners::note_sleep() noexcept {
  yields_to_parent_ = 0;
  if (std::exchange(awaited_parent_, false)) waiting_for_parent_.was_of_no_use();
  const auto now = ticks();
  if (spin_permit_.holds(now) || rang_parent_at_ < begun_at_ ||
      now - begun_at_ > ticks_of(short_task_nanoseconds) || shares_core() || !together_.allow(now))
    return;
  (void)go_to_cpu(static_cast<int>(header_.parent_cpu.load(std::memory_order_relaxed)) - 1);
  tell_cpu();
}

}  // namespace kindred::internal
