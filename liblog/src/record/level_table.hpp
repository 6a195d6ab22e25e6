#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kindred/level.hpp"

namespace kindred::internal {

/// What is logged: by default, and for loggers at or below a name (`logger_is_below`).
struct LevelSettings {
  Level level = Level::info;
  std::vector<std::pair<std::string, Level>> named;

  bool set(std::string_view name, Level wanted);  ///< returns whether the name was there
  [[nodiscard]] Level level_of(std::string_view logger) const noexcept { return level_of(logger, level); }
  [[nodiscard]] Level level_of(std::string_view logger, Level otherwise) const noexcept;
};

/// Reads "info,net=debug". Errors: `UsageError` that names the variable.
[[nodiscard]] LevelSettings parse_level_settings(const char* variable, std::string_view text);
/// The name of a custom level; empty for the seven.
[[nodiscard]] std::string_view custom_name(LevelCode level) noexcept;

}  // namespace kindred::internal
