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
/// Returns whether the thread has its own table: not where the kernel refuses it, or no thread is to be had.
/// Threads: the process's only one. Fork: a child has the table of the thread that forked it, and so none of
/// the kept.
bool keep_descriptors(std::span<const int> kept) noexcept;

}  // namespace kindred::internal
