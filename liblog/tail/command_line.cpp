#include "command_line.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"

namespace kindred::tools {
namespace {

constexpr std::size_t columns = 80;
constexpr std::size_t meaning_column = 24;

/// Appends `text` from column `begin` on, in rows of at most 80 columns.
void append_wrapped(std::string& out, std::string_view text, std::size_t begin) {
  std::size_t column = begin;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (column > begin && column + 1 + word.size() > columns) {
      out.append(1, '\n').append(begin, ' ');
      column = begin;
    }
    if (column > begin) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  out += '\n';
}

/// CLI11 2.5 and later read a value "[[aabb]]" as "[ab]". The guard, a last character behind "]]", keeps each
/// value as it was written: words that end in "]]" and any number of guards get one more.
constexpr char bracket_guard = '.';

[[nodiscard]] bool ends_in_brackets(std::string_view word) {
  return word.substr(0, word.find_last_not_of(bracket_guard) + 1).ends_with("]]");
}
[[nodiscard]] std::string guarded(std::string word) {
  if (ends_in_brackets(word)) word += bracket_guard;
  return word;
}
[[nodiscard]] std::string unguarded(std::string word) {
  if (ends_in_brackets(word) && word.back() == bracket_guard) word.pop_back();
  return word;
}

/// "  -l, --level LEVEL", with the long names below one another.
std::string names_of(const CLI::Option& option) {
  const auto& brief = option.get_snames();
  std::string names = brief.empty() ? "      " : fmt::format("  -{}, ", brief.front());
  names += "--" + option.get_lnames().front();
  if (const auto value = option.get_type_name(); !value.empty()) names += " " + value;
  return names;
}

}  // namespace

struct CommandLine::Parts {
  std::string program;
  std::string head;
  std::string foot;
  struct Group {
    std::string title;
    std::vector<const CLI::Option*> options;
  };
  std::vector<Group> groups{1};
  std::map<const CLI::Option*, Take> takes;
  CLI::App app;

  /// How an option is told apart in a message: by its long name.
  [[nodiscard]] static std::string long_name(const CLI::Option& option) {
    return "--" + option.get_lnames().front();
  }
  CLI::Option* described(CLI::Option* option, Take take) {
    // Values are read from the option as they were written: CLI11 would check and convert them by its own
    // rules.
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    groups.back().options.push_back(option);
    takes.emplace(option, std::move(take));
    return option;
  }
  [[noreturn]] void refuse(std::string_view words) const {
    throw Stop{exit_usage, fmt::format("{}; see {} --help", words, program)};
  }
  /// What was left over when all that is known was read.
  [[noreturn]] void refuse_rest() const {
    const auto rest = app.remaining();
    const auto first = std::ranges::find_if(rest, [](const std::string& word) { return word != "--"; });
    const std::string word = first == rest.end() ? std::string{} : unguarded(*first);
    refuse(fmt::format("'{}' is {}", word, word.starts_with('-') ? "no option" : "one argument too many"));
  }
};

CommandLine::CommandLine(std::string_view program, std::string_view head)
    : parts_{std::make_unique<Parts>()} {
  parts_->program = program;
  parts_->head = head;
  parts_->app.set_help_flag("-h,--help", "prints this");
}
CommandLine::~CommandLine() = default;

void CommandLine::group(std::string_view title) {
  parts_->groups.push_back({.title = std::string{title}, .options = {}});
}

void CommandLine::option(const std::string& names, std::string_view value, const std::string& meaning,
                         Take take) {
  auto* const option =
      parts_->described(parts_->app.add_option(names, CLI::callback_t{}, meaning), std::move(take));
  option->type_name(std::string{value})->expected(1)->allow_extra_args(false);
}

void CommandLine::flag(const std::string& names, const std::string& meaning, std::function<void()> take) {
  auto* const option = parts_->app.add_flag(names, meaning);
  parts_->described(option,
                    [name = Parts::long_name(*option), take = std::move(take)](const std::string& value) {
                      if (value != "true") throw Stop{exit_usage, name + " takes no value"};
                      take();
                    });
}

void CommandLine::argument(std::string_view name, Take take) {
  auto* const option = parts_->app.add_option(std::string{name}, CLI::callback_t{});
  option->expected(1)->allow_extra_args(false);
  parts_->takes.emplace(option, std::move(take));
}

void CommandLine::foot(std::string_view text) { parts_->foot = text; }

void CommandLine::read(std::vector<std::string> words) {
  for (std::string_view word : words) {
    // CLI11 would take the next word for the value.
    if (word.starts_with("--") && word.ends_with('=')) parts_->refuse(fmt::format("{} has no value", word));
  }
  std::ranges::transform(words, words.begin(), guarded);
  std::ranges::reverse(words);  // the order in which CLI11 takes them
  try {
    parts_->app.parse(words);
  } catch (const CLI::CallForHelp&) {
    std::fputs(help().c_str(), stdout);
    throw Stop{exit_ended, {}};
  } catch (const CLI::ExtrasError&) {
    parts_->refuse_rest();
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string_view told = error.what();  // "--text: 1 required TEXT missing"
    parts_->refuse(fmt::format("{} needs a value", told.substr(0, told.find(':'))));
  } catch (const CLI::ParseError& error) {
    parts_->refuse(error.what());
  }
  std::map<const CLI::Option*, std::size_t> taken;
  for (const CLI::Option* option : parts_->app.parse_order())
    parts_->takes.at(option)(unguarded(option->results().at(taken[option]++)));
}

std::string CommandLine::help() const {
  std::string text = parts_->head;
  const auto append = [&](const CLI::Option& option) {
    std::string names = names_of(option);
    if (names.size() >= meaning_column)
      names.append(1, '\n').append(meaning_column, ' ');
    else
      names.resize(meaning_column, ' ');
    text += names;
    append_wrapped(text, option.get_description(), meaning_column);
  };
  for (const auto& group : parts_->groups) {
    if (group.options.empty()) continue;
    text += group.title.empty() ? "\n" : "\n" + group.title + "\n";
    for (const CLI::Option* option : group.options) append(*option);
  }
  append(*parts_->app.get_help_ptr());
  return text + "\n" + parts_->foot;
}

int run_program(std::string_view program, int argc, char** argv,
                const std::function<int(std::vector<std::string>)>& run) {
  Stop stop{exit_failed, {}};
  try {
    return run({argv + 1, argv + argc});
  } catch (Stop& told) {
    stop = std::move(told);
  } catch (const UsageError& error) {
    stop = {exit_usage, error.what()};
  } catch (const std::exception& error) {
    stop.words = error.what();
  }
  internal::TextBuffer line;
  line.append(fmt::format("{}: ", program));
  internal::append_escaped(line, stop.words);
  line.push_back('\n');
  if (!stop.words.empty()) std::fwrite(line.view().data(), 1, line.view().size(), stderr);
  return stop.code;
}

}  // namespace kindred::tools
