#pragma once

#include <optional>
#include <string>
#include <vector>

#include "pool_set.hpp"

namespace kindred::view {

/// Ends the program with words on stderr; empty words: nothing is said.
struct Stop {
  int code = 0;
  std::string words;
};
inline constexpr int exit_well = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

/// The command line, from left to right.
class Arguments {
 public:
  explicit Arguments(std::vector<std::string> words) : words_{std::move(words)} {}
  /// The next word; nothing at the end. `--name=value` counts as two.
  [[nodiscard]] std::optional<std::string> next();
  /// The value of the option that was just read. Errors: `Stop`.
  [[nodiscard]] std::string value_of(const std::string& option);

 private:
  std::vector<std::string> words_;
  std::size_t at_ = 0;
};

/// "4711" or "4711/2". Errors: `Stop`.
[[nodiscard]] Choice choice_of(const std::string& word);
/// Why there is none, for the person who asked.
[[nodiscard]] std::string words_for_no_pool(const Choice& choice);

}  // namespace kindred::view
