#include "kindred/internal/cpu.hpp"

#include <sched.h>

namespace kindred::internal {

int current_cpu() noexcept { return ::sched_getcpu(); }
void yield_cpu() noexcept { ::sched_yield(); }

bool leave_cpu(int cpu, std::uint32_t process) noexcept {
  const auto pid = static_cast<pid_t>(process);
  cpu_set_t usable;
  if (cpu < 0 || cpu >= CPU_SETSIZE || ::sched_getaffinity(pid, sizeof usable, &usable) != 0) return false;
  cpu_set_t others = usable;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || ::sched_setaffinity(pid, sizeof others, &others) != 0) return false;
  return ::sched_setaffinity(pid, sizeof usable, &usable) == 0;
}

bool go_to_cpu(int cpu) noexcept {
  cpu_set_t usable;
  if (cpu < 0 || cpu >= CPU_SETSIZE || ::sched_getaffinity(0, sizeof usable, &usable) != 0) return false;
  if (!CPU_ISSET(cpu, &usable)) return false;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  if (::sched_setaffinity(0, sizeof one, &one) != 0) return false;
  return ::sched_setaffinity(0, sizeof usable, &usable) == 0;
}

}  // namespace kindred::internal
