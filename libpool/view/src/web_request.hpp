#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kindred::view {

/// What a visitor asks for.
struct WebRequest {
  std::string method;                         ///< "GET"
  std::string path;                           ///< decoded; always begins with '/'
  std::map<std::string, std::string> values;  ///< behind the '?', decoded; of several of a name the first
  std::string host;                           ///< this and the next five: the headers of these names
  std::string cookie;
  std::string authorization;
  std::string origin;
  std::string fetch_site;
  std::string content_type;
  std::string body{};
  bool from_owner = false;  ///< over loopback, by this program's user or root, as the kernel says

  /// Returns the value of that name; empty: there is none.
  [[nodiscard]] std::string value(const std::string& name) const;
};

struct WebReply {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
  /// Is the visitor admitted? All visitors that are not have a few connections between them.
  bool welcome = true;
  /// If set, it makes the answer piece by piece, and `body` is not used: each call waits for a bounded time
  /// and appends what there is to send. False: that was the last piece.
  std::function<bool(std::string& piece)> stream{};
};
/// An answer of one line.
[[nodiscard]] WebReply say(int status, std::string_view words);

/// Takes "/log?pool=1%2F1&text=a+b" apart. Nothing where it is no path, or an escape makes no sense.
struct WebTarget {
  std::string path;
  std::map<std::string, std::string> values;
};
[[nodiscard]] std::optional<WebTarget> parse_target(std::string_view target);

}  // namespace kindred::view
