// Figures that want the machine for themselves: how soon a death is told (row 8), and hand-overs that nothing
// but a timeout would have saved (row 30).
// ctest: LABELS long RUN_SERIAL ON TIMEOUT 1800
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <ctime>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

// Of the parent and of all workers: shared with all that is forked from this process. Those who wait for a
// result (futex, ppoll), submit and wait for room (a condition variable), or wait for a call (futex). Not the
// supervisor, whose thread has timers to keep (epoll).
struct Waits {
  std::atomic<bool> have_no_time{false};     // a wait ends by a wake-up or never
  std::atomic<std::uint64_t> had_a_time{0};  // which was taken away
  std::atomic<std::uint64_t> ended_by_time{0};
  std::atomic<std::uint64_t> supervisor_looked{0};  // by its timer
};
Waits& waits() {
  static auto* const shared = new (reinterpret_cast<void*>(::syscall(
      SYS_mmap, nullptr, sizeof(Waits), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) Waits;
  return *shared;
}
[[maybe_unused]] Waits& made_early = waits();

template <class F>
[[maybe_unused]] F real(const char* name) noexcept {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// The library's waits come by here: it calls these by name.
#if KINDRED_TEST_CATCHES_CALLS
extern "C" long syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long word[6];
  for (long& one : word) one = va_arg(arguments, long);
  va_end(arguments);
  static const auto next = real<long (*)(long, ...)>("syscall");
  if (number == SYS_futex && (word[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && word[3] != 0 &&
      waits().have_no_time) {
    ++waits().had_a_time;
    word[3] = 0;
  }
  const long result = next(number, word[0], word[1], word[2], word[3], word[4], word[5]);
  if (number == SYS_futex && (word[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && word[3] != 0 && result != 0 &&
      errno == ETIMEDOUT)
    ++waits().ended_by_time;
  return result;
}
extern "C" int ppoll(pollfd* fds, nfds_t count, const timespec* time, const sigset_t* mask) {
  static const auto next = real<int (*)(pollfd*, nfds_t, const timespec*, const sigset_t*)>("ppoll");
  if (time != nullptr && (time->tv_sec != 0 || time->tv_nsec != 0) && waits().have_no_time) {
    ++waits().had_a_time;
    time = nullptr;
  }
  const int result = next(fds, count, time, mask);
  if (result == 0 && time != nullptr) ++waits().ended_by_time;
  return result;
}
extern "C" int epoll_pwait2(int epoll, epoll_event* events, int most, const timespec* time,
                            const sigset_t* mask) {
  static const auto next =
      real<int (*)(int, epoll_event*, int, const timespec*, const sigset_t*)>("epoll_pwait2");
  const int result = next(epoll, events, most, time, mask);
  if (result == 0 && time != nullptr) ++waits().supervisor_looked;
  return result;
}
extern "C" int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                                      const timespec* until) {
  static const auto next =
      real<int (*)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)>("pthread_cond_clockwait");
  if (waits().have_no_time) {
    ++waits().had_a_time;
    return ::pthread_cond_wait(condition, mutex);
  }
  return next(condition, mutex, clock, until);
}
#endif

TEST_CASE_EACH_START_METHOD(
    "the time from a death to its failed future, on an idle machine and beside four CPU hogs (row 8)") {
  const Deadline deadline{400s};
  ResourceAudit audit;
  const auto measure = [&](int deaths) {
    std::vector<std::int64_t> told;
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    pool.logger().add_sink([](const LogRecord&) {});
    const auto died_at = pool.make_counter();
    for (int i = 0; i < deaths; ++i) {
      CHECK(pool.submit(number, i).get() == i);
      auto future = pool.submit(note_time_and_die, died_at);
      future.wait();
      told.push_back(now_ns() - died_at.load());
    }
    return told;
  };
  auto idle = measure(500);
  const double p50 = milliseconds_at(idle, 0.5), p99 = milliseconds_at(idle, 0.99);
  scorecard(8, fmt::format("idle: p50 {:.2f} ms, p99 {:.2f} ms of {} deaths", p50, p99, idle.size()),
            p50 <= 1 && p99 <= 10);
  const CpuHogs hogs{4};
  auto loaded = measure(200);
  const double loaded_p99 = milliseconds_at(loaded, 0.99);
  scorecard(8,
            fmt::format("4 CPU hogs: p50 {:.2f} ms, p99 {:.2f} ms of {} deaths", milliseconds_at(loaded, 0.5),
                        loaded_p99, loaded.size()),
            loaded_p99 <= 100);
  CHECK(p50 < 500);
}

// Few waits in the hand-over of calls and results have a time: that of a `submit` that waits for room, and
// that of a leader who looks whether a call should go to another worker. Here the times are taken away, so
// that a wake-up that is lost is lost for ever, and the watchdog ends the case with all stacks. (The leader's
// naps beside workers that fill all cores are meant to end by their time: fewer workers than cores here.)
TEST_CASE(
    "calls and results are handed over where no wait has a time that would save a lost wake-up (row 30)") {
  if (!KINDRED_TEST_CATCHES_CALLS) KINDRED_SKIP("a sanitizer catches these calls itself");
  if (std::thread::hardware_concurrency() < 2) KINDRED_SKIP("with one core every worker fills all");
  const auto time = std::chrono::seconds{
      std::getenv("KINDRED_TEST_SECONDS") != nullptr ? std::atoi(std::getenv("KINDRED_TEST_SECONDS")) : 160};
  const Deadline deadline{time * 2 + 200s};
  ResourceAudit audit;
  Waits& now = waits();
  {
    // What counts, is seen to count.
    ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::fork, .max_workers = 1}};
    const auto go = pool.make_event();
    auto future = pool.submit([](Event event) { event.wait(); }, go);
    // More than once, if need be: where this thread gets no CPU for 5 ms the time is over before it waits.
    for (const auto before = now.ended_by_time.load(); now.ended_by_time == before;)
      REQUIRE_FALSE(future.wait_for(5ms));
    go.set();
    future.get();
  }
  now.ended_by_time = now.supervisor_looked = 0;
  now.have_no_time = true;
  std::atomic<std::uint64_t> handed_over{0};
  std::string text;
  // One after the other, by as many threads: each call and each result is a wake-up of its own, or comes just
  // before the other side sleeps.
  const auto run = [&](const char* what, ExecutorOptions options, unsigned threads, bool pauses,
                       std::chrono::milliseconds part) {
    options.start_method = StartMethod::fork;
    ProcessPoolExecutor pool{entry(), options};
    const auto before = handed_over.load();
    const auto until = std::chrono::steady_clock::now() + part;
    std::vector<std::thread> others;
    const auto work = [&](unsigned seed) {
      std::mt19937 random{seed};
      std::uint64_t done = 0;
      for (int i = 0; i % 64 != 0 || std::chrono::steady_clock::now() < until; ++i) {
        if (pauses && random() % 8 == 0) {
          // About as long as either side looks before it sleeps.
          const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds{random() % 300};
          while (std::chrono::steady_clock::now() < end) {}
        }
        if (options.max_pending.value() == 0) {
          if (pool.submit(number, i).get() != i) FAIL_CHECK("another value");
          ++done;
          continue;
        }
        std::vector<Future<int>> futures;  // more than there is room for
        for (int k = 0; k < 8; ++k) futures.push_back(pool.submit(number, k));
        for (int k = 0; k < 8; ++k) {
          if (futures[static_cast<std::size_t>(k)].get() != k) FAIL_CHECK("another value");
        }
        done += 8;
      }
      handed_over += done;
    };
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(work, i);
    work(0);
    for (auto& other : others) other.join();
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", handed_over - before, what);
  };
  const auto part = std::chrono::duration_cast<std::chrono::milliseconds>(time) / 5;
  run("asleep", {.max_workers = 1, .spin = false}, 1, false, part);
  run("spinning", {.max_workers = 1}, 1, false, part);
  run("between the two", {.max_workers = 1}, 1, true, part);
  run("with followers", {.max_workers = 1, .spin = false}, 3, false, part);
  run("waiting for room", {.max_workers = 1, .max_pending = 1, .spin = false}, 2, false, part);
  now.have_no_time = false;
  CHECK(now.ended_by_time == 0);
  CHECK(handed_over > 1000);
  MESSAGE("hand-overs: ", text, "; ", now.had_a_time.load(), " waits had a time, which was taken away; ",
          now.supervisor_looked.load(), " looks by the supervisor's timer");
  scorecard(
      30,
      fmt::format(
          "0 in {} hand-overs, which is what {} s had room for; the times of the waits in them were taken away, and none hung",
          handed_over.load(), time.count()));
}

TEST_CASE_EACH_START_METHOD("the parent's memory does not grow with the workers that it replaces (row 10)") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps what was freed");
  const Deadline deadline{600s};
  ResourceAudit audit;
  const int all = long_run() ? 10'000 : 400;
  // The log keeps its latest records up to a limit: a low one, so that it is soon reached.
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method,
                            .max_workers = 1,
                            .restart_limit = {.count = 1'000'000},
                            .log = {.keep_bytes = 64 * 1024}}};
  pool.logger().add_sink([](const LogRecord&) {});
  std::int64_t early = 0;
  int lost = 0;
  for (int replaced = 1; replaced <= all; ++replaced) {
    try {
      pool.submit(kill_itself).get();
    } catch (const WorkerLost&) {
      ++lost;
    }
    if (replaced == 100) early = resident_kib();
  }
  const std::int64_t late = resident_kib();
  CHECK(lost == all);
  CHECK(late < early * 3 / 2);
  scorecard(10, fmt::format("resident {} KiB after 100 replaced workers, {} KiB after {}", early, late, all),
            static_cast<double>(late) <= 1.05 * static_cast<double>(early));
}
