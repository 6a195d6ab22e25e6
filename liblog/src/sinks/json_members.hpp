#pragma once

#include <cstddef>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

// What the objects of all JSON sinks have in common, whatever their keys.

/// Appends a JSON string, with its quotes. Returns false where it has bytes that are not UTF-8, which JSON
/// cannot carry.
bool append_json_string(TextBuffer& out, std::string_view text);
/// Appends a field's value; numbers that JSON cannot express ("NaN", "Infinity") as strings. Returns false
/// where what was appended is not exactly the value.
bool append_json_value(TextBuffer& out, const FieldValue& value);
/// Does a later field of the same key hide this one?
[[nodiscard]] bool is_hidden(const std::vector<Field>& fields, std::size_t index) noexcept;
/// Appends `"worker":0,"incarnation":1`; null for the parent.
void append_json_worker(TextBuffer& out, const LogRecord& record);
/// Returns "2026-07-26T14:03:11".
[[nodiscard]] std::string date_time_text(const std::tm& time);

}  // namespace kindred::internal
