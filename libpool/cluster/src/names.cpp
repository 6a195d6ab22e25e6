#include "names.hpp"

#include <algorithm>
#include <cctype>

#include "kindred/error.hpp"

namespace kindred::internal {

std::string file_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return std::string{slash == std::string_view::npos ? path : path.substr(slash + 1)};
}

void check_name(std::string_view option, std::string_view name) {
  const bool good = !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
  if (good) return;
  throw UsageError{std::string{option} + " is '" + std::string{name} +
                   "'. Use 1 to 64 letters, digits, - and _: it becomes a part of the servers' subjects."};
}

}  // namespace kindred::internal
