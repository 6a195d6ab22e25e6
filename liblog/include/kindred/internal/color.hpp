#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kindred/log_record.hpp"
#include "kindred/sink_options.hpp"

namespace kindred::internal {

/// Returns the terminal's sequence (ECMA-48, SGR) for words such as "bold bright red on blue". Errors:
/// `UsageError` that quotes an unknown word and lists those that it knows.
[[nodiscard]] std::string color_sequence(std::string_view words);
inline constexpr std::string_view color_reset = "\x1b[0m";

/// Should a sink that writes to descriptor `fd` (-1: no terminal in any case) colour? `automatic` asks
/// NO_COLOR, then FORCE_COLOR, then whether it is a terminal other than "dumb".
[[nodiscard]] bool use_color(Color wish, int fd);

/// The colour of each level, by name: as changed here, as the custom level was defined, or spdlog's. One
/// thread at a time.
class LevelColors {
 public:
  LevelColors();
  /// Errors: `UsageError` as `color_sequence`.
  explicit LevelColors(const std::vector<std::pair<std::string, std::string>>& changes);
  [[nodiscard]] std::string_view of(const LogRecord& record);

 private:
  std::array<std::string, 7> levels_;
  std::vector<std::pair<std::string, std::string>> named_;
};

}  // namespace kindred::internal
