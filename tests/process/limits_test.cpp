// Time limits and asking or forcing a running task to end.
#include <atomic>
#include <csignal>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

std::int64_t throw_until(const Counter& tries, std::int64_t last) {
  const auto now = ++tries;
  if (now < last) throw std::runtime_error{"try " + std::to_string(now)};
  return now;
}
void stay() {
  for (;;) ::pause();
}
void spin() {
  for (std::atomic<int> rounds{0};;) rounds.fetch_add(1, std::memory_order_relaxed);
}
void stay_deaf() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  for (;;) ::pause();
}
int until_token(Worker& worker, Event begun) {
  std::atomic<bool> stopped{false};
  const std::stop_callback callback{worker.stop_token(), [&] {
                                      stopped = true;
                                      stopped.notify_all();
                                    }};
  begun.set();
  stopped.wait(false);
  return worker.stop_requested() ? 6 : 0;
}
std::string bytes_of(std::size_t size) { return std::string(size, 'x'); }
// False, once it is asked to stop.
bool until_token_alone(Worker& worker) {
  std::atomic<bool> stopped{false};
  const std::stop_callback callback{worker.stop_token(), [&] {
                                      stopped = true;
                                      stopped.notify_all();
                                    }};
  stopped.wait(false);
  return !worker.stop_requested();
}
// The first attempt waits until it is asked to stop, and fails; the next one tells whether it was asked, too.
bool is_asked_again(Worker& worker) {
  if (worker.attempt() == 1) {
    while (!worker.stop_requested()) std::this_thread::yield();
    (void)worker.stop_token();
    throw std::runtime_error{"stopped in good order"};
  }
  return worker.stop_requested() || worker.stop_token().stop_requested();
}
bool asked() { return this_worker().stop_requested() || this_worker().stop_token().stop_requested(); }
void start_children_and_stay(SharedArray<int> pids, Event begun) {
  const auto cells = pids.mutable_span();
  for (auto& cell : cells) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) ::pause();
    }
    cell = static_cast<int>(child);  // by this process only: the cell is the child's, too
  }
  begun.set();
  for (;;) ::pause();
}
enum Told : int { nothing, ready, cleaned_up };
void clean_up_on_term(SharedArray<int> told) {
  static SharedArray<int> place;
  place = told;
  ::signal(SIGTERM, [](int) {
    place.mutable_span()[0] = cleaned_up;
    ::_exit(0);
  });
  place.mutable_span()[0] = ready;
  for (;;) ::pause();
}

void note_time_and_stay(SharedArray<std::int64_t> begun, std::size_t place, bool deaf) {
  begun.mutable_span()[place] = now_ns();
  deaf ? stay_deaf() : stay();
}

/// Waits until none of them exists: where one stays, the case's deadline ends the wait, and shows it.
void wait_until_gone(const SharedArray<int>& pids) {
  for (const int pid : pids) {
    REQUIRE(pid > 0);
    while (process_exists(pid)) std::this_thread::yield();
  }
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a task over its timeout fails with TaskTimeout, and the next runs in a new worker") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const int before = pool.submit(pid_of_worker).get();
  auto late = pool.submit({.name = "late one", .timeout = 50ms}, stay);
  auto next = pool.submit(pid_of_worker);
  try {
    late.get();
    FAIL("no error");
  } catch (const TaskTimeout& error) {
    CHECK(error.limit() == 50ms);
    CHECK(error.ran_for() >= 50ms);
    CHECK(error.task_id() == late.task_id());
    CHECK(error.worker() == 0);
    CHECK_CONTAINS(error.what(), "late one");
  }
  CHECK(next.get() != before);
  CHECK(pool.submit({.timeout = 1h}, number, 3).get() == 3);
}

TEST_CASE_EACH_START_METHOD("the clock of a timeout begins with the task, not with submit") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto first = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  auto patient = pool.submit({.timeout = 3s}, number, 3);
  CHECK_FALSE(patient.wait_for(3200ms));
  go.set();
  CHECK(patient.get() == 3);
  CHECK(first.get() == 7);
}

TEST_CASE_EACH_START_METHOD("a soft timeout asks the task to stop, the hard one ends it") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event();
  CHECK(pool.submit({.soft_timeout = 20ms}, until_token, begun).get() == 6);
  CHECK(pool.submit({.timeout = 1h, .soft_timeout = 20ms}, until_token, begun).get() == 6);
  CHECK_FALSE(pool.submit(asked).get());
  CHECK_THROWS_AS(pool.submit({.timeout = 60ms, .soft_timeout = 20ms}, stay).get(), TaskTimeout);
}

TEST_CASE_EACH_START_METHOD("a task that blocks all signals, or spins, ends all the same") {
  ResourceAudit audit;
  for (const auto grace :
       {std::optional<std::chrono::nanoseconds>{}, std::optional<std::chrono::nanoseconds>{30ms}}) {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .terminate_grace = grace}};
    CHECK_THROWS_AS(pool.submit({.timeout = 30ms}, stay_deaf).get(), TaskTimeout);
    CHECK_THROWS_AS(pool.submit({.timeout = 30ms}, spin).get(), TaskTimeout);
    CHECK(pool.submit(number, 3).get() == 3);
  }
}

TEST_CASE_EACH_START_METHOD("with terminate_grace, a task over its timeout may clean up at SIGTERM") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .terminate_grace = 1h}};
  const auto told = pool.make_array<int>(1, ArrayAccess::all_write);
  // On a busy machine the time may be over before the task can handle the signal: then it has more time.
  for (auto limit = 50ms; told[0] == nothing; limit *= 4)
    CHECK_THROWS_AS(pool.submit({.timeout = limit}, clean_up_on_term, told).get(), TaskTimeout);
  CHECK(told[0] == cleaned_up);
}

TEST_CASE_EACH_START_METHOD("a task that SIGTERM ends within terminate_grace is over its time, not lost") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .terminate_grace = 1h}};
  CHECK_THROWS_AS(pool.submit({.timeout = 30ms}, spin).get(), TaskTimeout);
  CHECK(pool.submit(number, 3).get() == 3);
}

TEST_CASE_EACH_START_METHOD("killing a running task ends its worker, and no other task is harmed") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto begun = pool.make_event(), go = pool.make_event(), other_begun = pool.make_event();
  auto victim = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  auto other = pool.submit(begin_and_wait, other_begun, go);
  other_begun.wait();
  std::vector<Future<int>> pending;
  for (int i = 0; i < 10; ++i) pending.push_back(pool.submit(number, i));
  CHECK(victim.cancel(Running::kill));
  CHECK(victim.cancelled());
  CHECK_THROWS_AS(victim.get(), Cancelled);
  for (int i = 0; i < 10; ++i) CHECK(pending[static_cast<std::size_t>(i)].get() == i);
  go.set();
  CHECK(other.get() == 7);
  CHECK(pool.stats().lost == 0);
  CHECK(pool.stats().cancelled == 1);
}

TEST_CASE_EACH_START_METHOD("asking a running task to stop leaves it its result") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (int round = 0; round < 3; ++round) {
    const auto begun = pool.make_event();
    auto future = pool.submit(until_token, begun);
    begun.wait();
    CHECK_FALSE(future.cancel(Running::ask));
    CHECK(future.get() == 6);
    CHECK_FALSE(pool.submit(asked).get());
  }
}

TEST_CASE_EACH_START_METHOD("a task killed as it ends is either cancelled or done, and never hits the next") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 1, .restart_limit = {.count = 1000}}};
  for (int round = 0; round < 40; ++round) {
    auto future = pool.submit(number, round);
    auto next = pool.submit(number, -round);
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds{round % 10 * 10};
    while (std::chrono::steady_clock::now() < until) {}
    const bool killed = future.cancel(Running::kill);
    CHECK(killed == future.cancelled());
    if (!killed) CHECK(future.get() == round);
    CHECK(next.get() == -round);
  }
}

TEST_CASE_EACH_START_METHOD(
    "tasks with different limits each end in their time, and the pool sleeps meanwhile") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 6}};
  const auto all = pool.make_barrier(6);
  std::vector<Future<void>> warm;
  for (int i = 0; i < 6; ++i)
    warm.push_back(pool.submit([](Barrier barrier) { barrier.arrive_and_wait(); }, all));
  for (auto& future : warm) future.get();
  std::vector<Future<void>> futures;
  const auto wakeups = pool.stats().supervisor_wakeups;
  // The longest limit comes first and never passes: a task that waited for another one's limit would not end.
  const std::vector<std::chrono::milliseconds> limits{1h, 500ms, 300ms, 100ms, 200ms, 400ms};
  for (const auto limit : limits) futures.push_back(pool.submit({.timeout = limit}, stay));
  for (std::size_t i = 1; i < futures.size(); ++i) {
    try {
      futures[i].get();
      FAIL("no error");
    } catch (const TaskTimeout& error) {
      CHECK(error.ran_for() >= limits[i]);
      CHECK(error.ran_for() < limits[i] + 5s * slowness());  // some ms on a quiet machine
    }
  }
  CHECK(pool.stats().supervisor_wakeups - wakeups < 200);
  CHECK_FALSE(futures[0].done());
  CHECK(futures[0].cancel(Running::kill));
}

TEST_CASE_EACH_START_METHOD(
    "a limit of a second fires soon after it, not before, also where the task blocks all signals and the CPUs are busy (row 16)") {
  ResourceAudit audit;
  constexpr std::size_t tasks = 8;
  const auto measure = [&](ProcessPoolExecutor& pool) {
    const auto begun = pool.make_array<std::int64_t>(tasks, ArrayAccess::all_write);
    std::vector<std::int64_t> ended(tasks);
    std::vector<Future<void>> futures;
    for (std::size_t i = 0; i < tasks; ++i) {
      futures.push_back(pool.submit({.timeout = 1s}, note_time_and_stay, begun, i, i % 2 == 1));
      futures.back().on_done([&ended, i] { ended[i] = now_ns(); });
    }
    std::pair<double, double> seconds{
        1e9, 0};  // the shortest by the pool's clock, the longest by that of the task
    for (auto& future : futures) {
      try {
        future.get();
        FAIL_CHECK("no error");
      } catch (const TaskTimeout& error) {
        seconds.first = std::min(seconds.first, std::chrono::duration<double>(error.ran_for()).count());
      }
    }
    pool.shutdown();  // all callbacks have run
    for (std::size_t i = 0; i < tasks; ++i)
      seconds.second = std::max(seconds.second, static_cast<double>(ended[i] - begun[i]) / 1e9);
    CHECK(seconds.first >= 1.0);
    CHECK(seconds.second <
          10.0 * slowness());  // a few ms on a quiet machine: this one may be busy with other tests
    return seconds;
  };
  ExecutorOptions options{.start_method = method, .max_workers = tasks, .start_all = true};
  std::pair<double, double> idle, loaded;
  {
    ProcessPoolExecutor pool{entry(), options};
    idle = measure(pool);
  }
  {
    const CpuHogs hogs{4 * std::thread::hardware_concurrency()};
    ProcessPoolExecutor pool{entry(), options};
    loaded = measure(pool);
  }
  scorecard(
      16,
      fmt::format(
          "{} tasks, half of them with all signals blocked: {:.3f} to {:.3f} s; under 4 x load {:.3f} to {:.3f} s",
          tasks, idle.first, idle.second, loaded.first, loaded.second),
      idle.second <= 1.1 && loaded.second < 2);
}

TEST_CASE_EACH_START_METHOD(
    "subprocesses of a task go with it when it is over its time, or its pool is killed") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto pids = pool.make_array<int>(3, ArrayAccess::all_write);
  const auto begun = pool.make_event();
  // On a busy machine the time may be over before all children are started: then the task has more time.
  for (auto limit = 200ms; !begun.is_set(); limit *= 4)
    CHECK_THROWS_AS(pool.submit({.timeout = limit}, start_children_and_stay, pids, begun).get(), TaskTimeout);
  wait_until_gone(pids);
  begun.clear();
  auto killed = pool.submit(start_children_and_stay, pids, begun);
  begun.wait();
  pool.kill_workers();
  CHECK_THROWS_AS(killed.get(), WorkerLost);
  wait_until_gone(pids);
}

TEST_CASE_EACH_START_METHOD("a stopped worker is killed by the limit of its task") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto stopped = pool.submit({.timeout = 100ms}, [] { ::raise(SIGSTOP); });
  CHECK_THROWS_AS(stopped.get(), TaskTimeout);
  CHECK(pool.submit(number, 3).get() == 3);
}

TEST_CASE_EACH_START_METHOD("a wait with a deadline leaves the task alone") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto future = pool.submit(begin_and_wait, begun, go);
  for (int i = 0; i < 5; ++i) CHECK_FALSE(future.wait_for(3ms));
  CHECK_FALSE(future.cancelled());
  go.set();
  CHECK(future.get() == 7);
}

TEST_CASE_EACH_START_METHOD("a task that throws is run again where that is asked for, so often and no more") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto tries = pool.make_counter();
  CHECK(pool.submit({.retries = 3, .retry_exceptions = true}, throw_until, tries, std::int64_t{3}).get() ==
        3);
  CHECK(pool.stats().retried == 2);
  const auto more = pool.make_counter();
  auto fails = pool.submit({.retries = 1, .retry_exceptions = true}, throw_until, more, std::int64_t{3});
  CHECK_THROWS_CONTAINS(fails.get(), std::runtime_error, "try 2");
  auto once = pool.submit({.retries = 1}, throw_until, pool.make_counter(), std::int64_t{3});
  CHECK_THROWS_CONTAINS(once.get(), std::runtime_error, "try 1");
  const auto stats = pool.stats();
  CHECK(stats.retried == 3);
  CHECK(stats.queue_time <
        1min);  // each try waits since the task was submitted, not since the machine was switched on
}

TEST_CASE_EACH_START_METHOD("an attempt that was asked to stop leaves nothing of that to the next one") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK_FALSE(
      pool.submit({.soft_timeout = 3s, .retries = 1, .retry_exceptions = true}, is_asked_again).get());
}

TEST_CASE_EACH_START_METHOD(
    "a finished task with time limits keeps no memory, while an older task with some is still open") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps memory that was freed");
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .start_all = true}};
  auto older = pool.submit({.timeout = 1h, .queue_timeout = 1h}, until_token_alone);
  constexpr std::size_t size = 1 << 20;
  constexpr int rounds = 200;
  CHECK(pool.submit({.timeout = 2h, .queue_timeout = 2h}, bytes_of, size).get().size() == size);
  const auto before = resident_kib();
  for (int i = 0; i < rounds; ++i)
    CHECK(pool.submit({.timeout = 2h, .queue_timeout = 2h}, bytes_of, size).get().size() == size);
  CHECK(resident_kib() - before < rounds * 1024 / 4);
  CHECK_FALSE(older.cancel(Running::ask));
  CHECK_FALSE(older.get());
}
