#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kindred::tools {

inline constexpr int exit_ended = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

/// Ends the program with words on stderr. Empty words: the program prints nothing.
struct Stop {
  int code = exit_ended;
  std::string words;
};

/// The command line of kindred-tail, kindred-view or kindred-top. Each option is described once: CLI11 reads
/// the arguments by that description, and `--help` is made from it.
///
/// Values are taken as they are written, in the order of the command line; an option may be repeated.
class CommandLine {
 public:
  using Take = std::function<void(const std::string& value)>;

  /// `head`: how the program is called, and what it does then.
  CommandLine(std::string_view program, std::string_view head);
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
  ~CommandLine();

  /// The options that follow stand under this title.
  void group(std::string_view title);
  /// `names`: "--text" or "-l,--level". `value`: what stands for the value in `--help`. `take` throws `Stop`
  /// where a value makes no sense.
  void option(const std::string& names, std::string_view value, const std::string& meaning, Take take);
  void flag(const std::string& names, const std::string& meaning, std::function<void()> take);
  /// The one argument that is no option.
  void argument(std::string_view name, Take take);
  /// What `--help` says below the options.
  void foot(std::string_view text);

  /// Errors: `Stop`, with `exit_usage` where the arguments make no sense, and after `--help`, which it
  /// prints.
  void read(std::vector<std::string> words);
  /// At most 80 columns wide.
  [[nodiscard]] std::string help() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// All that `main` does: calls `run` with the arguments, and says on stderr why the program stops.
/// A `UsageError` counts as wrong usage. Returns the exit status.
[[nodiscard]] int run_program(std::string_view program, int argc, char** argv,
                              const std::function<int(std::vector<std::string>)>& run);

}  // namespace kindred::tools
