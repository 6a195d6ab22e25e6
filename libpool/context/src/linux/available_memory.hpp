#pragma once

#include <cstdint>

namespace kindred::internal {

/// Returns how many bytes can still be had before the kernel begins to kill: what the machine has free or can
/// free, swap included, and what the memory limits of this process's cgroups (v2 and v1) leave. The largest
/// number where it is not known. Takes some 100 us.
[[nodiscard]] std::uint64_t available_memory();
/// How many there would be if nothing were in use.
[[nodiscard]] std::uint64_t memory_in_all();

}  // namespace kindred::internal
