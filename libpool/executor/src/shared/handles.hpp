#pragma once

#include <cstdint>

#include "kindred/internal/byte_stream.hpp"

namespace kindred::internal {

/// Is a `NoHandlesScope` open on this thread? Then what is encoded is an element of a channel.
[[nodiscard]] bool handles_are_refused() noexcept;
[[noreturn]] void throw_refused_in_channel(const char* what);

/// Of a message: this handle came without its memory, because the reader has it.
inline constexpr std::uint32_t no_attachment = 0xffff'ffff;

}  // namespace kindred::internal
