#pragma once

#include <string>
#include <string_view>

#include "linux/socket_owner.hpp"

namespace kindred::view {

/// Decides which visitors may see the page: the user of this program and root, where they come over loopback,
/// as the kernel's list of sockets says; and any visitor that shows the token.
class VisitorCheck {
 public:
  /// `token` may be empty: then nobody is let in by one. `host` is what was given to --listen.
  VisitorCheck(std::string token, std::string host) : token_{std::move(token)}, host_{std::move(host)} {}
  void set_port(int port) noexcept { port_ = port; }

  struct Visitor {
    bool from_owner = false;    ///< over loopback, and the kernel says that the socket is ours
    std::string host;           ///< the header Host
    std::string cookie;         ///< the header Cookie
    std::string authorization;  ///< the header Authorization
    std::string token;          ///< the parameter
  };
  enum class Verdict : unsigned char { welcome, wrong_host, no_token };
  [[nodiscard]] Verdict check(const Visitor& visitor) const;
  /// Has a page of this server sent the request? A page of another site must not change anything here.
  [[nodiscard]] bool is_same_origin(std::string_view origin, std::string_view fetch_site,
                                    std::string_view host) const;
  [[nodiscard]] const std::string& token() const noexcept { return token_; }
  [[nodiscard]] std::string cookie_name() const;

 private:
  [[nodiscard]] bool has_token(const Visitor& visitor) const;
  std::string token_;
  std::string host_;
  int port_ = 0;
};

/// Whom a connection is from, where it is neither from this user nor from root over loopback: an address, or
/// a user of this machine. Empty where it is.
[[nodiscard]] std::string stranger_at(const LocalConnection& connection);
[[nodiscard]] bool is_loopback(std::string_view address);
[[nodiscard]] std::string random_token();

}  // namespace kindred::view
