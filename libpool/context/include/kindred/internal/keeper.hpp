#pragma once

#include <span>

namespace kindred::internal {

/// Gives the calling thread a table of descriptors of its own, with those in `kept` (rising numbers) alone.
/// False: the kernel refuses it (close_range with CLOSE_RANGE_UNSHARE, Linux 5.9), and nothing changed.
bool take_own_descriptors(std::span<const int> kept) noexcept;

/// Starts a thread that holds the descriptors in `kept` (rising numbers) in a table of its own, for as long
/// as the process lives, and does nothing else. What a task does to descriptors, it does in the table that
/// all other threads share: so it can neither close the kept ones nor change their flags once this process
/// has closed its own copies.
///
/// Returns whether the thread has its own table: not where the kernel refuses it, or no thread can be
/// started. Threads: the process's only one. Fork: a child has the table of the thread that forked it, and so
/// none of the kept.
bool keep_descriptors(std::span<const int> kept) noexcept;

/// Call in a worker of `spawn`, once its tasks cannot reach the lifeline. From here on the end of the process
/// that started it kills the worker's whole group: the kernel sends SIGRTMAX, whose handler does it. SIGKILL
/// would end the worker alone, and what its tasks had forked would stay behind. A program that a task
/// executes in the worker's place has no such handler, and the signal ends it.
void end_group_with_starter() noexcept;

}  // namespace kindred::internal
