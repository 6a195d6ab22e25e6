#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace kindred::view {

/// A TCP connection of this machine with itself, seen from the side that connected.
struct LocalConnection {
  std::string from_address;
  int from_port = 0;
  std::string to_address;
  int to_port = 0;
};

/// Whose the socket is that connected, as the kernel says. Nothing where there is none, and where its process
/// has closed it. Asks by NETLINK_SOCK_DIAG for this one socket; where the kernel does not answer that, it
/// reads the list of all (/proc/net/tcp), which takes the longer the more connections there are.
[[nodiscard]] std::optional<std::uint32_t> owner_of(const LocalConnection& connection);

}  // namespace kindred::view
