#include "session_sweep.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include "numbered_entries.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds collects{20};
// A session whose members fork while they are killed is looked through again.
constexpr int max_rounds = 100;

// Calls `act` with the number of each process that /proc lists. Allocates nothing.
template <class Act>
void for_each_process(const Act& act) noexcept {
  const Descriptor list{::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (list) (void)for_each_numbered_entry<16384>(list.get(), act);
}

}  // namespace

int parent_of(int pid) noexcept {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/stat", pid);
  const Descriptor file{::open(path.data(), O_RDONLY | O_CLOEXEC)};
  std::array<char, 512> text{};
  const auto got = file ? ::read(file.get(), text.data(), text.size() - 1) : -1;
  if (got <= 0) return 0;
  // Behind the name, which may hold anything: ") S PARENT".
  const char* const name_end = std::strrchr(text.data(), ')');
  pid_t parent = 0;
  if (name_end != nullptr && name_end + 4 < text.data() + got)
    std::from_chars(name_end + 4, text.data() + got, parent);
  return parent;
}

void SessionSweep::add(Process leader) {
  if (leaders_.empty()) due_ = steady_clock::now() + collects;
  leaders_.push_back(std::move(leader));
}

Deadline SessionSweep::due() const noexcept { return leaders_.empty() ? Deadline{} : Deadline{due_}; }

void SessionSweep::run() noexcept {
  if (leaders_.empty()) return;
  // One that other code of the program has reaped meanwhile names nothing any more.
  std::erase_if(leaders_, [](const Process& leader) { return !leader.look(); });
  if (!leaders_.empty()) end_sessions(leaders_);
  for (Process& leader : leaders_) (void)leader.reap();
  leaders_.clear();
}

void end_sessions(std::span<const Process> leaders) noexcept {
  for (int round = 0; round < max_rounds; ++round) {
    bool found = false;
    for_each_process([&](pid_t pid) {
      const auto is_member = [&] {
        const pid_t session = ::getsid(pid);
        return session > 0 && session != pid && std::ranges::any_of(leaders, [&](const Process& leader) {
                 return static_cast<pid_t>(leader.pid()) == session;
               });
      };
      if (!is_member()) return;
      const Descriptor pidfd{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
      // Asked again: the number may have become another process's before it was held.
      if (!pidfd || !is_member()) return;
      // A zombie waits for its own parent, and does nothing any more.
      if (Process{static_cast<std::uint32_t>(pid), Descriptor{::fcntl(pidfd.get(), F_DUPFD_CLOEXEC, 3)},
                  false}
              .dead())
        return;
      found = ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) == 0 || found;
    });
    if (!found) return;
  }
}

void adopt_orphans() noexcept { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }

void reap_orphans(std::span<const Process> kept) noexcept {
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 || info.si_pid == 0) return;
    const auto is_it = [&](const Process& process) {
      return static_cast<pid_t>(process.pid()) == info.si_pid;
    };
    // The kernel would name it again and again. Orphans behind it come when it is reaped.
    if (std::ranges::any_of(kept, is_it)) return;
    ::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG | __WALL);
  }
}

namespace {

struct Seen {
  pid_t pid;
  pid_t parent;
  bool ours;
};

// Finds all processes below this one. /proc lists most parents before their children.
std::span<const Seen> find_descendants(std::vector<Seen>& seen) noexcept {
  seen.clear();
  for_each_process([&](pid_t pid) {
    if (seen.size() < seen.capacity()) seen.push_back({pid, parent_of(pid), false});
  });
  const pid_t self = ::getpid();
  const auto is_ours = [&](pid_t pid) {
    const auto at = std::ranges::lower_bound(seen, pid, {}, &Seen::pid);
    return pid == self || (at != seen.end() && at->pid == pid && at->ours);
  };
  for (bool found = true; found;) {
    found = false;
    for (Seen& each : seen) {
      if (each.ours || !is_ours(each.parent)) continue;
      each.ours = found = true;
    }
  }
  return seen;
}

// Kills one of them, unless its number has become another process's meanwhile: that has another parent.
void kill_descendant(const Seen& seen) noexcept {
  const Descriptor pidfd{static_cast<int>(::syscall(SYS_pidfd_open, seen.pid, 0))};
  if (!pidfd) return;
  const pid_t parent = parent_of(seen.pid);
  if (parent == seen.parent || parent == ::getpid())
    (void)::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
}

}  // namespace

void end_children() noexcept {
  constexpr long shortest = 200'000, longest = 10'000'000;
  constexpr std::size_t most = 65'536;  // in one look; the rest is seen when these are gone
  timespec pause{.tv_sec = 0, .tv_nsec = shortest};
  const auto none_left = [&pause] {
    for (;;) {
      siginfo_t info{};
      if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) != 0) return errno == ECHILD;
      if (info.si_pid == 0) return false;
      pause.tv_nsec = shortest;
    }
  };
  std::vector<Seen> seen;
  while (!none_left()) {
    try {
      seen.reserve(most);
      for (const Seen& each : find_descendants(seen)) {
        if (each.ours) kill_descendant(each);
      }
    } catch (const std::bad_alloc&) {
      // After the pause.
    }
    ::nanosleep(&pause, nullptr);
    pause.tv_nsec = std::min(2 * pause.tv_nsec, longest);
  }
}

Descriptor hear_of_children() noexcept {
  sigset_t children;
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  if (::sigprocmask(SIG_BLOCK, &children, nullptr) != 0) return {};
  return Descriptor{::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK)};
}

void hush(const Descriptor& children) noexcept {
  std::array<signalfd_siginfo, 16> told{};
  while (::read(children.get(), told.data(), sizeof told) > 0) {}
}

}  // namespace kindred::internal
