#include "kindred/internal/interrupt.hpp"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "kindred/error.hpp"

namespace kindred::internal {
namespace {

// Process-wide, as signal handlers are.
std::atomic<int> interrupts{0};
std::atomic<int> bell_fd{-1};

void on_interrupt(int) {
  const int saved = errno;
  interrupts.fetch_add(1, std::memory_order_relaxed);
  const unsigned long long one = 1;
  [[maybe_unused]] const auto written = ::write(bell_fd.load(std::memory_order_relaxed), &one, sizeof one);
  errno = saved;
}

}  // namespace

InterruptWatch::InterruptWatch() {
  int none = -1;
  if (!bell_fd.compare_exchange_strong(none, bell_.fd())) {
    throw UsageError{
        "ExecutorOptions::handle_interrupt is set for a second executor of this process. Set it for one of them."};
  }
  interrupts.store(0, std::memory_order_relaxed);
  static_assert(sizeof(struct sigaction) <= sizeof(saved_));
  struct sigaction action{};
  struct sigaction before{};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &before);
  std::memcpy(saved_, &before, sizeof before);
}

InterruptWatch::~InterruptWatch() {
  struct sigaction before{};
  std::memcpy(&before, saved_, sizeof before);
  ::sigaction(SIGINT, &before, nullptr);
  bell_fd.store(-1, std::memory_order_relaxed);
}

int InterruptWatch::count() const noexcept { return interrupts.load(std::memory_order_relaxed); }

}  // namespace kindred::internal
