#include "kindred/internal/descriptor.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "kindred/error.hpp"

namespace kindred::internal {

void Descriptor::reset() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Descriptor duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw SystemError{"fcntl(F_DUPFD_CLOEXEC)", errno, "copying a descriptor"};
  return Descriptor{copy};
}

}  // namespace kindred::internal
