#include "kindred/internal/message_socket.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"

namespace kindred::internal {
namespace {

// A program may run with stdin, stdout or stderr closed: none of ours may take their numbers, or a worker
// would write into it.
Descriptor above_stdio(int fd) {
  if (fd > 2) return Descriptor{fd};
  const Descriptor low{fd};
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) throw SystemError{"fcntl(F_DUPFD_CLOEXEC)", errno, "making a socket pair"};
  return Descriptor{copy};
}

}  // namespace

std::pair<MessageSocket, MessageSocket> MessageSocket::pair() {
  std::array<int, 2> ends{};
  if (KINDRED_INJECTION_FAILS("fail.socketpair") ||
      ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw SystemError{"socketpair", errno, "making the control socket of a worker"};
  }
  Descriptor second{ends[1]};
  Descriptor first = above_stdio(ends[0]);
  second = above_stdio(second.release());
  return {MessageSocket{std::move(first)}, MessageSocket{std::move(second)}};
}

MessageSocket::Sent MessageSocket::send(std::span<const std::byte> bytes,
                                        std::span<const int> descriptors) const {
  iovec part{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * descriptor_limit)> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  for (;;) {
    if (::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return Sent::yes;
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM ||
        errno == ETOOMANYREFS)
      return Sent::full;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN || errno == EBADF) return Sent::closed;
    throw SystemError{"sendmsg", errno,
                      "sending " + std::to_string(bytes.size()) + " bytes and " +
                          std::to_string(descriptors.size()) + " descriptors to a worker"};
  }
}

std::optional<Message> MessageSocket::receive(Deadline deadline, bool* closed) const {
  if (closed != nullptr) *closed = false;
  for (;;) {
    // Their memory first: what comes with descriptors is short, and once it has come nothing of it may be
    // lost.
    constexpr std::size_t short_message = 256;
    Message result;
    result.bytes.reserve(short_message);
    result.descriptors.reserve(descriptor_limit);
    std::array<std::byte, message_limit>
        room;  // not cleared: only the pages that a message fills are touched
    iovec part{.iov_base = room.data(), .iov_len = room.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * descriptor_limit)> control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0) {
      // First what came along, or the descriptors of an empty message would stay open.
      for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
           header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
          int fd = -1;
          std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
          result.descriptors.emplace_back(fd);
        }
      }
    }
    if (got > 0) {
      result.cut = (message.msg_flags & MSG_TRUNC) != 0;
      result.bytes.assign(room.data(), room.data() + got);
      return result;
    }
    // A peer that died with messages of ours unread: said once, before what it had sent is handed out.
    if (got < 0 && errno == ECONNRESET) continue;
    if (got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
      if (closed != nullptr) *closed = true;
      return std::nullopt;
    }
    if (errno == EINTR) continue;
    timespec left{};
    if (deadline) {
      const auto now = std::chrono::steady_clock::now();
      if (now >= *deadline) return std::nullopt;
      const auto wait = std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - now).count();
      left = {.tv_sec = static_cast<time_t>(wait / 1'000'000'000),
              .tv_nsec = static_cast<long>(wait % 1'000'000'000)};
    }
    pollfd event{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    ::ppoll(&event, 1, deadline ? &left : nullptr, nullptr);
  }
}

std::uint64_t MessageSocket::identity() const noexcept {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return ::getsockopt(fd_.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

std::uint32_t MessageSocket::peer_pid() const noexcept {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return 0;
  return static_cast<std::uint32_t>(credentials.pid);
}

}  // namespace kindred::internal
