#include "kindred/internal/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"
#include "linux/small_file.hpp"

namespace kindred::internal {
namespace {

// linux/pidfd.h cannot be included beside fcntl.h; these words are kernel ABI (first version of the struct,
// Linux 6.13; the exit code since 6.15).
struct PidfdInfo {
  std::uint64_t mask;
  std::uint64_t cgroup;
  std::array<std::uint32_t, 11> ids;
  std::int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long pidfd_get_info = _IOWR(0xFF, 11, PidfdInfo);
constexpr std::uint64_t pidfd_info_exit = 1U << 3U;

// The path of this process's cgroup in the hierarchy that `line` of /proc/self/cgroup is about, or empty.
std::string cgroup_directory(const char* line = "0::", const char* root = "/sys/fs/cgroup") {
  const std::string groups = read_small_file("/proc/self/cgroup");
  const auto found = groups.find(line);
  if (found == std::string::npos) return {};
  const auto at = found + std::strlen(line);
  return root + groups.substr(at, std::min(groups.find('\n', at), groups.size()) - at);
}

// Returns how many CPUs' worth of time cgroup v2 grants: the least of all levels up to the root; 0: no limit.
double cgroup_quota() {
  double quota = 0;
  for (std::string directory = cgroup_directory();
       directory.size() >= std::string{"/sys/fs/cgroup"}.size();) {
    const std::string text = read_small_file(directory + "/cpu.max");
    double granted = 0;
    double period = 0;
    const char* const end = text.data() + text.size();
    const auto [rest, problem] = std::from_chars(text.data(), end, granted);
    if (problem == std::errc{} && rest != end && std::from_chars(rest + 1, end, period).ec == std::errc{} &&
        period > 0) {
      const double here = granted / period;
      quota = quota == 0 ? here : std::min(quota, here);
    }
    const auto slash = directory.rfind('/');
    if (slash == std::string::npos || directory == "/sys/fs/cgroup") break;
    directory.resize(slash);
  }
  return quota;
}

struct ProcessStatus {
  char state = '?';
  unsigned flags = 0;
};

// Of /proc/PID/stat: "PID (NAME) STATE PARENT GROUP SESSION TERMINAL ITS-GROUP FLAGS ...". The name may hold
// anything.
ProcessStatus look_at(std::uint32_t pid) noexcept try {
  ProcessStatus status;
  const std::string text = read_small_file("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = text.rfind(')');
  if (name_end == std::string::npos || text.size() <= name_end + 2) return status;
  status.state = text[name_end + 2];
  std::size_t at = name_end + 2;
  for (int field = 0; field < 6 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  if (at != std::string::npos) std::from_chars(text.data() + at + 1, text.data() + text.size(), status.flags);
  return status;
} catch (...) {
  return {};
}

}  // namespace

bool Process::dead() const noexcept { return wait_dead(std::chrono::steady_clock::time_point{}); }

bool Process::wait_dead(Deadline deadline) const noexcept {
  if (!pidfd_) return true;
  for (;;) {
    pollfd event{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    timespec left{};
    bool last = false;
    if (deadline) {
      const auto wait =
          std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - std::chrono::steady_clock::now())
              .count();
      last = wait <= 0 || deadline->time_since_epoch().count() == 0;
      if (!last)
        left = {.tv_sec = static_cast<time_t>(wait / 1'000'000'000),
                .tv_nsec = static_cast<long>(wait % 1'000'000'000)};
    }
    if (::ppoll(&event, 1, deadline ? &left : nullptr, nullptr) > 0) return true;
    if (last) return false;
  }
}

std::optional<ExitReason> to_exit_reason(int wait_status) {
  if (WIFEXITED(wait_status))
    return ExitReason{.kind = ExitReason::Kind::exited, .code = WEXITSTATUS(wait_status)};
  if (WIFSIGNALED(wait_status)) {
    return ExitReason{.kind = ExitReason::Kind::signalled,
                      .signal = WTERMSIG(wait_status),
                      .core_dumped = WCOREDUMP(wait_status) != 0};
  }
  return std::nullopt;
}

namespace {

std::optional<ExitReason> wait_for(int pidfd, int options) noexcept {
  siginfo_t info{};
  int result = 0;
  do {
    result =
        ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | __WALL | options);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) return ExitReason{.kind = ExitReason::Kind::exited, .code = info.si_status};
  return ExitReason{.kind = ExitReason::Kind::signalled,
                    .signal = info.si_status,
                    .core_dumped = info.si_code == CLD_DUMPED};
}

}  // namespace

std::optional<ExitReason> Process::look() const noexcept {
  if (!pidfd_ || !our_child_) return std::nullopt;
  return wait_for(pidfd_.get(), WNOWAIT);
}

std::optional<ExitReason> Process::reap() noexcept {
  if (!pidfd_) return std::nullopt;
  if (our_child_) {
    if (const auto reason = wait_for(pidfd_.get(), 0)) {
      our_child_ = false;
      return reason;
    }
  }
  PidfdInfo info{};
  info.mask = pidfd_info_exit;
  if (::ioctl(pidfd_.get(), pidfd_get_info, &info) == 0 && (info.mask & pidfd_info_exit) != 0)
    return to_exit_reason(info.exit_code);
  return std::nullopt;
}

void Process::signal(int number) const noexcept {
  if (pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

void Process::signal_group(int number) const noexcept {
  if (!pidfd_) return;
  // Linux 6.9 signals the group through the pidfd itself. Before, its number is safe while the process is not
  // reaped: a zombie keeps it, and a process that can be signalled exists.
  constexpr unsigned int process_group = 1U << 2U;
  if (number == SIGKILL) signal(number);
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, process_group) == 0) return;
  if (errno == EINVAL && ::syscall(SYS_pidfd_send_signal, pidfd_.get(), 0, nullptr, 0) == 0)
    ::kill(-static_cast<pid_t>(pid_), number);
  signal(number);
}

Descriptor open_pidfd(std::uint32_t pid) {
  const long fd =
      KINDRED_INJECTION_FAILS("fail.pidfd_open") ? -1 : ::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0);
  if (fd < 0) throw SystemError{"pidfd_open", errno, "watching pid " + std::to_string(pid)};
  return Descriptor{static_cast<int>(fd)};
}

void kill_and_reap(std::uint32_t pid) noexcept {
  ::kill(static_cast<pid_t>(pid), SIGKILL);
  while (::waitpid(static_cast<pid_t>(pid), nullptr, __WALL) < 0 && errno == EINTR) {}
}

Process watch_child(std::uint32_t pid) {
  try {
    return Process{pid, open_pidfd(pid), true};
  } catch (...) {
    kill_and_reap(pid);
    throw;
  }
}

namespace {
std::atomic<unsigned> harmless_threads{0};
}

void count_harmless_thread() noexcept { harmless_threads.fetch_add(1, std::memory_order_relaxed); }

bool is_stopped(std::uint32_t pid) noexcept { return look_at(pid).state == 'T'; }

bool is_ending(std::uint32_t pid) noexcept {
  constexpr unsigned exiting = 0x4;  // PF_EXITING of the kernel, the same since Linux 2.4
  const ProcessStatus status = look_at(pid);
  return status.state == 'Z' || status.state == 'X' || (status.flags & exiting) != 0;
}

std::uint64_t resident_bytes(std::uint32_t pid) noexcept try {
  const std::string text =
      read_small_file("/proc/" + (pid == 0 ? std::string{"self"} : std::to_string(pid)) + "/statm");
  const auto space = text.find(' ');
  std::uint64_t pages = 0;
  if (space == std::string::npos ||
      std::from_chars(text.data() + space + 1, text.data() + text.size(), pages).ec != std::errc{})
    return 0;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
} catch (...) {
  return 0;
}

std::uint64_t processor_nanoseconds(std::uint32_t pid) noexcept try {
  const std::string text = read_small_file("/proc/" + std::to_string(pid) + "/stat");
  // utime and stime are the fields 14 and 15, the 12th and 13th after the command's closing bracket.
  std::size_t at = text.rfind(')');
  for (int field = 0; field < 12 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  if (at == std::string::npos) return 0;
  std::uint64_t user = 0;
  std::uint64_t system = 0;
  const auto first = std::from_chars(text.data() + at + 1, text.data() + text.size(), user);
  if (first.ec != std::errc{} || first.ptr == text.data() + text.size()) return 0;
  std::from_chars(first.ptr + 1, text.data() + text.size(), system);
  return (user + system) * (1'000'000'000 / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)));
} catch (...) {
  return 0;
}

unsigned thread_count() noexcept try {
  const std::string text = read_small_file("/proc/self/stat");
  // The command's name may hold anything; the fields begin after its closing bracket. num_threads is field
  // 20, the 18th after it.
  std::size_t at = text.rfind(')');
  for (int field = 0; field < 18 && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  unsigned count = 1;
  if (at != std::string::npos) std::from_chars(text.data() + at + 1, text.data() + text.size(), count);
  count -= std::min(count - 1, harmless_threads.load(std::memory_order_relaxed));
#ifdef __SANITIZE_THREAD__
  if (count > 1) --count;  // ThreadSanitizer has one of its own
#endif
  return count;
} catch (...) {
  return 1;
}

unsigned usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  unsigned cpus = ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set))
                                                                : std::thread::hardware_concurrency();
  if (const double quota = cgroup_quota(); quota > 0)
    cpus = std::min(cpus, static_cast<unsigned>(std::ceil(quota)));
  return std::max(cpus, 1U);
}

std::uint64_t oom_kills() noexcept try {
  std::string text = read_small_file(cgroup_directory() + "/memory.events");
  if (text.empty())
    text =
        read_small_file(cgroup_directory(":memory:", "/sys/fs/cgroup/memory") + "/memory.oom_control");  // v1
  const auto at = text.find("oom_kill ");
  std::uint64_t count = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at + 9, text.data() + text.size(), count);
  return count;
} catch (...) {
  return 0;
}

void complain_on_stderr(const char* text) noexcept {
  [[maybe_unused]] const auto written = ::write(2, text, std::strlen(text));
}

void exit_now(int code) noexcept { ::_exit(code); }

std::string executable_path() {
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  return length <= 0 ? std::string{} : std::string{path.data(), static_cast<std::size_t>(length)};
}

}  // namespace kindred::internal
