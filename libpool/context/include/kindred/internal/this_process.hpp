#pragma once

#include <cstdint>

namespace kindred::internal {

/// Has `fork` made this process another one since the library was loaded? Cheap: a counter that an atfork
/// handler raises.
[[nodiscard]] std::uint32_t fork_generation() noexcept;
/// Has `callback` called in the child of each fork that raises the generation, after it was raised. For state
/// that must not be used in the child; it may only store to memory. At most eight; call it once, from a
/// static initialiser.
void call_in_forked_child(void (*callback)() noexcept) noexcept;
[[nodiscard]] std::uint32_t process_id() noexcept;  ///< getpid, cached per fork generation
[[nodiscard]] std::uint32_t thread_id() noexcept;   ///< gettid, cached per thread and fork generation

}  // namespace kindred::internal
