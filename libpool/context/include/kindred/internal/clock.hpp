#pragma once

#include <chrono>
#include <cstdint>

namespace kindred::internal {

/// The cheapest clock that all processes of the machine share: the TSC on x86-64, CNTVCT_EL0 on arm64.
[[nodiscard]] inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
  return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  std::uint64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
#else
#error "kindred supports x86-64 and arm64"
#endif
}

/// Ticks a nanosecond. Measured once in a process, unless it was told, which takes what is missing to 2 ms
/// since the program was loaded (all of it later than a second after that); inherited by fork.
[[nodiscard]] double ticks_per_nanosecond() noexcept;
/// Which of two rates is used: `told` by the processor's register (exact, but set by firmware, which has been
/// wrong), unless it is more than 1 % off what was `measured`.
[[nodiscard]] double believed_tick_rate(double told, double measured) noexcept;
/// Another process of this machine has measured it.
void tell_ticks_per_nanosecond(double rate) noexcept;

/// Translates ticks to wall-clock time. Re-anchored by `refresh()`, so that a clock step is followed for
/// later records and never reorders: order is always by ticks. One thread at a time.
class TickTranslator {
 public:
  TickTranslator() noexcept { refresh(); }
  void refresh() noexcept;
  [[nodiscard]] std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> to_system(
      std::uint64_t tick) const noexcept {
    const auto delta =
        static_cast<double>(static_cast<std::int64_t>(tick - base_ticks_)) * nanoseconds_per_tick_;
    return base_time_ + std::chrono::nanoseconds{static_cast<std::int64_t>(delta)};
  }

 private:
  std::uint64_t base_ticks_ = 0;
  std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> base_time_{};
  double nanoseconds_per_tick_ = 1.0;
};

/// One polite step of a spin loop: some 10 to 50 ns on either processor, so that loops which count their
/// steps spin for about the same time. On arm64 that is `isb`; `yield` does nothing on most cores.
inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace kindred::internal
