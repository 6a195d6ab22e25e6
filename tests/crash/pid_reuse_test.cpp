// Process numbers are used again: dead workers' numbers, each at once, are given to processes that are not
// the pool's. Whatever the pool does afterwards, no signal may reach them. In a process number space of its
// own, where the number of the next process can be chosen, so that nobody else is concerned. Row 19.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

constexpr int cannot_be_done = 77;

void leave() { ::_exit(0); }
void stay() {
  for (;;) ::pause();
}

// What a foreign process does: leads a group of its own number, as a worker does, and ends with 0 when it is
// asked to by SIGRTMAX from its parent. Any other signal is told by its exit status. All signals are blocked
// when it begins.
[[noreturn]] void be_foreign(pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::close_range(3, ~0U, 0);
  sigset_t all;
  ::sigfillset(&all);
  siginfo_t info{};
  for (;;) {
    if (::sigwaitinfo(&all, &info) < 0) continue;
    if (info.si_signo == SIGRTMAX && info.si_code == SI_QUEUE && info.si_pid == parent) ::_exit(0);
    // A signal from outside this space (its sender's number here is 0) is not the pool's: it comes from other
    // tests, which know some number of this machine, or from a program that stops and continues all
    // processes.
    if (info.si_code <= 0 && info.si_pid == 0) continue;
    ::dprintf(2, "process %d met signal %d (code %d) of process %d\n", static_cast<int>(::getpid()),
              info.si_signo, info.si_code, static_cast<int>(info.si_pid));
    ::_exit(info.si_signo);
  }
}

/// The host of the pool: it waits for all children, as some programs do, so a worker of `spawn` is reaped
/// before the pool knows of its death. Each number that is free is taken at once.
class Host {
 public:
  Host() : next_{::open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC)} {
    if (next_ < 0 || !choose(::getpid() + 1000)) {
      std::fprintf(stderr, "the number of the next process cannot be chosen: ns_last_pid: %s\n",
                   std::strerror(errno));
      ::_exit(cannot_be_done);
    }
    waits_ = std::thread{[this] { wait_for_all(); }};
  }
  ~Host() {
    cease_ = true;
    waits_.join();
    ::close(next_);
  }
  /// Gives this number to another process. False where a third one has taken it.
  bool give_away(pid_t pid) {
    for (int tries = 0; tries < 2000; ++tries) {
      {
        const std::scoped_lock lock{mutex_};
        if (foreign_.contains(pid)) return true;
        if (::kill(pid, 0) != 0 && errno == ESRCH && make_foreign(pid)) return true;
      }
      std::this_thread::sleep_for(1ms);
    }
    return false;
  }
  /// Numbers that the waiting thread gives away as soon as it has reaped their owners.
  void expect(pid_t pid) {
    const std::scoped_lock lock{mutex_};
    expected_ = pid;
  }
  /// Ends all foreign processes. Returns how many there were, and how many had met a signal.
  std::pair<int, int> finish() {
    std::unique_lock lock{mutex_};
    const int all = static_cast<int>(foreign_.size());
    for (const auto& [pid, status] : foreign_) {
      if (!status) ::sigqueue(pid, SIGRTMAX, {});
    }
    int struck = 0;
    for (auto& [pid, status] : foreign_) {
      while (!status) {
        lock.unlock();
        std::this_thread::sleep_for(1ms);
        lock.lock();
      }
      if (*status == 0) continue;
      ++struck;
      std::fprintf(stderr, "process %d, which is not the pool's, met signal %d\n", pid,
                   WIFSIGNALED(*status) ? WTERMSIG(*status) : WEXITSTATUS(*status));
    }
    return {all, struck};
  }

 private:
  bool choose(pid_t pid) const {
    const auto text = std::to_string(pid - 1);
    return ::pwrite(next_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  }
  bool make_foreign(pid_t wanted) {
    const pid_t parent = ::getpid();
    if (!choose(wanted)) return false;
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t made = ::fork();
    if (made == 0) be_foreign(parent);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (made <= 0) return false;
    if (made == wanted) return foreign_.emplace(made, std::nullopt), true;
    ::kill(made, SIGKILL);  // a process of the pool was faster
    return false;
  }
  void wait_for_all() {
    while (!cease_) {
      {
        // Under the lock already when the number becomes free: else the other thread may give it away before
        // it is noted whose end this was.
        const std::scoped_lock lock{mutex_};
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG | __WALL);
        if (pid > 0) {
          if (const auto place = foreign_.find(pid); place != foreign_.end())
            place->second = status;
          else if (pid == expected_)
            (void)make_foreign(pid);
          continue;
        }
      }
      ::usleep(50);
    }
  }

  int next_;
  std::mutex mutex_;
  std::map<pid_t, std::optional<int>> foreign_;  // with how they ended
  pid_t expected_ = 0;
  std::atomic<bool> cease_{false};
  std::thread waits_;
};

void run(StartMethod method, int rounds) {
  Host host;
  int given_away = 0;
  {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method,
                              .max_workers = 1,
                              .restart_limit = {.count = 1'000'000},
                              .terminate_grace = 30ms}};
    pool.logger().add_sink([](const LogRecord&) {});
    for (int round = 0; round < rounds; ++round) {
      const auto pid = static_cast<pid_t>(pool.submit({.retries = 5}, pid_of_worker).get());
      host.expect(pid);
      std::optional<Future<void>> last;
      switch (round % 6) {
        case 0: ::kill(pid, SIGKILL); break;  // from outside, while it is idle
        case 1: last = pool.submit(kill_itself); break;
        case 2:
          last = pool.submit({.timeout = 5ms}, stay);
          break;                                  // ends by SIGTERM; its SIGKILL would come 30 ms later
        case 3: last = pool.submit(stay); break;  // cancelled below
        case 4: last = pool.submit({.timeout = 20ms}, leave); break;
        default: last = pool.submit({.timeout = 20ms}, kill_itself);  // its limit would come when it is dead
      }
      if (round % 6 == 3) {
        while (!last->running()) std::this_thread::sleep_for(100us);
        (void)last->cancel(Running::kill);
      }
      given_away += host.give_away(pid) ? 1 : 0;
      if (last) {
        (void)last->cancel(Running::kill);
        last->wait();
        (void)last->cancel(Running::kill);
      }
      if (round % 6 == 2 || round % 6 >= 4) std::this_thread::sleep_for(50ms);  // for signals that come late
    }
    const auto pid = static_cast<pid_t>(pool.submit({.retries = 5}, pid_of_worker).get());
    host.expect(pid);
    ::kill(pid, SIGKILL);
    given_away += host.give_away(pid) ? 1 : 0;
    rounds % 2 == 0 ? pool.kill_workers() : pool.terminate_workers();
  }
  const auto [foreign, struck] = host.finish();
  std::printf("%d %d %d\n", given_away, foreign, struck);
  if (struck != 0) throw std::runtime_error{"a signal reached a process that is not the pool's"};
}

// A process number space of its own; `body` runs in its second process, whose exit status is that of all.
void in_own_pid_space(const std::function<void()>& body) {
  const auto refuse = [](const char* what) {
    std::fprintf(stderr, "no process number space of its own is to be had: %s: %s\n", what,
                 std::strerror(errno));
    ::_exit(cannot_be_done);
  };
  if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0 &&
      ::unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) != 0)
    refuse("unshare");
  const pid_t first = ::fork();
  if (first < 0) refuse("fork");
  if (first != 0) {
    int status = 0;
    ::waitpid(first, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("proc", "/proc", "proc", 0, nullptr) != 0)
    refuse("mount /proc");
  const pid_t second = ::fork();
  if (second < 0) refuse("fork");
  if (second == 0) {
    int code = 0;
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      code = 99;
    }
    std::fflush(stdout);
    ::_exit(code);
  }
  for (int status = 0;;) {  // who is the first of a space is everybody's parent in the end
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended == second) ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 98);
  }
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "processes that are given the numbers of dead workers, at once, never meet a signal of the pool's (row 19)") {
  KINDRED_SKIP_UNDER_TSAN("it ends forks of a program with threads");
  ResourceAudit audit;
  const int rounds = long_run() ? 600 : 18;
  const auto outcome =
      run_forked([&] { in_own_pid_space([&] { run(method, rounds); }); }, long_run() ? 300s : 50s);
  if (outcome.code == cannot_be_done) KINDRED_SKIP(outcome.err.substr(0, outcome.err.find('\n')));
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  int given_away = 0, foreign = 0, struck = -1;
  CHECK(std::sscanf(outcome.out.c_str(), "%d %d %d", &given_away, &foreign, &struck) == 3);
  CHECK(given_away == foreign);
  CHECK(given_away > rounds * 3 / 4);  // now and then a new worker is faster
  CHECK(struck == 0);
  scorecard(19,
            fmt::format(
                "{} of {} numbers of dead workers given to other processes at once: {} signals reached them",
                given_away, rounds + 1, struck));
}
