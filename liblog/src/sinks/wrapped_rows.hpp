#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// The line, broken at spaces into rows of at most `columns`, which a longer word exceeds; the rows after the
/// first are indented. Colours take no column. No newline at the end.
[[nodiscard]] std::string wrapped_rows(std::string_view line, std::size_t columns);
/// Breaks what stands in the buffer from `begin` on into rows of the terminal `fd`; of 80 columns where the
/// terminal does not say how many it has.
void wrap_for_terminal(TextBuffer& buffer, std::size_t begin, int fd);

/// The stack of a crash that the pool tells of; null for any other record.
[[nodiscard]] const std::string* crash_stack(const LogRecord& record) noexcept;
/// A copy whose line does not have the stack.
[[nodiscard]] LogRecord without_stack(const LogRecord& record);
/// A row for each frame, each behind a newline.
void append_frames(TextBuffer& buffer, std::string_view stack);

}  // namespace kindred::internal
