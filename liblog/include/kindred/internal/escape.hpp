#pragma once

#include <string>
#include <string_view>

#include "kindred/internal/text_buffer.hpp"

namespace kindred::internal {

/// How hostile text is shown, so that one record is one line, nothing in it acts on a terminal, and the bytes
/// can be had back exactly:
///
/// | in the text | shown as |
/// | --- | --- |
/// | backslash | `\\` |
/// | newline, carriage return, tab | `\n`, `\r`, `\t` |
/// | any other control byte (NUL, ESC, DEL ...) | `\x00`, `\x1b`, `\x7f` |
/// | a byte that is not UTF-8 | `\xff` |
/// | C1 controls, U+2028, U+2029, U+FEFF, U+FFF9-FFFB | `\u0085`, `\ufeff` |
/// | direction (U+061C, U+200E, U+200F, U+202A-202E, U+2066-2069) | `\u202e` |
/// | in quotes: `"`; in the fields of a line: `{` | `\"`, `\x7b` |
///
/// `\xNN` with NN of 80 and above is a byte, `\uNNNN` a character: the two are never confused.
enum class EscapeIn : unsigned char { message, quotes, field_quotes };

/// Appends `text` escaped. Costs about a copy where there is nothing to escape.
void append_escaped(TextBuffer& out, std::string_view text, EscapeIn where = EscapeIn::message);
/// Appends the inside of a JSON string: as RFC 8259 has it, with the characters of the table above as
/// `\uNNNN`. Bytes that are not UTF-8 become U+FFFD. Returns false where there were any.
bool append_json_escaped(TextBuffer& out, std::string_view text);
/// Appends the name of something: bare where it is of letters, digits and `_-.:/+@$~*,%&`, else in quotes and
/// escaped. Nothing for an empty one.
void append_token(TextBuffer& out, std::string_view name, EscapeIn quotes = EscapeIn::quotes);

/// Would `append_escaped` change it?
[[nodiscard]] bool needs_escape(std::string_view text) noexcept;
/// May the character stand in a bare name? (Bytes of UTF-8 may.)
[[nodiscard]] bool is_token_char(char c) noexcept;
/// The inverse of `append_escaped`: appends to `out`; false where `text` is nothing that it can have written.
[[nodiscard]] bool append_unescaped(std::string& out, std::string_view text);

}  // namespace kindred::internal
