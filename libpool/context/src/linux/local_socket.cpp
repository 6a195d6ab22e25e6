#include "kindred/internal/local_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <thread>

#include "kindred/error.hpp"

namespace kindred::internal {
namespace {

// An abstract name: a zero byte, then the name, as long as the address says (unix(7)).
struct Address {
  explicit Address(const std::string& name) noexcept {
    un.sun_family = AF_UNIX;
    const std::size_t bytes = std::min(name.size(), sizeof un.sun_path - 1);
    std::memcpy(un.sun_path + 1, name.data(), bytes);
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + bytes);
  }
  [[nodiscard]] const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&un); }
  sockaddr_un un{};
  socklen_t size;
};

// Never the number of stdin, stdout or stderr.
Descriptor stream_socket() noexcept {
  Descriptor fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (fd && fd.get() <= 2) fd = Descriptor{::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)};
  return fd;
}

}  // namespace

Descriptor listen_locally(const std::string& name) {
  Descriptor fd = stream_socket();
  if (!fd) throw SystemError{"socket", errno, "making a socket for kindred-tail"};
  const Address address{name};
  if (::bind(fd.get(), address.get(), address.size) != 0)
    throw SystemError{"bind", errno, "offering @" + name};
  if (::listen(fd.get(), 16) != 0) throw SystemError{"listen", errno, "offering @" + name};
  return fd;
}

Descriptor accept_locally(int listener) noexcept {
  return Descriptor{::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
}

void stop_listening(int listener) noexcept { ::shutdown(listener, SHUT_RDWR); }

Descriptor connect_locally(const std::string& name, std::chrono::steady_clock::time_point until) noexcept {
  Descriptor fd = stream_socket();
  const Address address{name};
  while (fd && ::connect(fd.get(), address.get(), address.size) != 0) {
    if (errno != EAGAIN || std::chrono::steady_clock::now() >= until) {
      fd.reset();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
  }
  return fd;
}

std::vector<std::string> local_names(std::string_view beginning) {
  std::vector<std::string> names;
  std::ifstream table{"/proc/net/unix"};
  // Num RefCount Protocol Flags Type St Inode Path; the flag 0x10000 (__SO_ACCEPTCON) says that it listens.
  for (std::string line; std::getline(table, line);) {
    const auto at = line.find(" @");
    if (at == std::string::npos || std::string_view{line}.substr(at + 2, beginning.size()) != beginning)
      continue;
    std::array<std::string_view, 4> words;
    std::size_t from = 0;
    for (auto& word : words) {
      from = std::min(line.find_first_not_of(' ', from), line.size());
      const std::size_t to = std::min(line.find(' ', from), line.size());
      word = std::string_view{line}.substr(from, to - from);
      from = to;
    }
    unsigned flags = 0;
    std::from_chars(words[3].data(), words[3].data() + words[3].size(), flags, 16);
    if ((flags & 0x10000U) != 0) names.push_back(line.substr(at + 2));
  }
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

// In a user namespace, all users that have no number there have this one, and nobody can tell them apart.
bool stands_for_unknown_users(std::uint32_t uid) noexcept try {
  std::uint32_t overflow = 65534;
  std::ifstream{"/proc/sys/kernel/overflowuid"} >> overflow;
  if (uid != overflow) return false;
  std::ifstream map{"/proc/self/uid_map"};
  constexpr std::uint64_t all_users = 0xffff'ffffU;
  std::uint64_t first = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  return !(map >> first >> outside >> count) || count < all_users;
} catch (...) {
  return true;
}

}  // namespace

std::optional<Peer> peer_of(int fd) noexcept {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return std::nullopt;
  if (stands_for_unknown_users(credentials.uid)) return std::nullopt;
  return Peer{.pid = static_cast<std::uint32_t>(credentials.pid), .uid = credentials.uid};
}

std::uint32_t user_id() noexcept { return ::geteuid(); }

std::ptrdiff_t send_some(int fd, std::string_view bytes) noexcept {
  for (;;) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0 || errno != EINTR) return sent >= 0 ? sent : -errno;
  }
}

std::ptrdiff_t receive_some(int fd, char* target, std::size_t bytes) noexcept {
  for (;;) {
    const ssize_t got = ::recv(fd, target, bytes, MSG_DONTWAIT);
    if (got >= 0 || errno != EINTR) return got >= 0 ? got : -errno;
  }
}

SocketNews wait_for_socket(int fd, bool to_send, int also, Deadline deadline) noexcept {
  const short events = to_send ? POLLOUT : POLLIN;
  std::array<pollfd, 2> polled{
      pollfd{.fd = fd, .events = static_cast<short>(events | POLLRDHUP), .revents = 0},
      pollfd{.fd = also, .events = POLLIN, .revents = 0}};
  timespec left{};
  if (deadline) {
    const auto now = std::chrono::steady_clock::now();
    const auto wait = std::max<std::int64_t>(
        0, std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - now).count());
    left = {.tv_sec = static_cast<time_t>(wait / 1'000'000'000),
            .tv_nsec = static_cast<long>(wait % 1'000'000'000)};
  }
  ::ppoll(polled.data(), polled.size(), deadline ? &left : nullptr, nullptr);
  const short seen = polled[0].revents;
  return {.readable = (seen & (POLLIN | POLLHUP | POLLERR)) != 0,
          .gone = (seen & (POLLRDHUP | POLLHUP | POLLERR)) != 0,
          .room = (seen & POLLOUT) != 0,
          .also = (polled[1].revents & POLLIN) != 0};
}

}  // namespace kindred::internal
