#include "linux/socket_owner.hpp"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

#include "kindred/internal/descriptor.hpp"

namespace kindred::view {
namespace {

/// What the kernel knows of a socket. One that its process has closed has no inode, and 0 stands where the
/// user was: it is not root's.
struct KnownSocket {
  std::uint32_t uid = 0;
  std::uint64_t inode = 0;
};

/// An IPv4 address that is mapped into IPv6 becomes an IPv4 address: that is what the visitor connected to.
std::string_view plain_address(std::string_view address) {
  constexpr std::string_view mapped = "::ffff:";
  if (address.starts_with(mapped)) address.remove_prefix(mapped.size());
  return address;
}

struct Question {
  nlmsghdr head;
  inet_diag_req_v2 socket;
};

std::optional<Question> question_of(const LocalConnection& connection) {
  const std::string from{plain_address(connection.from_address)}, to{plain_address(connection.to_address)};
  const int family = from.find(':') == std::string::npos ? AF_INET : AF_INET6;
  Question question{};
  question.head.nlmsg_len = sizeof question;
  question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.head.nlmsg_flags = NLM_F_REQUEST;
  question.socket.sdiag_family = static_cast<std::uint8_t>(family);
  question.socket.sdiag_protocol = IPPROTO_TCP;
  inet_diag_sockid& id = question.socket.id;
  id.idiag_sport = htons(static_cast<std::uint16_t>(connection.from_port));
  id.idiag_dport = htons(static_cast<std::uint16_t>(connection.to_port));
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  if (::inet_pton(family, from.c_str(), static_cast<void*>(id.idiag_src)) != 1 ||
      ::inet_pton(family, to.c_str(), static_cast<void*>(id.idiag_dst)) != 1)
    return std::nullopt;
  return question;
}

/// Returns what the kernel knows of the socket; nothing where there is none, or the kernel cannot tell.
std::optional<KnownSocket> ask_kernel(const LocalConnection& connection) {
  const auto question = question_of(connection);
  const internal::Descriptor kernel{::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)};
  if (!question || !kernel) return std::nullopt;
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::sendto(kernel.get(), &*question, sizeof *question, 0, reinterpret_cast<const sockaddr*>(&address),
               sizeof address) < 0)
    return std::nullopt;
  // The answer is there once the question has been taken.
  alignas(nlmsghdr) std::array<char, 4096> answer{};
  const auto bytes = ::recv(kernel.get(), answer.data(), answer.size(), MSG_DONTWAIT);
  nlmsghdr head{};
  inet_diag_msg socket{};
  if (bytes < static_cast<ssize_t>(NLMSG_HDRLEN + sizeof socket)) return std::nullopt;
  std::memcpy(&head, answer.data(), sizeof head);
  if (head.nlmsg_type != SOCK_DIAG_BY_FAMILY) return std::nullopt;  // no such socket, or no tcp_diag
  std::memcpy(&socket, answer.data() + NLMSG_HDRLEN, sizeof socket);
  // Where no socket is connected from that port, one may listen there.
  if (socket.id.idiag_dport != question->socket.id.idiag_dport) return std::nullopt;
  return KnownSocket{.uid = socket.idiag_uid, .inode = socket.idiag_inode};
}

/// The number behind the colon of "0100007F:1F90".
int port_in(std::string_view address) {
  const auto colon = address.rfind(':');
  int port = -1;
  if (colon != std::string_view::npos)
    std::from_chars(address.data() + colon + 1, address.data() + address.size(), port, 16);
  return port;
}

/// Finds the socket by its ports alone. Nothing: there is none, or several users have one.
std::optional<KnownSocket> look_in_lists(const LocalConnection& connection) {
  std::optional<KnownSocket> found;
  // Most lines are of other sockets: these are skipped by a comparison of text, before any number is read.
  const std::string from_text = fmt::format(":{:04X} ", connection.from_port);
  const std::string to_text = fmt::format(":{:04X} ", connection.to_port);
  for (const char* const path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file{path};
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      if (line.find(from_text) == std::string::npos || line.find(to_text) == std::string::npos) continue;
      std::istringstream words{line};
      std::string slot, local, remote, state, queues, timer, retransmits, timeout;
      KnownSocket known;
      if (!(words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> known.uid >>
            timeout >> known.inode))
        continue;
      if (port_in(local) != connection.from_port || port_in(remote) != connection.to_port) continue;
      if (found && (found->uid != known.uid || known.inode == 0)) return std::nullopt;
      found = known;
    }
  }
  return found;
}

}  // namespace

std::optional<std::uint32_t> owner_of(const LocalConnection& connection) {
  auto known = ask_kernel(connection);
  if (!known) known = look_in_lists(connection);
  if (!known || known->inode == 0) return std::nullopt;
  return known->uid;
}

}  // namespace kindred::view
