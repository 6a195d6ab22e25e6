#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// A pipe for what a process writes to stdout or stderr: read end (never blocks), write end. Errors:
/// `SystemError`.
[[nodiscard]] std::pair<Descriptor, Descriptor> make_capture_pipe();
/// Appends what there is, without waiting, and no more than `most` bytes; false: nothing was there. The flags
/// of the descriptor belong to all copies of it, also those that tasks have, so nothing rests on them.
bool read_available(int fd, std::string& text, std::size_t most);
/// Names the pipe behind a descriptor, among all pipes; 0: there is none.
[[nodiscard]] std::uint64_t pipe_identity(int fd) noexcept;
/// Appends a copy of what there is, at most as much as a pipe holds; it stays where it is. `by_way_of` is an
/// empty pipe. Returns the number of bytes.
std::size_t copy_available(int fd, const std::pair<Descriptor, Descriptor>& by_way_of, std::string& text);
/// Takes out what is known to be there, in one call: some bytes for each of the two, and a last one.
void take_out(int fd, std::span<char> first, std::span<char> second, char& last) noexcept;
/// Waits until one of the two is readable. Returns false where both are closed.
bool wait_for_output(int first, int second) noexcept;

}  // namespace kindred::internal
