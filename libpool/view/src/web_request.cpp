#include "web_request.hpp"

#include <charconv>

namespace kindred::view {
namespace {

/// Decodes "a%2Fb+c". In a path a '+' stands for itself; after the '?' it stands for a space, as in forms.
std::optional<std::string> decoded(std::string_view text, bool plus_is_space) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      unsigned byte = 0;
      if (i + 2 >= text.size()) return std::nullopt;
      const auto read = std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16);
      if (read.ec != std::errc{} || read.ptr != text.data() + i + 3) return std::nullopt;
      out += static_cast<char>(byte);
      i += 2;
    }
  }
  return out;
}

}  // namespace

std::string WebRequest::value(const std::string& name) const {
  const auto found = values.find(name);
  return found == values.end() ? std::string{} : found->second;
}

WebReply say(int status, std::string_view words) {
  return {.status = status, .body = std::string{words} + "\n"};
}

std::optional<WebTarget> parse_target(std::string_view target) {
  target = target.substr(0, target.find('#'));
  const auto mark = target.find('?');
  auto path = decoded(target.substr(0, mark), false);
  if (!path || !path->starts_with('/')) return std::nullopt;
  WebTarget found{.path = std::move(*path), .values = {}};
  std::string_view rest = mark == std::string_view::npos ? std::string_view{} : target.substr(mark + 1);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('&'), rest.size());
    const std::string_view part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto equals = std::min(part.find('='), part.size());
    const auto name = decoded(part.substr(0, equals), true);
    const auto value = decoded(part.substr(std::min(equals + 1, part.size())), true);
    if (!name || !value) return std::nullopt;
    found.values.emplace(*name, *value);
  }
  return found;
}

}  // namespace kindred::view
