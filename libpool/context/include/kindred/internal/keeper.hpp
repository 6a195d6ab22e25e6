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

/// Of a worker whose starter's end kills it (`spawn`), once the lifeline is kept from its tasks: from here on
/// that end kills the whole group, by a handler of SIGRTMAX. SIGKILL would end this process alone, and where
/// it was gone before the lifeline closed, what its tasks had forked stayed behind. A program that a task
/// executes in this process's place has no handler, and ends by the signal.
void end_group_with_starter() noexcept;

}  // namespace kindred::internal
