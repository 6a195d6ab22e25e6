// The k-th call of each kind fails, for every k until none is reached: all that a pool does works all the
// same, or fails with a kindred::Error that names the call and its errno; nothing hangs, and nothing is left.
// Rows 22 to 24 of the reliability table.
//
// The calls are caught where the libraries leave for the C library: this program has functions of the same
// names.
// ctest: TIMEOUT 5000 COST 200
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

struct Failing {
  std::atomic<const char*> call{nullptr};  // a literal of ours: compared by its text
  std::atomic<int> number{0};              // which one is to fail, from 1
  std::atomic<int> seen{0};
  std::atomic<int> error{0};
  std::atomic<int> parent{0};       // the process that is meant, or
  std::atomic<bool> others{false};  // all but it
};
// Shared with the processes that are forked from this one.
Failing& failing() {
  static auto* const shared =
      new (::syscall(SYS_mmap, nullptr, sizeof(Failing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0) == -1
               ? std::malloc(sizeof(Failing))
               : reinterpret_cast<void*>(::syscall(SYS_mmap, nullptr, sizeof(Failing), PROT_READ | PROT_WRITE,
                                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0))) Failing;
  return *shared;
}
[[maybe_unused]] Failing& made_early = failing();

[[maybe_unused]] bool fails(const char* call) noexcept {
  Failing& now = failing();
  const char* const wanted = now.call.load();
  if (wanted == nullptr || std::strcmp(wanted, call) != 0) return false;
  if ((static_cast<int>(::syscall(SYS_getpid)) != now.parent.load()) != now.others.load()) return false;
  if (now.seen.fetch_add(1) + 1 != now.number.load()) return false;
  errno = now.error.load();
  return true;
}

template <class F>
F real(const char* name) noexcept {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

#if KINDRED_TEST_CATCHES_CALLS
#define KINDRED_CATCH(result, name, parameters, arguments)      \
  extern "C" result name parameters {                           \
    static const auto next = real<result(*) parameters>(#name); \
    return fails(#name) ? (result) - 1 : next arguments;        \
  }
KINDRED_CATCH(pid_t, fork, (), ())
KINDRED_CATCH(int, memfd_create, (const char* name, unsigned flags), (name, flags))
KINDRED_CATCH(int, fallocate, (int fd, int mode, off_t at, off_t bytes), (fd, mode, at, bytes))
KINDRED_CATCH(void*, mmap, (void* at, size_t bytes, int protection, int flags, int fd, off_t offset),
              (at, bytes, protection, flags, fd, offset))
KINDRED_CATCH(int, eventfd, (unsigned count, int flags), (count, flags))
KINDRED_CATCH(int, socketpair, (int domain, int type, int protocol, int* fds), (domain, type, protocol, fds))
KINDRED_CATCH(int, pipe2, (int* fds, int flags), (fds, flags))
KINDRED_CATCH(int, epoll_create1, (int flags), (flags))
extern "C" int epoll_ctl(int epoll, int what, int fd, struct epoll_event* event) noexcept {
  static const auto next = real<int (*)(int, int, int, struct epoll_event*)>("epoll_ctl");
  return what != EPOLL_CTL_DEL && fails("epoll_ctl")
             ? -1
             : next(epoll, what, fd, event);  // to take something out never fails
}
KINDRED_CATCH(ssize_t, sendmsg, (int fd, const struct msghdr* message, int flags), (fd, message, flags))
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                              void* argument) {
  static const auto next =
      real<int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  return fails("pthread_create") ? errno : next(thread, attributes, start, argument);
}
extern "C" int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  static const auto next = real<int (*)(int, int, ...)>("fcntl");
  const bool makes = command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == 1033 /* F_ADD_SEALS */;
  return makes && fails("fcntl") ? -1 : next(fd, command, argument);
}
extern "C" long syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long word[6];
  for (long& one : word) one = va_arg(arguments, long);
  va_end(arguments);
  static const auto next = real<long (*)(long, ...)>("syscall");
  if (number == SYS_pidfd_open && fails("pidfd_open")) return -1;
  return next(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
#endif

namespace {

struct Caught {
  const char* name;
  int error;
};
const Caught calls[] = {{"fork", EAGAIN},          {"memfd_create", EMFILE},  {"fallocate", ENOSPC},
                        {"mmap", ENOMEM},          {"eventfd", EMFILE},       {"socketpair", EMFILE},
                        {"pipe2", EMFILE},         {"epoll_create1", EMFILE}, {"epoll_ctl", ENOSPC},
                        {"fcntl", EMFILE},         {"pidfd_open", EMFILE},    {"sendmsg", ENOBUFS},
                        {"pthread_create", EAGAIN}};

int number(int value) {
  log_info("number {}", value);
  return value;
}
void kill_worker() { ::raise(SIGKILL); }
std::vector<int> twice(std::vector<int> values) {
  for (int& value : values) value *= 2;
  return values;
}

struct Lived {
  int errors = 0;
  std::string wrong;  // an error that is none of ours
  std::string words;  // what ours said, and the log
};

template <class F>
void attempt(Lived& outcome, F&& step) {
  try {
    step();
  } catch (const Error& error) {
    ++outcome.errors;
    outcome.words += dynamic_cast<const std::exception&>(error).what();
    if (const auto* const broken = dynamic_cast<const BrokenProcessPool*>(&error);
        broken != nullptr && broken->cause()) {
      try {
        std::rethrow_exception(broken->cause());
      } catch (const std::exception& cause) {
        outcome.words += std::string{" / "} + cause.what();
      }
    }
    outcome.words += "\n";
  } catch (const std::bad_alloc&) {
    ++outcome.errors;  // the language's own word for it
    outcome.words += std::string{std::strerror(ENOMEM)} + "\n";
  } catch (const std::exception& error) {
    outcome.wrong += std::string{error.what()} + "\n";
  }
}

// Most of what a pool does.
Lived live(StartMethod method) {
  Lived outcome;
  std::mutex mutex;
  std::string warnings;  // the collector's thread writes them
  attempt(outcome, [&] {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    attempt(outcome, [&] {
      pool.logger().add_sink([&](const LogRecord& record) {
        const std::scoped_lock lock{mutex};
        if (record.level >= Level::warn) warnings += record.message + "\n";
      });
    });
    const auto check = [&](auto&& submitted, const auto& expected) {
      attempt(outcome, [&] {
        auto future = submitted();
        if (future.get() != expected) outcome.wrong += "another value\n";
      });
    };
    check([&] { return pool.submit(number, 1); }, 1);
    attempt(outcome, [&] {
      auto future = pool.submit(kill_worker);
      try {
        future.get();
        outcome.wrong += "a kill without a loss\n";
      } catch (const WorkerLost&) {}
    });
    check([&] { return pool.submit(number, 2); }, 2);
    std::vector<int> many(50'000);
    std::iota(many.begin(), many.end(), 0);
    check([&] { return pool.submit(twice, many); }, twice(many));
    attempt(outcome, [&] {
      const auto event = pool.make_event();
      pool.submit([](Event set) { set.set(); }, event).get();
      event.wait();
    });
    check([&] { return pool.submit({.timeout = 10s}, number, 3); }, 3);
    attempt(outcome, [&] { pool.shutdown(); });
  });
  outcome.words += warnings;
  return outcome;
}

// Every k of one call. Returns how many were made to fail.
int try_all(StartMethod method, const Caught& call, bool others, int most) {
  CAPTURE(std::string{call.name});
  CAPTURE(others);
  Failing& now = failing();
  int reached = 0;
  for (int k = 1; k <= most; ++k) {
    CAPTURE(k);
    // Boost.Asio leaves a descriptor behind where its reactor cannot be made whole, and Boost.Process where a
    // pidfd cannot be watched.
    const std::string name{call.name};
    std::optional<ResourceAudit> audit;
    if (method == StartMethod::fork || (name != "eventfd" && name != "epoll_create1" && name != "epoll_ctl"))
      audit.emplace();
    now.parent = ::getpid();
    now.others = others;
    now.number = k;
    now.seen = 0;
    now.error = call.error;
    now.call = call.name;
    if (std::getenv("KINDRED_TEST_VERBOSE") != nullptr)
      std::fprintf(stderr, "%s %s %d\n", std::string{to_string(method)}.c_str(), call.name, k);
    const Lived outcome = live(method);
    now.call = nullptr;
    const bool struck = now.seen >= k;
    CHECK_MESSAGE(outcome.wrong.empty(), outcome.wrong);
    if (outcome.errors != 0 && struck && !others) {
      const bool named =
          contains(outcome.words, call.name) && contains(outcome.words, std::strerror(call.error));
      CHECK_MESSAGE(named, outcome.words);
    }
    if (!struck) CHECK_MESSAGE(outcome.errors == 0, outcome.words);
    if (audit) audit->finish();
    if (!struck) break;
    ++reached;
  }
  return reached;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "whichever call of the parent fails, all works, or an error names it; nothing hangs, nothing is left (row 22)") {
  if (!KINDRED_TEST_CATCHES_CALLS) KINDRED_SKIP("a sanitizer catches these calls itself");
  const test::Deadline deadline{long_run() ? 1500s : 120s};
  std::string text;
  int sum = 0;
  for (const Caught& call : calls) {
    const int reached = try_all(method, call, false, long_run() ? 10'000 : 3);
    sum += reached;
    text += ", " + std::string{call.name} + " " + std::to_string(reached);
  }
  CHECK(sum > 12);
  MESSAGE("failing calls of the parent: ", text.substr(2));
  scorecard(22, fmt::format("{} calls of the parent failed, one at a time", sum));
}

TEST_CASE(
    "whichever call of a fork server or worker fails, all works, or there is an error; nothing hangs, nothing is left (row 22)") {
  if (!KINDRED_TEST_CATCHES_CALLS) KINDRED_SKIP("a sanitizer catches these calls itself");
  const test::Deadline deadline{long_run() ? 1500s : 120s};
  std::string text;
  int sum = 0;
  for (const Caught& call : calls) {
    const int reached = try_all(StartMethod::fork, call, true, long_run() ? 10'000 : 2);
    sum += reached;
    text += ", " + std::string{call.name} + " " + std::to_string(reached);
  }
  CHECK(sum > 5);
  MESSAGE("failing calls of servers and workers: ", text.substr(2));
  scorecard(22, fmt::format("{} calls of servers and workers failed, one at a time [fork]", sum));
}

namespace {

// A pool under a limit, then one after it: the first may fail with errors of ours, the second may not fail.
void with_limit(StartMethod method, int resource, rlim_t limit,
                const std::function<std::string(const Lived&)>& judge) {
  const auto outcome = run_forked(
      [&] {
        rlimit before{};
        if (::getrlimit(static_cast<__rlimit_resource>(resource), &before) != 0)
          throw std::runtime_error{"getrlimit"};
        const rlimit lowered{.rlim_cur = limit, .rlim_max = before.rlim_max};
        if (::setrlimit(static_cast<__rlimit_resource>(resource), &lowered) != 0)
          throw std::runtime_error{"setrlimit"};
        const Lived limited = live(method);
        if (::setrlimit(static_cast<__rlimit_resource>(resource), &before) != 0)
          throw std::runtime_error{"setrlimit back"};
        if (!limited.wrong.empty()) throw std::runtime_error{"under the limit: " + limited.wrong};
        if (const auto complaint = judge(limited); !complaint.empty())
          throw std::runtime_error{complaint + ": " + limited.words};
        const Lived after = live(method);
        if (!after.wrong.empty() || after.errors != 0)
          throw std::runtime_error{"after the limit: " + after.wrong + after.words};
        // A process that was ended may be listed for a moment yet. The limit of `run_forked` ends this.
        while (!descendants(::getpid()).empty()) std::this_thread::yield();
      },
      50s);
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}
std::string any_of_ours(const Lived&) { return {}; }
std::size_t open_now() {
  std::size_t count = 0;
  for (int fd = 0; fd < 4096; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1U : 0U;
  return count;
}
std::size_t address_space() {
  std::size_t pages = 0;
  if (std::FILE* const file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%zu", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return pages * 4096;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "without descriptors, memory or room for shared memory there are clear errors, and all works when they are back (rows 23, 24)") {
  if (!KINDRED_TEST_CATCHES_CALLS) KINDRED_SKIP("a sanitizer's shadow is larger than any limit");
  const auto open = open_now();
  for (const unsigned more : {0U, 2U, 5U, 8U, 12U, 16U, 20U, 26U}) {
    CAPTURE(more);
    with_limit(method, RLIMIT_NOFILE, open + more, [](const Lived& outcome) {
      return outcome.errors == 0 || contains(outcome.words, "ulimit -n") ||
                     contains(outcome.words, std::strerror(EMFILE))
                 ? std::string{}
                 : "no word of descriptors";
    });
  }
  for (const std::size_t megabytes : {1U, 4U, 24U}) {
    CAPTURE(megabytes);
    with_limit(method, RLIMIT_AS, address_space() + (megabytes << 20U), any_of_ours);
  }
  with_limit(method, RLIMIT_FSIZE, 64 * 1024, [](const Lived& outcome) {
    return outcome.errors != 0 && contains(outcome.words, "bytes of shared memory")
               ? std::string{}
               : "no word of shared memory";
  });
  scorecard(23, "RLIMIT_NOFILE at 8 values, RLIMIT_AS at 3: clear errors, and recovery");
  scorecard(24, "no room for a segment: an error with sizes, 0 signals, and recovery");
}

TEST_CASE_EACH_START_METHOD(
    "without processes to be had there are clear errors, and all works when there are some (row 23)") {
  const auto outcome = run_forked(
      [&] {
        // The limit does not hold for root: another user, whom nobody else is.
        if (::getuid() == 0 &&
            (::setresgid(61234, 61234, 61234) != 0 || ::setresuid(61234, 61234, 61234) != 0))
          throw std::runtime_error{"setresuid"};
        ::prctl(PR_SET_DUMPABLE, 1);
        rlimit before{};
        ::getrlimit(RLIMIT_NPROC, &before);
        const rlimit none{.rlim_cur = 1, .rlim_max = before.rlim_max};
        ::setrlimit(RLIMIT_NPROC, &none);
        const Lived limited = live(method);
        ::setrlimit(RLIMIT_NPROC, &before);
        if (!limited.wrong.empty() || limited.errors == 0)
          throw std::runtime_error{"under the limit: " + limited.wrong + limited.words};
        if (!contains(limited.words, std::strerror(EAGAIN)))
          throw std::runtime_error{"no word of processes: " + limited.words};
        const Lived after = live(method);
        if (!after.wrong.empty() || after.errors != 0)
          throw std::runtime_error{"after the limit: " + after.wrong + after.words};
      },
      50s);
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  scorecard(23, "RLIMIT_NPROC 1: clear errors, and recovery");
}
