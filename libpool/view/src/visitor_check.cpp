#include "visitor_check.hpp"

#include <random>

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

std::string stranger_at(const LocalConnection& connection) {
  if (!is_loopback(connection.from_address)) return connection.from_address;
  const auto owner = owner_of(connection);
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
  // Another site can have its own name resolve to 127.0.0.1, but then the Host header has that name.
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
