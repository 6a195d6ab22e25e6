#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kindred::tools {

/// Which pools a program shows: all of this user, those of a process, or one of them.
struct PoolChoice {
  std::optional<std::uint32_t> pid{};  ///< nothing: all
  std::string serial{};                ///< empty: all pools of the process
};

/// "4711" or "4711/2". Errors: `Stop`.
[[nodiscard]] PoolChoice pool_choice(std::string_view word);
/// The message that says why no pool was found.
[[nodiscard]] std::string words_for_no_pool(const PoolChoice& choice);

}  // namespace kindred::tools
