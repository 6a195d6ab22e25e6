#include "kindred/internal/capture_pipe.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
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

std::size_t bytes_in_pipe(int fd) noexcept {
  int count = 0;
  return ::ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? static_cast<std::size_t>(count) : 0;
}

bool wait_for_output(int first, int second) noexcept {
  std::array<pollfd, 2> events{pollfd{.fd = first, .events = POLLIN, .revents = 0}, pollfd{.fd = second, .events = POLLIN, .revents = 0}};
  for (;;) {
    if (::poll(events.data(), events.size(), -1) < 0 && errno == EINTR) continue;
    return (events[0].revents & POLLIN) != 0 || (events[1].revents & POLLIN) != 0;
  }
}

}  // namespace kindred::internal
