#include "arguments.hpp"

#include <charconv>
#include <string_view>

#include <fmt/format.h>

namespace kindred::view {

std::optional<std::string> Arguments::next() {
  if (at_ == words_.size()) return std::nullopt;
  std::string& word = words_[at_];
  if (const auto sign = word.find('='); word.starts_with("--") && sign != std::string::npos) {
    std::string name = word.substr(0, sign);
    word.erase(0, sign + 1);  // the value is next
    return name;
  }
  return words_[at_++];
}

std::string Arguments::value_of(const std::string& option) {
  if (at_ == words_.size()) throw Stop{exit_usage, option + " needs a value"};
  return words_[at_++];
}

Choice choice_of(const std::string& word) {
  const auto slash = word.find('/');
  const std::string_view number = std::string_view{word}.substr(0, slash);
  std::uint32_t pid = 0;
  const auto read = std::from_chars(number.data(), number.data() + number.size(), pid);
  if (read.ec != std::errc{} || read.ptr != number.data() + number.size())
    throw Stop{exit_usage, fmt::format("'{}' is neither an option nor a process id", word)};
  return {.pid = pid, .serial = slash == std::string::npos ? std::string{} : word.substr(slash + 1)};
}

std::string words_for_no_pool(const Choice& choice) {
  if (!choice.pid) return "no pool of this user runs here";
  return fmt::format(
      "pid {} offers no pool here. A pool is offered from its first worker on, unless LogOptions::tail is off, "
      "to its own user and root, in its network namespace.",
      *choice.pid);
}

}  // namespace kindred::view
