#include "kindred/internal/color.hpp"

#include <algorithm>
#include <cstdlib>

#include "kindred/error.hpp"
#include "kindred/internal/files.hpp"

namespace kindred::internal {
namespace {

constexpr std::array<std::string_view, 8> color_names{"black", "red",     "green", "yellow",
                                                      "blue",  "magenta", "cyan",  "white"};

bool is_set(const char* variable) {
  const char* const value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

}  // namespace

std::string color_sequence(std::string_view words) {
  std::string codes;
  const auto add = [&](std::size_t code) { codes += (codes.empty() ? "" : ";") + std::to_string(code); };
  bool bright = false;
  bool background = false;
  std::string_view rest = words;
  while (!rest.empty()) {
    const auto space = rest.find(' ');
    const std::string_view word = rest.substr(0, space);
    rest = space == std::string_view::npos ? std::string_view{} : rest.substr(space + 1);
    if (word.empty()) continue;
    const auto* const found = std::ranges::find(color_names, word);
    if (found != color_names.end()) {
      add(static_cast<std::size_t>(found - color_names.begin()) + (bright ? 90U : 30U) +
          (background ? 10U : 0U));
      bright = background = false;
    } else if (word == "bright") {
      bright = true;
    } else if (word == "on") {
      background = true;
    } else if (word == "bold") {
      add(1);
    } else if (word == "dim") {
      add(2);
    } else if (word == "underline") {
      add(4);
    } else if (word == "reverse") {
      add(7);
    } else {
      throw UsageError{
          "'" + std::string{word} + "' in the colour '" + std::string{words} +
          "' is no word for one. There are black, red, green, yellow, blue, magenta, cyan, white, 'bright' before "
          "them, 'on' before a background, and bold, dim, underline, reverse: \"bold white on red\"."};
    }
  }
  return codes.empty() ? std::string{} : "\x1b[" + codes + "m";
}

bool use_color(Color wish, int fd) {
  if (wish != Color::automatic || fd < 0) return wish == Color::always;
  if (is_set("NO_COLOR")) return false;
  if (is_set("FORCE_COLOR")) return true;
  const char* const terminal = std::getenv("TERM");
  return is_terminal(fd) && terminal != nullptr && std::string_view{terminal} != "dumb";
}

LevelColors::LevelColors()
    : levels_{color_sequence("white"),
              color_sequence("cyan"),
              color_sequence("green"),
              color_sequence("bold yellow"),
              color_sequence("bold red"),
              color_sequence("bold white on red"),
              ""} {}

LevelColors::LevelColors(const std::vector<std::pair<std::string, std::string>>& changes) : LevelColors{} {
  for (const auto& [name, words] : changes) {
    std::string sequence = color_sequence(words);
    bool standard = false;
    for (std::size_t level = 0; level < levels_.size(); ++level) {
      if (to_string(static_cast<Level>(level)) != name) continue;
      levels_[level] = sequence;
      standard = true;
    }
    if (!standard) named_.emplace_back(name, std::move(sequence));
  }
}

std::string_view LevelColors::of(const LogRecord& record) {
  const auto level = static_cast<std::size_t>(record.level);
  const std::string_view standard =
      level < levels_.size() ? std::string_view{levels_[level]} : std::string_view{};
  if (record.level_name.empty()) return standard;
  for (const auto& [name, sequence] : named_)
    if (name == record.level_name) return sequence;
  const auto custom = find_level(record.level_name);
  if (!custom || custom->color().empty()) return standard;
  std::string sequence{standard};
  try {
    sequence = color_sequence(custom->color());
  } catch (const UsageError&) {  // no colour that we know: no reason to lose the record
  }
  return named_.emplace_back(record.level_name, std::move(sequence)).second;
}

}  // namespace kindred::internal
