#include "kindred/internal/doorbell.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"

namespace kindred::internal {

Doorbell::Doorbell()
    : fd_{KINDRED_INJECTION_FAILS("fail.eventfd") ? -1 : ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)} {
  if (!fd_) throw SystemError{"eventfd", errno, "making a bell for sleeping threads"};
}

void Doorbell::ring() const noexcept {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full after 2^64 rings: the sleeper is awake in any case.
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

bool Doorbell::clear() const noexcept {
  std::uint64_t count = 0;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count;
}

bool Doorbell::wait(Deadline deadline) const noexcept {
  for (;;) {
    if (clear()) return true;
    pollfd event{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    timespec left{};
    if (deadline) {
      const auto now = std::chrono::steady_clock::now();
      if (now >= *deadline) return false;
      const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - now).count();
      left = {.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000),
              .tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000)};
    }
    if (::ppoll(&event, 1, deadline ? &left : nullptr, nullptr) < 0 && errno != EINTR) return false;
  }
}

}  // namespace kindred::internal
