#pragma once

#include <string_view>

namespace kindred {

/// spdlog's seven levels, with its numbers.
enum class Level : unsigned char { trace = 0, debug = 1, info = 2, warn = 3, error = 4, critical = 5, off = 6 };

/// Returns "trace" ... "off": a string that lives for ever.
[[nodiscard]] std::string_view to_string(Level level) noexcept;

/// Reads a name as `to_string` gives it, in any case; also "warning" and "err". Errors: `UsageError` that lists the names.
[[nodiscard]] Level parse_level(std::string_view text);

}  // namespace kindred
