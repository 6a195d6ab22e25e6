#include "pool_choice.hpp"

#include <charconv>

#include <fmt/format.h>

#include "command_line.hpp"
#include "kindred/internal/local_socket.hpp"

namespace kindred::tools {

PoolChoice pool_choice(std::string_view word) {
  const auto slash = word.find('/');
  const std::string_view number = word.substr(0, slash);
  std::uint32_t pid = 0;
  const auto read = std::from_chars(number.data(), number.data() + number.size(), pid);
  if (read.ec != std::errc{} || read.ptr != number.data() + number.size())
    throw Stop{exit_usage, fmt::format("'{}' is no process id; use 4711, or 4711/2 for the second pool of "
                                       "that process. kindred-tail lists the pools",
                                       word)};
  return {.pid = pid,
          .serial = std::string{slash == word.npos ? std::string_view{} : word.substr(slash + 1)}};
}

std::string words_for_no_pool(const PoolChoice& choice) {
  const auto user = internal::user_id();
  const auto whose = user == 0 ? std::string{"any user"} : fmt::format("user {}", user);
  if (!choice.pid) return fmt::format("no pool of {} is there", whose);
  return fmt::format(
      "pid {} offers no pool of {} here. A pool is offered from its first worker on, unless LogOptions::tail "
      "is off, to its own user and root, in its network namespace.",
      *choice.pid, whose);
}

}  // namespace kindred::tools
