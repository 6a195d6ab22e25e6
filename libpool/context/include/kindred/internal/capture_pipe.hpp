#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "kindred/internal/wakeup.hpp"

namespace kindred::internal {

/// A pipe for what a process writes to stdout or stderr: read end (never blocks), write end. Errors: `SystemError`.
[[nodiscard]] std::pair<Descriptor, Descriptor> make_capture_pipe();
/// Appends what there is, without waiting; false: nothing was there.
bool read_available(int fd, std::string& text);
/// How many bytes lie in the pipe.
[[nodiscard]] std::size_t bytes_in_pipe(int fd) noexcept;
/// Waits until one of the two is readable. Returns false where both are closed.
bool wait_for_output(int first, int second) noexcept;

}  // namespace kindred::internal
