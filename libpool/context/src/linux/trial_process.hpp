#pragma once

namespace kindred::internal {

/// Runs `work` in a process that shares this one's memory, and waits for its end. `work` must not allocate
/// memory. `namespaces`: CLONE_NEW* flags, or 0. Returns 0, or the errno of clone.
[[nodiscard]] int run_in_trial_process(int (*work)(void*), void* argument, int namespaces);

}  // namespace kindred::internal
