#pragma once

#include <cstdint>
#include <utility>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/segment.hpp"
#include "spin_permit.hpp"
#include "trial.hpp"
#include "try_yield.hpp"

namespace kindred::internal {

/// On which core the worker runs, and when it leaves it to others: to the parent, which may wait there for a
/// result, or to another worker.
class CpuManners {
 public:
  /// `yield`: lets other threads have the core, if the kernel agrees.
  explicit CpuManners(SegmentHeader& header, void (*yield)() noexcept = yield_cpu) noexcept
      : header_{header}, yield_{yield} {}

  /// A task begins. Tells the parent where the worker runs; a worker that is busy does so every 100 us, and
  /// leaves the core where the parent finds it crowded.
  void note_begin(std::uint64_t now) noexcept {
    begun_at_ = now;
    if (awaited_parent_) [[unlikely]]
      note_parent_came();
    if (now - told_at_ > is_old_after_) [[unlikely]]
      tell_cpu_and_move(now);
  }
  void tell_cpu() noexcept;
  /// The parent's thread was rung: it may be queued behind the worker on this core.
  void note_parent_rung() noexcept {
    rang_parent_at_ = ticks();
    shares_core_ = true;
  }
  /// The worker was woken, on whichever core the kernel chose.
  void note_woken() noexcept;
  /// Before it spins: woken on the core of the thread that woke it, which now waits there for what the worker
  /// has done. False: the kernel does not let that thread in as long as the worker runs, so it should sleep.
  [[nodiscard]] bool yield_once_to_waker() noexcept;
  /// While it spins: the parent may be queued behind the worker on this core. Any other thread there gets it
  /// by the kernel's rules: a long task would not give it back soon. False: as above.
  [[nodiscard]] bool yield_while_spinning() noexcept;
  /// May the worker spin now? No, for a while after a spin in which another program had the core.
  [[nodiscard]] bool may_spin(std::uint64_t now) const noexcept { return spin_permit_.holds(now); }
  /// One step of a spin. Returns whether the worker may go on.
  bool note_step(std::uint64_t before, std::uint64_t after) noexcept {
    return spin_permit_.note_step(before, after);
  }
  /// The worker is about to sleep. While other programs want the cores, it first goes to the one where the
  /// parent waits for its short tasks.
  void note_sleep() noexcept;

 private:
  /// How often the worker goes to another core for one reason. In ticks.
  struct Moves {
    std::uint64_t last = 0;
    std::uint64_t pause = 0;
    [[nodiscard]] bool allow(std::uint64_t now) noexcept;
  };
  [[nodiscard]] bool shares_core() const noexcept;  // with the parent, as far as it has said
  [[nodiscard]] bool yield_to_parent() noexcept;
  [[nodiscard]] bool waits_for_rung_parent() noexcept;
  [[nodiscard]] bool rang_parent_just_now() const noexcept;
  void note_parent_came() noexcept {
    awaited_parent_ = false;
    waiting_for_parent_.was_of_use();
  }
  void tell_cpu_and_move(std::uint64_t now) noexcept;
  void move_apart(std::uint64_t now) noexcept;

  SegmentHeader& header_;
  void (*const yield_)() noexcept;
  SpinPermit spin_permit_;
  Trial waiting_for_parent_;          // that was rung, and that no yield lets in
  bool awaited_parent_ = false;       // since the last task
  bool shares_core_ = false;          // woken on its waker's core, or has rung the parent; not yielded since
  std::uint64_t begun_at_ = 0;        // ticks, the last task
  std::uint64_t rang_parent_at_ = 0;  // ticks
  unsigned yields_to_parent_ = 0;     // since it slept, or moved
  std::uint64_t told_at_ = 0;         // ticks
  const std::uint64_t is_old_after_ = static_cast<std::uint64_t>(100'000 * ticks_per_nanosecond());
  Moves apart_;     // away from a core that is crowded
  Moves together_;  // to the parent's
};

}  // namespace kindred::internal
