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
/// Returns where such a stack begins, as part of a sentence: its first frame, and the program's first frame
/// if that is another one: "memcpy in /lib/libc.so.6, called by parse".
[[nodiscard]] std::string first_of_program(std::string_view stack);

}  // namespace kindred::internal
