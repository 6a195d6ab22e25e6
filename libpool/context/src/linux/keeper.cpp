#include "kindred/internal/keeper.hpp"

#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <system_error>
#include <thread>

#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t max_kept = 4;

// For as long as the process. 0: the thread is on its way; 1: it has its own table; 2: it has not.
std::atomic<std::uint32_t> separated{0};

}  // namespace

bool take_own_descriptors(std::span<const int> kept) noexcept {
  unsigned from = 0;
  bool own = false;
  const auto close = [&](unsigned first, unsigned last) {
    if (first > last) return true;
    const unsigned flags = own ? 0U : CLOSE_RANGE_UNSHARE;
    if (::syscall(SYS_close_range, first, last, flags) != 0) return false;
    own = true;
    return true;
  };
  // First the descriptors above all kept ones: for a range without end the kernel copies only the table
  // below.
  if (!close(static_cast<unsigned>(kept.back()) + 1, ~0U)) return false;
  for (const int fd : kept) {
    if (fd > 0 && static_cast<unsigned>(fd) > from && !close(from, static_cast<unsigned>(fd) - 1))
      return false;
    from = static_cast<unsigned>(fd) + 1;
  }
  return own;
}

bool keep_descriptors(std::span<const int> kept) noexcept {
  std::array<int, max_kept> copy{};
  const std::size_t count = std::min(kept.size(), copy.size());
  std::copy_n(kept.begin(), count, copy.begin());
  separated.store(0, std::memory_order_relaxed);
  try {
    std::thread{[copy, count] {
      begin_service_thread("kindred-keeper");
      count_harmless_thread();
      separated.store(take_own_descriptors(std::span{copy}.first(count)) ? 1 : 2, std::memory_order_release);
      futex_wake(separated, 1);
      for (;;) ::pause();  // every signal is blocked here: it ends with the process
    }}.detach();
  } catch (const std::system_error&) {
    return false;
  }
  while (separated.load(std::memory_order_acquire) == 0) futex_wait(separated, 0);
  return separated.load(std::memory_order_relaxed) == 1;
}

void end_group_with_starter() noexcept {
  struct sigaction action{};
  action.sa_handler = [](int) {
    ::kill(0, SIGKILL);
    ::_exit(0);
  };
  ::sigfillset(&action.sa_mask);
  // Crash: between the two lines the starter's end still kills this process by SIGKILL.
  if (::sigaction(SIGRTMAX, &action, nullptr) == 0) ::prctl(PR_SET_PDEATHSIG, SIGRTMAX);
}

}  // namespace kindred::internal
