#include "kindred/internal/capture_pipe.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "child.hpp"
#include "kindred/error.hpp"

namespace kindred::internal {

std::pair<Descriptor, Descriptor> make_capture_pipe() {
  auto ends = make_pipe();
  ::fcntl(ends.first.get(), F_SETFL, O_NONBLOCK);
  return ends;
}

bool read_available(int fd, std::string& text, std::size_t most) {
  // The pipe is opened anew, because flags belong to an opening, and those of `fd` are not the caller's to
  // change. Without /proc a poll comes before each read; only another reader could take the bytes in between.
  std::array<char, 40> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
  const Descriptor own{::open(path.data(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  std::array<char, 16 * 1024> buffer;
  std::size_t all = 0;
  while (all < most) {
    pollfd event{.fd = fd, .events = POLLIN, .revents = 0};
    if (!own && (::poll(&event, 1, 0) <= 0 || (event.revents & POLLIN) == 0)) break;
    const ssize_t got = ::read(own ? own.get() : fd, buffer.data(), std::min(buffer.size(), most - all));
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    all += static_cast<std::size_t>(got);
  }
  return all != 0;
}

std::uint64_t pipe_identity(int fd) noexcept {
  struct stat status{};
  return ::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode) ? status.st_ino : 0;
}

std::size_t copy_available(int fd, const std::pair<Descriptor, Descriptor>& by_way_of, std::string& text) {
  constexpr std::size_t most = 64 * 1024;
  const ssize_t copied = ::tee(fd, by_way_of.second.get(), most, SPLICE_F_NONBLOCK);
  if (copied <= 0) return 0;
  const std::size_t before = text.size();
  text.resize(before + static_cast<std::size_t>(copied));
  for (std::size_t at = before; at < text.size();) {
    const ssize_t got = ::read(by_way_of.first.get(), text.data() + at, text.size() - at);
    if (got <= 0) break;
    at += static_cast<std::size_t>(got);
  }
  return static_cast<std::size_t>(copied);
}

void take_out(int fd, std::span<char> first, std::span<char> second, char& last) noexcept {
  // One system call, so that a process which is killed has either taken all of the bytes or none: a pipe that
  // has the bytes is read without a check for signals.
  const std::array<iovec, 3> parts{iovec{first.data(), first.size()}, iovec{second.data(), second.size()},
                                   iovec{&last, 1}};
  [[maybe_unused]] const ssize_t got = ::readv(fd, parts.data(), parts.size());
}

bool wait_for_output(int first, int second) noexcept {
  std::array<pollfd, 2> events{pollfd{.fd = first, .events = POLLIN, .revents = 0},
                               pollfd{.fd = second, .events = POLLIN, .revents = 0}};
  for (;;) {
    if (::poll(events.data(), events.size(), -1) < 0 && errno == EINTR) continue;
    return (events[0].revents & POLLIN) != 0 || (events[1].revents & POLLIN) != 0;
  }
}

}  // namespace kindred::internal
