#include "kindred/internal/journal_socket.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

/// A record as a file that nobody can change any more, as journald wants it. None: errno says why.
Descriptor sealed_file(std::string_view record) noexcept {
  Descriptor file{::memfd_create("kindred-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!file) return file;
  while (!record.empty()) {
    const auto written = ::write(file.get(), record.data(), record.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return {};
    record.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return {};
  return file;
}

}  // namespace

JournalSocket::JournalSocket(std::string path) : path_{std::move(path)} {
  if (path_.size() >= sizeof(sockaddr_un::sun_path))
    throw UsageError{"the path of journald's socket, '" + path_ + "', has " + std::to_string(path_.size()) +
                     " bytes; a socket's path has at most " +
                     std::to_string(sizeof(sockaddr_un::sun_path) - 1) + "."};
  if (const int error = connect(); error != 0)
    throw SystemError{
        "connect", error, "reaching journald at '" + path_ + "'",
        "Is systemd-journald running here? In a container, mount /run/systemd/journal/socket into it, or "
        "log to stderr, which the container's own logging takes."};
}

int JournalSocket::connect() noexcept {
  socket_ = Descriptor{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  if (socket_ && socket_.get() <= 2) socket_ = Descriptor{::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 3)};
  if (!socket_) return errno;
  // Records may be large; what the kernel does not allow goes as a file.
  const int bytes = 8 * 1024 * 1024;
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  const timeval patience{.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), std::min(path_.size(), sizeof address.sun_path - 1));
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return 0;
  const int error = errno;
  socket_.reset();
  return error;
}

int JournalSocket::send_once(std::string_view record) const noexcept {
  if (!socket_) return ENOTCONN;
  while (::send(socket_.get(), record.data(), record.size(), MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) continue;
    if (errno != EMSGSIZE && errno != ENOBUFS) return errno;
    const Descriptor file = sealed_file(record);
    if (!file) return errno;
    msghdr message{};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = file.get();
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
    while (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) {
      if (errno != EINTR) return errno;
    }
    return 0;
  }
  return 0;
}

int JournalSocket::send(std::string_view record) noexcept {
  const int error = send_once(record);
  if (error != ECONNREFUSED && error != ENOTCONN && error != ECONNRESET && error != EPIPE) return error;
  if (const int again = connect(); again != 0) return again;
  return send_once(record);
}

std::string program_name() {
  const std::string path = executable_path();
  return path.substr(path.rfind('/') + 1);
}

}  // namespace kindred::internal
