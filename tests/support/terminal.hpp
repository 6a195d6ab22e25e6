#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kindred::test {

/// Runs a program on a terminal of its own (a pty) and returns all that it wrote there. Errors:
/// std::runtime_error where it does not end with 0, or not within a minute.
[[nodiscard]] std::string run_on_terminal(const std::vector<std::string>& command, unsigned columns,
                                          const std::vector<std::string>& environment = {"TERM=xterm"});

/// What a person sees: the rows of a terminal of that width after `written` came, empty ones at the end left
/// out. Knows carriage return, newline, wrapping, colours (left out) and "erase to the end of the row".
[[nodiscard]] std::vector<std::string> rows_on_screen(std::string_view written, std::size_t columns);

}  // namespace kindred::test
