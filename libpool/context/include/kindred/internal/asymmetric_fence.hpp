#pragma once

namespace kindred::internal {

/// Makes the light side of an asymmetric fence work: after `heavy_barrier()` every thread of every registered
/// process has passed a full barrier (membarrier GLOBAL_EXPEDITED). The light side is then a compiler
/// barrier. `register_light_side()` is called once per process (again after fork); false: the kernel refuses,
/// use a full fence instead. `heavy_barrier()` is a full fence of the calling thread in any case; false: and
/// of no other, because the kernel refuses it to this process.
bool register_light_side() noexcept;
bool heavy_barrier() noexcept;

}  // namespace kindred::internal
