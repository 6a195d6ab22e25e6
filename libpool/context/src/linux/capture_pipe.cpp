#include "kindred/internal/capture_pipe.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "child.hpp"
#include "kindred/error.hpp"

namespace kindred::internal {

std::pair<Descriptor, Descriptor> make_capture_pipe() {
  auto ends = make_pipe();
  ::fcntl(ends.first.get(), F_SETFL, O_NONBLOCK);
  return ends;
}

bool read_available(int fd, std::string& text) {
  bool any = false;
  std::array<char, 16 * 1024> buffer;
  for (ssize_t got = 0; (got = ::read(fd, buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<std::size_t>(got));
    any = true;
    if (got < static_cast<ssize_t>(buffer.size())) break;
  }
  return any;
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
  // One call: a process that is killed has made it or not, because a pipe that has the bytes is read without
  // a look at signals.
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
