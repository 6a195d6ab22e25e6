#include "kindred/internal/event_poll.hpp"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "kindred/error.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {

namespace {
constexpr std::uint64_t token_end = ~std::uint64_t{0};
}

EventPoll::EventPoll(const SharedBell& bell) : bell_{bell}, fd_{::epoll_create1(EPOLL_CLOEXEC)} {
  if (!fd_) throw SystemError{"epoll_create1", errno, "starting the supervisor"};
  add(end_.fd(), token_end);
  try {
    ear_ = std::thread{[this] { listen(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the executor's supervisor"};
  }
}

EventPoll::~EventPoll() {
  end_.ring();
  ear_.join();
}

void EventPoll::add(int fd, std::uint64_t token) {
  {
    const std::scoped_lock lock{mutex_};
    heard_.reserve(heard_.size() + ++added_);
  }
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = token;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    throw SystemError{"epoll_ctl", errno, "watching a descriptor"};
  }
}

void EventPoll::again(int fd, std::uint64_t token) noexcept {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = token;
  // One that was closed is out of the poll: another one has its number now.
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &event) != 0 && errno == ENOENT)
    ::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event);
}

void EventPoll::remove(int fd) noexcept {
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr) != 0) return;
  const std::scoped_lock lock{mutex_};
  --added_;
}

void EventPoll::wait(std::vector<std::uint64_t>& tokens, Deadline deadline) {
  tokens.clear();
  std::unique_lock lock{mutex_};
  if (heard_.empty()) {  // else memory ended when they were to be handed out
    lock.unlock();
    (void)bell_.wait(deadline);
    lock.lock();
  }
  tokens.assign(heard_.begin(), heard_.end());
  heard_.clear();
}

void EventPoll::listen() noexcept {
  begin_service_thread("kindred-ear");
  for (;;) {
    std::array<epoll_event, 64> events{};
    const int count = ::epoll_wait(fd_.get(), events.data(), static_cast<int>(events.size()), -1);
    if (count <= 0) continue;  // a debugger, or a stop, interrupted it
    {
      const std::scoped_lock lock{mutex_};
      for (int i = 0; i < count; ++i) {
        const std::uint64_t token = events[static_cast<std::size_t>(i)].data.u64;
        if (token == token_end) return;
        heard_.push_back(token);
      }
    }
    bell_.ring();
  }
}

}  // namespace kindred::internal
