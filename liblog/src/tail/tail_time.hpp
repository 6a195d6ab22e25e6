#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kindred::internal {

/// Reads a moment as `kindred-tail --since` takes it, and returns it in nanoseconds of the Unix epoch. Local
/// time where no zone is given; `now` is in the same unit. Nothing where the text is no moment.
///
///     "10 min", "-10min", "10 min ago"        this long before now
///     "14:03", "14:03:11"                     today
///     "2026-11-28", "2026-11-28 14:03:11.5", "2026-11-28T14:03:11+02:00"
///     "now", "today", "yesterday", "@1795874591"
[[nodiscard]] std::optional<std::int64_t> parse_moment(std::string_view text, std::int64_t now);

}  // namespace kindred::internal
