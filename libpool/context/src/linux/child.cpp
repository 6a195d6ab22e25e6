#include "child.hpp"

#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio_ext.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/injection.hpp"
#include "numbered_entries.hpp"

namespace kindred::internal {
namespace {

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2U)
#endif

// Calls `act` for each open descriptor from `first` on; false: /proc does not list them all. `act` may close
// the descriptor: they come in the order of their numbers, so that skips none. Async-signal-safe.
template <class Act>
bool for_each_open(int first, const Act& act) noexcept {
  const int list = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (list < 0) return false;
  const bool whole = for_each_numbered_entry<4096>(list, [&](int fd) {
    if (fd >= first && fd != list) act(fd);
  });
  ::close(list);
  return whole;
}

// close_range is Linux 5.9, its CLOEXEC flag 5.11. Below that, each one that is open is asked: the limit may
// be a thousand million.
void close_from(unsigned first, unsigned flags) noexcept {
  if (::syscall(SYS_close_range, first, ~0U, flags) == 0) return;
  const auto act = [flags](int fd) {
    if (flags == 0) {
      ::close(fd);
    } else {
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
  };
  if (for_each_open(static_cast<int>(first), act)) return;
  const long limit = ::sysconf(_SC_OPEN_MAX);
  for (int fd = static_cast<int>(first); fd < (limit > 0 ? limit : 1024); ++fd) act(fd);
}

// Moves both out of the way first: either may sit on the other's place.
bool to_their_numbers(int socket, int lifeline) noexcept {
  const int high_socket = ::fcntl(socket, F_DUPFD_CLOEXEC, 10);
  const int high_lifeline = ::fcntl(lifeline, F_DUPFD_CLOEXEC, 10);
  if (high_socket < 0 || high_lifeline < 0) return false;
  if (::dup2(high_socket, worker_fd::socket) < 0 || ::dup2(high_lifeline, worker_fd::lifeline) < 0)
    return false;
  ::close(high_socket);
  ::close(high_lifeline);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return false;
  ::dup2(null, 0);
  for (const int output : {1, 2}) {
    if (::fcntl(output, F_GETFD) < 0) ::dup2(null, output);
  }
  if (null > 2) ::close(null);
  return true;
}

/// The lines of /proc/self/status. Allocates nothing.
class OwnStatus {
 public:
  OwnStatus() noexcept {
    const Descriptor file{::open("/proc/self/status", O_RDONLY | O_CLOEXEC)};
    if (file && ::read(file.get(), text_.data(), text_.size() - 1) < 0) text_[0] = '\0';
  }
  /// The number behind `label`, which begins with a line's end; nothing where it is not there.
  [[nodiscard]] std::optional<std::uint64_t> number(const char* label, int base) const noexcept {
    const char* const found = std::strstr(text_.data(), label);
    if (found == nullptr) return std::nullopt;
    char* end = nullptr;
    const auto number = std::strtoull(found + std::strlen(label), &end, base);
    if (*end != '\n') return std::nullopt;  // cut off at the end of what was read
    return number;
  }

 private:
  std::array<char, 8192> text_{};
};

}  // namespace

static_assert(sizeof(sigset_t) <= 128);

SignalsBlocked::SignalsBlocked() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::memcpy(saved_, &before, sizeof before);
}

SignalsBlocked::~SignalsBlocked() {
  sigset_t before;
  std::memcpy(&before, saved_, sizeof before);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

std::pair<Descriptor, Descriptor> make_pipe() {
  std::array<int, 2> ends{};
  if (KINDRED_INJECTION_FAILS("fail.pipe") || ::pipe2(ends.data(), O_CLOEXEC) != 0)
    throw SystemError{"pipe2", errno, "starting a worker"};
  std::pair<Descriptor, Descriptor> result{Descriptor{ends[0]}, Descriptor{ends[1]}};
  for (Descriptor* const end : {&result.first, &result.second}) {
    if (end->get() > 2) continue;
    const int copy = ::fcntl(end->get(), F_DUPFD_CLOEXEC, 3);
    if (copy < 0) throw SystemError{"fcntl(F_DUPFD_CLOEXEC)", errno, "starting a worker"};
    *end = Descriptor{copy};
  }
  return result;
}

void keep_standard_places() noexcept {
  for (const int place : {0, 1, 2}) {
    if (::fcntl(place, F_GETFD) >= 0) continue;
    const int null = ::open("/dev/null", O_RDWR);
    if (null > place) ::close(null);  // another thread was faster
  }
}

std::uint32_t fork_process() {
  const pid_t pid = KINDRED_INJECTION_FAILS("fail.fork") ? -1 : ::fork();
  if (pid < 0) throw SystemError{"fork", errno, "starting a process"};
  return static_cast<std::uint32_t>(pid);
}

void reset_signals() noexcept {
  struct sigaction standard{};
  standard.sa_handler = SIG_DFL;
  // Few signals have another action, and each start of a worker would pay for all 64.
  const OwnStatus status;
  constexpr std::uint64_t all = ~std::uint64_t{0};
  const auto others =
      status.number("\nSigIgn:", 16).value_or(all) | status.number("\nSigCgt:", 16).value_or(all);
  for (int number = 1; number < NSIG; ++number) {
    if ((others >> (number - 1) & 1) != 0)
      ::sigaction(number, &standard, nullptr);  // fails for SIGKILL and SIGSTOP, which have no other
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

void ignore_interrupts(bool also_terminate) noexcept {
  struct sigaction ignored{};
  ignored.sa_handler = SIG_IGN;
  ::sigaction(SIGINT, &ignored, nullptr);
  if (!also_terminate) return;
  for (const int number : {SIGTERM, SIGHUP, SIGQUIT, SIGTSTP}) ::sigaction(number, &ignored, nullptr);
}

void lead_own_session() noexcept { ::setsid(); }

bool die_with_starter(std::uint32_t parent) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  return parent_process_id() == parent;  // Crash: it died before the line above
}

void prove_linker_is_free() noexcept {
  const itimerval limit{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_usec = 250'000}};
  ::setitimer(ITIMER_REAL, &limit, nullptr);
  ::dl_iterate_phdr([](dl_phdr_info*, std::size_t, void*) { return 1; }, nullptr);
  const itimerval none{};
  ::setitimer(ITIMER_REAL, &none, nullptr);
}

void name_process(const char* name) noexcept { ::prctl(PR_SET_NAME, name); }

void close_places_at_exec() noexcept {
  ::fcntl(worker_fd::socket, F_SETFD, FD_CLOEXEC);
  ::fcntl(worker_fd::lifeline, F_SETFD, FD_CLOEXEC);
}

bool take_places(int socket, int lifeline) noexcept {
  if (!to_their_numbers(socket, lifeline)) return false;
  close_places_at_exec();
  close_from(worker_fd::lifeline + 1, 0);
  return true;
}

bool take_places_for_exec(int socket, int lifeline) noexcept {
  if (!to_their_numbers(socket, lifeline)) return false;
  close_from(worker_fd::lifeline + 1, CLOSE_RANGE_CLOEXEC);
  return true;
}

bool bind_to_lifeline(int lifeline) noexcept {
  ::fcntl(lifeline, F_SETOWN, -::getpgrp());
  ::fcntl(lifeline, F_SETSIG, SIGKILL);
  ::fcntl(lifeline, F_SETFL, ::fcntl(lifeline, F_GETFL) | O_ASYNC);
  // Crash: a parent that died before the line above sent no signal; but its end of the lifeline is closed,
  // which this look sees.
  pollfd event{.fd = lifeline, .events = POLLIN, .revents = 0};
  return ::poll(&event, 1, 0) == 0;
}

void be_continued_by_lifeline(int lifeline) noexcept { ::fcntl(lifeline, F_SETSIG, SIGCONT); }

void end_own_group() noexcept {
  ::kill(0, SIGKILL);
  ::_exit(0);
}

void discard_inherited_output() noexcept {
  ::__fpurge(stdout);
  ::__fpurge(stderr);
}

void flush_output() noexcept {
  std::fflush(stdout);
  std::fflush(stderr);
}

void unbuffer_output() noexcept {
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  std::setvbuf(stderr, nullptr, _IONBF, 0);
}

void redirect(int from, int to) noexcept { ::dup2(from, to); }
std::uint32_t parent_process_id() noexcept { return static_cast<std::uint32_t>(::getppid()); }

bool same_program(std::uint32_t pid) noexcept {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/%u/exe", pid);
  struct stat theirs{};
  struct stat mine{};
  if (::stat("/proc/self/exe", &mine) != 0) return false;
  if (::stat(path.data(), &theirs) != 0) {
    // Not for us to see: the parent gave up privileges (setuid), or is not dumpable. It gains nothing by
    // lying, unless our own exec gave us privileges that it has not (a set-uid program, file capabilities);
    // and build ids are compared in the handshake.
    return (errno == EACCES || errno == EPERM) && ::getauxval(AT_SECURE) == 0;
  }
  return theirs.st_dev == mine.st_dev && theirs.st_ino == mine.st_ino;
}

bool is_message_socket(int fd) noexcept {
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

void complain(const char* text) noexcept {
  [[maybe_unused]] const auto written = ::write(2, text, std::strlen(text));
}

std::vector<std::string> copy_environment() {
  std::vector<std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) variables.emplace_back(*entry);
  return variables;
}

std::uint32_t file_mode_mask() noexcept {
  // umask(2) tells the mask only while it sets another one, which other threads would see.
  if (const auto shown = OwnStatus{}.number("\nUmask:", 8)) return static_cast<std::uint32_t>(*shown);
  const mode_t mask = ::umask(077);
  ::umask(mask);
  return mask;
}

void use_environment(const std::vector<std::string>& environment) {
  static std::vector<char*> pointers;
  pointers.clear();
  for (const auto& variable : environment) pointers.push_back(const_cast<char*>(variable.c_str()));
  pointers.push_back(nullptr);
  environ = pointers.data();
}

void apply_options(const WorkerOptions& options, const std::string& cwd, std::uint32_t umask) {
  ::umask(umask);
  for (const auto& [name, value] : options.env) {
    if (value) {
      ::setenv(name.c_str(), value->c_str(), 1);
    } else {
      ::unsetenv(name.c_str());
    }
  }
  const std::string& directory = options.cwd.empty() ? cwd : options.cwd;
  if (!directory.empty() && ::chdir(directory.c_str()) != 0 && !options.cwd.empty()) {
    throw SystemError{"chdir", errno, "entering WorkerOptions::cwd '" + directory + "'"};
  }
  if (options.nice != 0) {
    errno = 0;
    if (::nice(options.nice) == -1 && errno != 0) {
      throw SystemError{"nice", errno, "setting WorkerOptions::nice " + std::to_string(options.nice)};
    }
  }
  if (!options.cpu_affinity.empty()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::string list;
    for (const unsigned cpu : options.cpu_affinity) {
      if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
      list += (list.empty() ? "" : ", ") + std::to_string(cpu);
    }
    if (::sched_setaffinity(0, sizeof set, &set) != 0) {
      throw SystemError{"sched_setaffinity", errno, "setting WorkerOptions::cpu_affinity {" + list + "}"};
    }
  }
  for (const auto& [resource, value] : options.rlimits) {
    rlimit limit{};
    const auto which = static_cast<__rlimit_resource>(resource);
    if (::getrlimit(which, &limit) == 0) {
      limit.rlim_cur = value;
      if (limit.rlim_max != RLIM_INFINITY && value > limit.rlim_max) limit.rlim_max = value;
      if (::setrlimit(which, &limit) == 0) continue;
    }
    throw SystemError{
        "setrlimit", errno,
        "setting WorkerOptions::rlimits[" + std::to_string(resource) + "] to " + std::to_string(value)};
  }
}

void wait_readable(const int* fds, bool* ready, std::size_t count, Deadline deadline) noexcept {
  std::vector<pollfd> events(count);
  for (std::size_t i = 0; i < count; ++i) events[i] = {.fd = fds[i], .events = POLLIN, .revents = 0};
  timespec left{};
  if (deadline) {
    const auto wait = std::max<std::int64_t>(
        0, std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - std::chrono::steady_clock::now())
               .count());
    left = {.tv_sec = static_cast<time_t>(wait / 1'000'000'000),
            .tv_nsec = static_cast<long>(wait % 1'000'000'000)};
  }
  const int result = ::ppoll(events.data(), events.size(), deadline ? &left : nullptr, nullptr);
  for (std::size_t i = 0; i < count; ++i) ready[i] = result > 0 && events[i].revents != 0;
}

}  // namespace kindred::internal
