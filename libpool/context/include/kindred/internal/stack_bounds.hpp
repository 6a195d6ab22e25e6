#pragma once

namespace kindred::internal {

/// Does the address lie on the calling thread's stack? (Not where a library runs this code on a stack of its
/// own.) The first call of a thread asks the system.
[[nodiscard]] bool is_on_this_stack(const void* address) noexcept;

}  // namespace kindred::internal
