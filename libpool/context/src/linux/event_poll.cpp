#include "kindred/internal/event_poll.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "kindred/error.hpp"

namespace kindred::internal {

EventPoll::EventPoll() : fd_{::epoll_create1(EPOLL_CLOEXEC)} {
  if (!fd_)
    throw SystemError{"epoll_create1", errno, "starting the supervisor",
                      "Raise the limit on open files (ulimit -n)."};
}

void EventPoll::add(int fd, std::uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw SystemError{"epoll_ctl", errno, "watching a descriptor", "Raise fs.epoll.max_user_watches."};
  }
}

void EventPoll::remove(int fd) noexcept { ::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void EventPoll::wait(std::vector<std::uint64_t>& tokens, Deadline deadline) {
  tokens.clear();
  std::array<epoll_event, 64> events{};
  timespec left{};
  if (deadline) {
    const auto nanoseconds = std::clamp<std::int64_t>(
        std::chrono::nanoseconds{*deadline - std::chrono::steady_clock::now()}.count(), 0, 3'600'000'000'000);
    left = {.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000),
            .tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000)};
  }
  int count = ::epoll_pwait2(fd_.get(), events.data(), static_cast<int>(events.size()),
                             deadline ? &left : nullptr, nullptr);
  if (count < 0 &&
      errno == ENOSYS) {  // before Linux 5.11. Rounded up: a timer that fires early would only be set again
    const auto milliseconds =
        deadline ? static_cast<int>(left.tv_sec * 1000 + (left.tv_nsec + 999'999) / 1'000'000) : -1;
    count = ::epoll_wait(fd_.get(), events.data(), static_cast<int>(events.size()), milliseconds);
  }
  for (int i = 0; i < count; ++i) tokens.push_back(events[static_cast<std::size_t>(i)].data.u64);
}

void settle_thread(const char* name) noexcept {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  ::pthread_setname_np(::pthread_self(), name);
}

}  // namespace kindred::internal
