#pragma once

namespace kindred::internal {

/// Does the address lie on the stack that the system gave the calling thread? A stack that a library made for
/// a coroutine, say, is not known. The first call of each thread asks the system; later ones do not.
[[nodiscard]] bool is_on_this_stack(const void* address) noexcept;

}  // namespace kindred::internal
