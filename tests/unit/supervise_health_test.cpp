// What is done about a single worker, on a clock that the test moves: no process, and no wait.
#include "supervise/worker_health.hpp"

#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

struct WatchedPool : PlayedPool {
  explicit WatchedPool(ExecutorOptions with, std::size_t max_workers = 2)
      : PlayedPool{max_workers}, options{std::move(with)} {}
  KillReason check(PlayedWorker& worker, SteadyTime now) {
    PoolGuard guard{mutex};
    health.check(guard, worker.slot(), now);
    return worker.slot().kill_reason;
  }
  kindred::internal::Deadline next(PlayedWorker& worker) {
    PoolGuard guard{mutex};
    return health.next(guard, worker.slot());
  }
  ExecutorOptions options;
  WorkerHealth health{{options, slots, control, intake, pending, log}};
};

const SteadyTime start = std::chrono::steady_clock::now();

}  // namespace

TEST_CASE("a worker without limits is left alone, and needs no look") {
  WatchedPool pool{{}};
  PlayedWorker& worker = pool.add_worker();
  CHECK(pool.check(worker, start + 24h) == KillReason::none);
  CHECK(worker.slot().state == WorkerSlot::State::alive);
  CHECK_FALSE(pool.next(worker).has_value());
}

TEST_CASE("an idle worker is asked to leave when its idle timeout has passed, and not before") {
  WatchedPool pool{{.idle_timeout = 5s}};
  PlayedWorker& worker = pool.add_worker();
  worker.slot().idle_since = start;
  CHECK(pool.next(worker) == start + 5s);
  (void)pool.check(worker, start + 4999ms);
  CHECK(worker.slot().state == WorkerSlot::State::alive);
  (void)pool.check(worker, start + 5s);
  CHECK(worker.slot().state == WorkerSlot::State::leaving);
}

TEST_CASE("a worker that was asked to leave and does not is killed when the grace has passed") {
  WatchedPool pool{{}};
  PlayedWorker& worker = pool.add_worker();
  {
    PoolGuard guard{pool.mutex};
    pool.control.ask_to_leave(guard, worker.slot());
  }
  const auto by = worker.slot().end.leave_by;
  CHECK(pool.next(worker) == by);
  CHECK(pool.check(worker, by - 1ms) == KillReason::none);
  CHECK(pool.check(worker, by) == KillReason::shutdown);
}

TEST_CASE("an initializer that runs over its limit gets its worker killed") {
  WatchedPool pool{{.initializer_timeout = 3s}};
  PlayedWorker& worker = pool.add_worker();
  worker.slot().started = start;
  worker.slot().ready = false;
  CHECK(pool.next(worker) == start + 3s);
  CHECK(pool.check(worker, start + 2s) == KillReason::none);
  CHECK(pool.check(worker, start + 3s) == KillReason::initializer_timeout);
}

TEST_CASE("a worker that closed its socket and goes on is killed, one that ends meanwhile is not") {
  WatchedPool pool{{}};
  PlayedWorker& worker = pool.add_worker();
  worker.slot().untidy.mute_since = start;
  CHECK(pool.check(worker, start + 1s) == KillReason::none);  // it is being buried: not watched any more
  worker.slot().watched = true;
  CHECK(pool.check(worker, start + 99ms) == KillReason::none);
  worker.slot().worker.process = Process{static_cast<std::uint32_t>(::getpid()), {}, false};
  CHECK(pool.check(worker, start + 100ms) == KillReason::mute);
  CHECK(worker.slot().last_words.protocol_error.find("closed its socket") != std::string::npos);
}

TEST_CASE(
    "a worker that closed its socket because the kernel ends it is not killed for that, however long it takes") {
  WatchedPool pool{{}};
  PlayedWorker& worker = pool.add_worker();
  const pid_t zombie = ::fork();
  if (zombie == 0) ::_exit(0);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(zombie), &info, WEXITED | WNOWAIT) == 0);
  worker.slot().worker.process = Process{static_cast<std::uint32_t>(zombie), {}, false};
  worker.slot().watched = true;
  worker.slot().untidy.mute_since = start;
  CHECK(pool.check(worker, start + 100ms) == KillReason::none);
  CHECK(pool.check(worker, start + 10s) == KillReason::none);
  ::waitpid(zombie, nullptr, 0);
  CHECK_FALSE(is_ending(static_cast<std::uint32_t>(zombie)));
  CHECK_FALSE(is_ending(static_cast<std::uint32_t>(::getpid())));
}

TEST_CASE(
    "a worker that is stopped by a signal is killed after stopped_limit, and not while it has no call") {
  WatchedPool pool{{.stopped_limit = 30s}};
  PlayedWorker& worker = pool.add_worker();
  const pid_t stopped = ::fork();
  if (stopped == 0) {
    for (;;) ::pause();
  }
  ::kill(stopped, SIGSTOP);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(stopped), &info, WSTOPPED | WNOWAIT) == 0);
  // Without a pidfd no signal is sent to it.
  worker.slot().worker.process = Process{static_cast<std::uint32_t>(stopped), {}, false};
  CHECK(pool.check(worker, start) == KillReason::none);
  CHECK(pool.check(worker, start + 1h) == KillReason::none);
  const auto task = pool.submit();
  const auto found = start + 2h;
  CHECK(pool.check(worker, found) == KillReason::none);
  CHECK(pool.check(worker, found + 29s) == KillReason::none);
  CHECK(pool.check(worker, found + 31s) == KillReason::stopped);
  ::kill(stopped, SIGKILL);
  ::waitpid(stopped, nullptr, 0);
}

TEST_CASE("a silent worker is replaced after a while, where tasks are pending that no other worker takes") {
  WatchedPool pool{{}};
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  {
    PoolGuard guard{pool.mutex};
    REQUIRE(pool.intake.revoke(guard, worker.slot(), 0));
    begin_silence(guard, worker.slot(), start);
  }
  CHECK(pool.check(worker, start + 3s) == KillReason::none);  // no task needs it
  {
    PoolGuard guard{pool.mutex};
    pool.pending.push_back(guard, PlayedPool::task_of(task));
  }
  CHECK(pool.check(worker, start + 1999ms) == KillReason::none);
  CHECK(pool.check(worker, start + 2s) == KillReason::silence);
}

TEST_CASE("a silent worker that passes what was revoked is no longer silent") {
  WatchedPool pool{{}};
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  {
    PoolGuard guard{pool.mutex};
    REQUIRE(pool.intake.revoke(guard, worker.slot(), 0));
    begin_silence(guard, worker.slot(), start);
    pool.pending.push_back(guard, PlayedPool::task_of(task));
  }
  CHECK(worker.begin() == 0);
  CHECK(pool.check(worker, start + 3s) == KillReason::none);
  CHECK_FALSE(worker.slot().silent());
}

TEST_CASE(
    "a pool that was made smaller takes the calls of its surplus workers back, and asks them to leave") {
  WatchedPool pool{{}, 2};
  PlayedWorker& first = pool.add_worker();
  PlayedWorker& second = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(pool.submit());
  pool.slots.set_max(1);
  (void)pool.check(first, start);
  (void)pool.check(second, start);
  CHECK(first.slot().state == WorkerSlot::State::alive);
  CHECK(second.slot().state == WorkerSlot::State::leaving);
  CHECK(second.slot().in_flight.empty());
}
