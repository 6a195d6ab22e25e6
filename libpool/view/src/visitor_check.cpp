#include "visitor_check.hpp"

#include <charconv>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>

#include <fmt/format.h>

#include "kindred/internal/local_socket.hpp"

namespace kindred::view {
namespace {

/// Takes the same time for every wrong token.
bool same_text(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]));
  return difference == 0;
}

/// The number behind the colon of "0100007F:1F90".
int port_in(std::string_view address) {
  const auto colon = address.rfind(':');
  int port = -1;
  if (colon != std::string_view::npos)
    std::from_chars(address.data() + colon + 1, address.data() + address.size(), port, 16);
  return port;
}

std::string_view cookie_value(std::string_view cookies, std::string_view name) {
  while (!cookies.empty()) {
    const auto end = std::min(cookies.find(';'), cookies.size());
    std::string_view one = cookies.substr(0, end);
    cookies.remove_prefix(std::min(end + 1, cookies.size()));
    while (one.starts_with(' ')) one.remove_prefix(1);
    if (one.starts_with(name) && one.substr(name.size()).starts_with('=')) return one.substr(name.size() + 1);
  }
  return {};
}

}  // namespace

std::optional<std::uint32_t> owner_of_socket(int from, int to) {
  std::optional<std::uint32_t> owner;
  // Most lines are other sockets': they are passed over by their text. Whoever opens many connections has
  // this file read for each.
  const std::string from_text = fmt::format(":{:04X} ", from), to_text = fmt::format(":{:04X} ", to);
  for (const char* const path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file{path};
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      if (line.find(from_text) == std::string::npos || line.find(to_text) == std::string::npos) continue;
      std::istringstream words{line};
      std::string slot, local, remote, state, queues, timer, retransmits, timeout;
      std::uint32_t uid = 0;
      std::uint64_t inode = 0;
      if (!(words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >>
            inode))
        continue;
      if (port_in(local) != from || port_in(remote) != to) continue;
      // A socket that its process has closed has no inode, and 0 stands where the user was: it is not root's.
      if (inode == 0 || (owner && *owner != uid)) return std::nullopt;
      owner = uid;
    }
  }
  return owner;
}

std::string stranger_at(const std::string& address, int from, int to) {
  if (!is_loopback(address)) return address;
  const auto owner = owner_of_socket(from, to);
  if (!owner) return "nobody known";
  return *owner == 0 || *owner == internal::user_id() ? std::string{} : fmt::format("user {}", *owner);
}

bool is_loopback(std::string_view address) {
  return address == "::1" || address.starts_with("127.") || address.starts_with("::ffff:127.");
}

std::string random_token() {
  std::random_device device;
  std::string token;
  for (int i = 0; i < 4; ++i) token += fmt::format("{:08x}", device());
  return token;
}

std::string VisitorCheck::cookie_name() const { return fmt::format("kindred_view_{}", port_); }

bool VisitorCheck::has_token(const Visitor& visitor) const {
  if (token_.empty()) return false;
  constexpr std::string_view bearer = "Bearer ";
  const std::string_view authorization{visitor.authorization};
  return same_text(visitor.token, token_) || same_text(cookie_value(visitor.cookie, cookie_name()), token_) ||
         (authorization.starts_with(bearer) && same_text(authorization.substr(bearer.size()), token_));
}

VisitorCheck::Verdict VisitorCheck::check(const Visitor& visitor) const {
  if (has_token(visitor)) return Verdict::welcome;
  if (!visitor.from_owner) return Verdict::no_token;
  // A page of another site can have its name resolve to 127.0.0.1, but then its name is in the header.
  for (const std::string_view name : {std::string_view{"127.0.0.1"}, std::string_view{"localhost"},
                                      std::string_view{"[::1]"}, std::string_view{host_}}) {
    if (visitor.host == fmt::format("{}:{}", name, port_)) return Verdict::welcome;
  }
  return Verdict::wrong_host;
}

bool VisitorCheck::is_same_origin(std::string_view origin, std::string_view fetch_site,
                                  std::string_view host) const {
  if (!fetch_site.empty() && fetch_site != "same-origin") return false;
  return origin.empty() ? fetch_site.empty() : origin == fmt::format("http://{}", host);
}

}  // namespace kindred::view
