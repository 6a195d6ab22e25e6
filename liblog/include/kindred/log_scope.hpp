#pragma once

#include <initializer_list>
#include <string>

#include "kindred/key_value.hpp"

namespace kindred {

/// Puts fields on every record that this thread logs while the scope lives; scopes nest, and an inner field
/// hides an outer one of its name.
///
///     kindred::LogScope scope{{"request", request.id}, {"user", request.user}};
///
/// The fields travel once, before the first record that is logged with them, not with each. Bridged spdlog
/// calls get them too. Threads: ends on the thread that made it, in reverse order of making; threads that it
/// starts do not inherit it. Fork: stays in the process that made it.
class [[nodiscard]] LogScope {
 public:
  LogScope(std::initializer_list<LogField> fields);
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;
  ~LogScope();
};

}  // namespace kindred
