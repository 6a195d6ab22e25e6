#include "kindred/level.hpp"

#include <array>
#include <atomic>
#include <mutex>
#include <string>

#include "front/small_lock.hpp"
#include "kindred/error.hpp"
#include "kindred/log_record.hpp"
#include "kindred/sink_options.hpp"
#include "record/level_table.hpp"

namespace kindred {
namespace {

constexpr std::array<std::string_view, 7> level_names{"trace", "debug",    "info", "warn",
                                                      "error", "critical", "off"};

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_word(std::string_view text, std::string_view word) noexcept {
  if (text.size() != word.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (lower(text[i]) != word[i]) return false;
  }
  return true;
}

std::optional<Level> find_standard(std::string_view text) noexcept {
  for (std::size_t i = 0; i < level_names.size(); ++i) {
    if (same_word(text, level_names[i])) return static_cast<Level>(i);
  }
  if (same_word(text, "warning")) return Level::warn;
  if (same_word(text, "err")) return Level::error;
  return std::nullopt;
}

struct Definition {
  std::string name;
  std::string color;
  int number = 0;
  Level base = Level::info;
};

// Appended while the lock is held, read without it: an entry below `count` never changes. Never destroyed,
// because static destructors log.
struct Definitions {
  internal::SmallLock lock;
  std::atomic<std::uint32_t> count{0};
  std::array<Definition, 200> entries;
};
Definitions& definitions() noexcept {
  static auto* const all = new Definitions;  // first call: a static initialiser or main
  return *all;
}

Level base_of(int number) noexcept {
  if (number >= 50) return Level::critical;
  if (number >= 40) return Level::error;
  if (number >= 30) return Level::warn;
  if (number >= 20) return Level::info;
  if (number >= 10) return Level::debug;
  return Level::trace;
}

}  // namespace

std::string_view to_string(Level level) noexcept {
  const auto index = static_cast<std::size_t>(level);
  return index < level_names.size() ? level_names[index] : std::string_view{"unknown"};
}

Level parse_level(std::string_view text) {
  if (const auto level = find_standard(text)) return *level;
  throw UsageError{"'" + std::string{text} +
                   "' is no level. The levels are trace, debug, info, warn, error, critical and off."};
}

std::string_view to_string(Origin origin) noexcept {
  switch (origin) {
    case Origin::log: return "log";
    case Origin::stdout: return "stdout";
    case Origin::stderr: return "stderr";
    case Origin::lifecycle: return "lifecycle";
    case Origin::crash: return "crash";
  }
  return "unknown";
}

CustomLevel define_level(std::string_view name, int number, std::string_view color) {
  if (name.empty()) throw UsageError{"a level needs a name. Give define_level one that is not empty."};
  if (find_standard(name))
    throw UsageError{"the level '" + std::string{name} +
                     "' exists already, as one of the seven. Choose another name."};
  if (number < 0 || number > 59) {
    throw UsageError{
        "the level '" + std::string{name} + "' was given the number " + std::to_string(number) +
        ". The scale goes from 0 to 59: trace 5, debug 10, info 20, warn 30, error 40, critical 50."};
  }
  Definitions& all = definitions();
  const std::lock_guard hold{all.lock};
  const auto count = all.count.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < count; ++i) {
    const Definition& other = all.entries[i];
    if (other.name != name) continue;
    if (other.number == number && other.color == color)
      return CustomLevel{static_cast<std::uint8_t>(LevelCode::first_custom + i)};
    throw UsageError{"the level '" + std::string{name} + "' was defined with number " +
                     std::to_string(other.number) + " and colour '" + other.color + "', and now with " +
                     std::to_string(number) + " and '" + std::string{color} +
                     "'. Define it once, or each time in the same words."};
  }
  if (count == all.entries.size()) {
    throw UsageError{"the level '" + std::string{name} +
                     "' would be the 201st of this program. At most 200 can be defined."};
  }
  all.entries[count] = {std::string{name}, std::string{color}, number, base_of(number)};
  all.count.store(count + 1, std::memory_order_release);
  return CustomLevel{static_cast<std::uint8_t>(LevelCode::first_custom + count)};
}

std::optional<CustomLevel> find_level(std::string_view name) noexcept {
  const Definitions& all = definitions();
  const auto count = all.count.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (all.entries[i].name == name)
      return CustomLevel{static_cast<std::uint8_t>(LevelCode::first_custom + i)};
  }
  return std::nullopt;
}

std::string_view CustomLevel::name() const noexcept {
  return definitions().entries[code_ - LevelCode::first_custom].name;
}
std::string_view CustomLevel::color() const noexcept {
  return definitions().entries[code_ - LevelCode::first_custom].color;
}
int CustomLevel::number() const noexcept {
  return definitions().entries[code_ - LevelCode::first_custom].number;
}
Level CustomLevel::base() const noexcept {
  return definitions().entries[code_ - LevelCode::first_custom].base;
}
Level LevelCode::custom_base(std::uint8_t value) noexcept {
  return definitions().entries[value - LevelCode::first_custom].base;
}

namespace internal {

std::string_view custom_name(LevelCode level) noexcept {
  return level.value < LevelCode::first_custom
             ? std::string_view{}
             : std::string_view{definitions().entries[level.value - LevelCode::first_custom].name};
}

bool LevelSettings::set(std::string_view name, Level wanted) {
  for (auto& [known, its] : named) {
    if (known == name) {
      its = wanted;
      return true;
    }
  }
  named.emplace_back(name, wanted);
  return false;
}

Level LevelSettings::level_of(std::string_view logger, Level otherwise) const noexcept {
  Level best = otherwise;
  std::size_t longest = 0;
  for (const auto& [name, its] : named) {
    if (name.size() >= longest && logger_is_below(logger, name)) {
      best = its;
      longest = name.size();
    }
  }
  return best;
}

LevelSettings parse_level_settings(const char* variable, std::string_view text) {
  LevelSettings settings;
  while (!text.empty()) {
    const auto comma = text.find(',');
    auto item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    const auto trim = [](std::string_view& word) {
      while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
      while (!word.empty() && word.back() == ' ') word.remove_suffix(1);
    };
    trim(item);
    if (item.empty()) continue;
    const auto equals = item.find('=');
    auto name = equals == std::string_view::npos ? std::string_view{} : item.substr(0, equals);
    auto level = equals == std::string_view::npos ? item : item.substr(equals + 1);
    trim(name);
    trim(level);
    const auto parsed = find_standard(level);
    if (!parsed) {
      throw UsageError{
          "the environment variable " + std::string{variable} + " holds '" + std::string{item} +
          "', which names no level. Write levels as in 'info' or 'info,net=debug'; they are trace, debug, info, warn, error, "
          "critical and off."};
    }
    if (name.empty() || name == "*")
      settings.level = *parsed;
    else
      settings.set(name, *parsed);
  }
  return settings;
}

}  // namespace internal
}  // namespace kindred
