#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kindred/internal/log_front.hpp"

namespace kindred::internal {

/// A place in the code that logs, wherever its description came from: a `std::source_location`, or spdlog's
/// own.
struct Place {
  const void* address;  ///< with `format_address`, what distinguishes it from others
  const char* format_address;
  std::string_view format;
  std::string_view file;
  std::string_view function;
  std::uint32_t line;
};
[[nodiscard]] inline Place place_of(const CallSite& site) noexcept {
  return {site.address(),         site.format.data(),         site.format,
          site.where.file_name(), site.where.function_name(), static_cast<std::uint32_t>(site.where.line())};
}

/// Logs a text that is made already. `tid`: of the thread that it is logged for; 0: this one.
void write_message_at(const LogTarget& target, LevelCode level, const Place& place, std::string_view text,
                      std::span<const Field> fields, std::uint32_t tid) noexcept;

}  // namespace kindred::internal
