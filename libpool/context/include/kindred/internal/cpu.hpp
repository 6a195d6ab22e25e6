#pragma once

#include <cstdint>

namespace kindred::internal {

[[nodiscard]] int current_cpu() noexcept;  ///< sched_getcpu
void yield_cpu() noexcept;                 ///< sched_yield
/// Lets the calling thread, or another process of one thread, go on on another CPU than this one, of those
/// that it may use; which those are stays as it was. False: there is none.
bool leave_cpu(int cpu, std::uint32_t process = 0) noexcept;
/// Lets the calling thread go on on this CPU; which ones it may use stays as it was. False: this is none of
/// them.
bool go_to_cpu(int cpu) noexcept;

}  // namespace kindred::internal
