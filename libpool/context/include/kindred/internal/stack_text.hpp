#pragma once

#include <span>
#include <string>
#include <string_view>

#include "kindred/internal/code_reference.hpp"

namespace kindred::internal {

/// A stack for people, a line a frame, up to where the task was called: "parse in /usr/lib/libfilters.so".
/// Frames that only lead to the program's code (std::invoke, kindred's own, the system's start of a thread)
/// are left out. Another process has written it: all is checked.
[[nodiscard]] std::string name_frames(std::span<const CodeReference> frames, const CodeBook& code);
/// Where such a stack begins, for a sentence: its first frame, and the first of the program where that is
/// another: "memcpy in /lib/libc.so.6, called by parse".
[[nodiscard]] std::string first_of_program(std::string_view stack);

}  // namespace kindred::internal
