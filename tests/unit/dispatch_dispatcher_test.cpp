// Tasks to workers and results back, without a process: the test plays the workers.
#include "dispatch/dispatcher.hpp"

#include <functional>
#include <string>
#include <vector>

#include "kindred/error.hpp"
#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

/// A run time that is known from now on: that many results of tasks that ran as many ticks.
void teach(PlayedPool& pool, PlayedWorker& worker, std::uint64_t ran, int times = 8) {
  for (int i = 0; i < times; ++i) {
    const auto task = pool.submit();
    REQUIRE(worker.begin() == PlayedPool::task_of(task).id);
    worker.end({}, ran);
    REQUIRE(pool.collect());
  }
}

std::uint64_t microseconds(double count) {
  return static_cast<std::uint64_t>(count * 1e3 * ticks_per_nanosecond());
}

}  // namespace

TEST_CASE("without a worker a task is pending, and a worker is wanted") {
  PlayedPool pool{2};
  const auto task = pool.submit();
  PoolGuard guard{pool.mutex};
  CHECK(PlayedPool::task_of(task).is_pending());
  CHECK(pool.slots.wanted(guard) == 1);
  CHECK(pool.events.supervisor_wakes == 1);
}

TEST_CASE("as many workers are wanted as there is work for, and no more than may be") {
  PlayedPool pool{2};
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 5; ++i) tasks.push_back(pool.submit());
  PoolGuard guard{pool.mutex};
  CHECK(pool.slots.wanted(guard) == 2);
  pool.slots.want_no_more(guard);
  pool.dispatcher.want_all_workers(guard);
  CHECK(pool.slots.wanted(guard) == 2);
  pool.phase.broken = std::make_unique<SharedFailure>(nullptr);
  pool.slots.want_no_more(guard);
  pool.dispatcher.want_all_workers(guard);
  pool.dispatcher.want_workers(guard);
  CHECK(pool.slots.wanted(guard) == 0);
}

TEST_CASE("no worker is wanted for tasks that the live ones have") {
  PlayedPool pool{3};
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  REQUIRE(worker.begin() == 1);
  PoolGuard guard{pool.mutex};
  pool.dispatcher.want_workers(guard);
  pool.dispatcher.want_all_workers(guard);
  CHECK(pool.slots.wanted(guard) == 0);
}

TEST_CASE("a call and its result cross the rings, with arguments and values of any size that fits a ring") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  for (const std::size_t size : {0U, 1U, 7U, 8U, 9U, 24U, 25U, 1000U, 16384U}) {
    CAPTURE(size);
    const auto task = pool.submit(std::string(size, 'a'));
    CHECK(PlayedPool::task_of(task).is_dispatched());
    CHECK(worker.begin() == PlayedPool::task_of(task).id);
    worker.end(std::string(size, 'r'));
    CHECK(pool.collect());
    CHECK(task->outcome() == TaskOutcome::value);
    CHECK(PlayedPool::value_of(task) == std::string(size, 'r'));
  }
  PoolGuard guard{pool.mutex};
  CHECK(pool.slots.in_flight(guard) == 0);
  CHECK(worker.slot().stats.tasks_done == 9);
}

TEST_CASE(
    "a worker of unknown run time gets one call ahead, and the others are pending until it has done one") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(pool.submit());
  {
    PoolGuard guard{pool.mutex};
    CHECK(pool.slots.in_flight(guard) == 2);
    CHECK(pool.pending.size() == 2);
  }
  REQUIRE(worker.begin() == 1);
  worker.end("x");
  CHECK(pool.collect());
  PoolGuard guard{pool.mutex};
  CHECK(pool.pending.size() < 2);  // the run time is known now: more are dispatched ahead
}

TEST_CASE("short tasks are dispatched far ahead, long ones are not") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  teach(pool, worker, microseconds(1));
  std::vector<StateHandle> tasks;
  tasks.push_back(pool.submit());
  worker.slot().progress_ticks = ticks() + microseconds(60e6);  // however slow this machine is
  for (int i = 1; i < 200; ++i) tasks.push_back(pool.submit());
  PoolGuard guard{pool.mutex};
  CHECK(pool.pending.empty());
  CHECK(pool.slots.in_flight(guard) == 200);
}

TEST_CASE("the first task with a priority takes back what was dispatched ahead, and the best one is next") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 2; ++i) tasks.push_back(pool.submit());
  REQUIRE(worker.begin() == 1);
  const auto best = pool.submit({}, TaskOptions{.priority = 5});
  {
    PoolGuard guard{pool.mutex};
    CHECK(pool.slots.in_flight(guard) == 1);  // the one that runs
    CHECK(pool.pending.front(guard) == &PlayedPool::task_of(best));
  }
  worker.end({});
  CHECK(pool.collect());
  CHECK(worker.begin() == PlayedPool::task_of(best).id);
}

TEST_CASE(
    "while a task with a priority is open one call at a time is dispatched, and far ahead again after it") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  teach(pool, worker, microseconds(1));
  for (int round = 0; round < 3; ++round) {
    const auto prioritized = pool.submit({}, TaskOptions{.priority = round == 1 ? -5 : 5});
    std::vector<StateHandle> others;
    for (int i = 0; i < 20; ++i) others.push_back(pool.submit());
    {
      PoolGuard guard{pool.mutex};
      CHECK(pool.slots.in_flight(guard) == 1);
      CHECK(pool.completion.prioritized(guard) == 1);
    }
    // Cancelled, or done, in its turn.
    if (round == 2) {
      PoolGuard guard{pool.mutex};
      REQUIRE(pool.intake.revoke(guard, worker.slot(), 0));
      pool.completion.finish_cancelled(guard, PlayedPool::task_of(prioritized), "in the test");
      pool.dispatcher.refill(guard);
    } else {
      while (!prioritized->finished()) {
        REQUIRE(worker.begin() != 0);
        worker.end({}, microseconds(1));
        REQUIRE(pool.collect());
      }
    }
    PoolGuard guard{pool.mutex};
    CHECK(pool.completion.prioritized(guard) == 0);
    CHECK(pool.pending.empty());
    CHECK(pool.slots.in_flight(guard) == 20);
    guard.unlock();
    while (worker.begin() != 0) worker.end({}, microseconds(1));
    (void)pool.collect();
  }
}

TEST_CASE("a call that has begun is not revoked, one that has not is, and its worker never begins it") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto begun = pool.submit();
  const auto queued = pool.submit();
  REQUIRE(worker.begin() == 1);
  {
    PoolGuard guard{pool.mutex};
    CHECK_FALSE(pool.intake.revoke(guard, worker.slot(), 0));
    // The call's own state says it first, the worker's header a moment later.
    const auto attempt = worker.header().begun_attempt.exchange(0);
    CHECK_FALSE(pool.intake.revoke(guard, worker.slot(), 0));
    worker.header().begun_attempt = attempt;
    CHECK(pool.intake.revoke(guard, worker.slot(), 1));
    CHECK(pool.slots.in_flight(guard) == 1);
    pool.completion.finish_cancelled(guard, PlayedPool::task_of(queued), "in the test");
  }
  worker.end({});
  CHECK(worker.begin() == 0);
  CHECK(pool.collect());
  CHECK(begun->outcome() == TaskOutcome::value);
}

TEST_CASE("calls behind a long call are given to an idle worker") {
  PlayedPool pool{2};
  PlayedWorker& busy = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 2; ++i) tasks.push_back(pool.submit());
  REQUIRE(busy.begin() == 1);
  PlayedWorker& idle = pool.add_worker();
  // The call has been running for a millisecond.
  const auto past = ticks() - microseconds(1000);
  busy.slot().progress_ticks = past;
  busy.header().begun_ticks = past;
  {
    PoolGuard guard{pool.mutex};
    pool.dispatcher.rebalance(guard);
    CHECK(pool.completion.totals(guard).taken_back == 1);
  }
  CHECK(idle.begin() == 2);
}

TEST_CASE("calls behind a young call stay, and the supervisor is asked to look again") {
  PlayedPool pool{2};
  PlayedWorker& busy = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 2; ++i) tasks.push_back(pool.submit());
  REQUIRE(busy.begin() == 1);
  pool.add_worker();
  PoolGuard guard{pool.mutex};
  const auto before = pool.events.looks.size();
  busy.slot().progress_ticks = ticks() + microseconds(1e6);  // however slow this machine is
  pool.dispatcher.rebalance(guard);
  CHECK(pool.completion.totals(guard).taken_back == 0);
  CHECK(pool.dispatcher.rebalance_at(guard).has_value());
  CHECK(pool.events.looks.size() == before + 1);
}

TEST_CASE("a worker that neither begins nor ends a call gets no more, and its calls go to another") {
  PlayedPool pool{2};
  PlayedWorker& silent = pool.add_worker();
  const auto task = pool.submit();
  PlayedWorker& other = pool.add_worker();
  silent.slot().progress_ticks = ticks() - microseconds(20'000);
  {
    PoolGuard guard{pool.mutex};
    pool.dispatcher.rebalance(guard);
  }
  CHECK(silent.slot().silent());
  CHECK(other.begin() == 1);
  // It has passed what was revoked: it is no longer silent.
  CHECK(silent.begin() == 0);
  PoolGuard guard{pool.mutex};
  CHECK_FALSE(still_silent(guard, silent.slot()));
}

TEST_CASE("the call that silenced its worker comes after those that were behind it") {
  PlayedPool pool{2};
  PlayedWorker& silent = pool.add_worker();
  teach(pool, silent, microseconds(1));
  std::vector<StateHandle> tasks;
  tasks.push_back(pool.submit());
  silent.slot().progress_ticks = ticks() + microseconds(60e6);  // however slow this machine is
  for (int i = 1; i < 3; ++i) tasks.push_back(pool.submit());
  REQUIRE(silent.slot().in_flight.size() == 3);
  PlayedWorker& other = pool.add_worker();
  silent.slot().progress_ticks = ticks() - microseconds(20'000);
  {
    PoolGuard guard{pool.mutex};
    pool.dispatcher.rebalance(guard);
  }
  CHECK(silent.slot().silent());
  CHECK(other.begin() == tasks[1]->task_id());
}

TEST_CASE("a worker that passed a call without a result is killed") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  REQUIRE(worker.begin() == 1);
  PoolGuard guard{pool.mutex};
  worker.header().calls.consumed.store(worker.slot().calls.published());
  worker.slot().progress_ticks = ticks() - microseconds(20'000);
  pool.dispatcher.rebalance(guard);
  CHECK(worker.slot().kill_reason == KillReason::protocol);
}

TEST_CASE("a result that does not add up kills its worker, and finishes no task") {
  const auto refused = [](ResultHeader result, const std::string& words) {
    CAPTURE(words);
    PlayedPool pool;
    PlayedWorker& worker = pool.add_worker();
    const auto task = pool.submit();
    REQUIRE(worker.begin() == 1);
    worker.write(result, {});
    (void)pool.collect();
    CHECK(worker.slot().kill_reason == KillReason::protocol);
    CHECK(worker.slot().last_words.protocol_error.find(words) != std::string::npos);
    CHECK_FALSE(task->finished());
  };
  refused(result_of(77), "a result is for task 77");
  auto result = result_of(1);
  result.value_bytes = 4096;
  refused(result, "sizes do not add up");
  result = result_of(1);
  result.attachments = 200;
  refused(result, "sizes do not add up");
  result = result_of(1);
  result.kind = static_cast<ResultKind>(9);
  refused(result, "sizes do not add up");
  result = result_of(1);
  result.flags = result_is_external;
  refused(result, "reference to its memory is malformed");
}

TEST_CASE("a worker whose memory has grown over its limit gets no more calls, and is asked to leave") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto first = pool.submit();
  const auto second = pool.submit();
  REQUIRE(worker.begin() == 1);
  worker.write(result_of(1, ResultKind::value, result_asks_recycle), {});
  CHECK(pool.collect());
  CHECK(first->outcome() == TaskOutcome::value);
  CHECK(worker.slot().state == WorkerSlot::State::leaving);
  CHECK(worker.header().command == static_cast<std::uint32_t>(Command::finish));
  CHECK(PlayedPool::task_of(second).is_pending());
}

TEST_CASE("an attempt that failed is tried again where its options say so, and waits since its submit") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.retries = 1, .retry_exceptions = true});
  const auto submitted = PlayedPool::task_of(task).submitted_ticks;
  REQUIRE(worker.begin() == 1);
  worker.write(result_of(1, ResultKind::failure), {});
  CHECK(pool.collect());
  CHECK_FALSE(task->finished());
  CHECK(PlayedPool::task_of(task).submitted_ticks == submitted);
  CHECK(PlayedPool::task_of(task).ended_attempts() == 1);
  PoolGuard guard{pool.mutex};
  CHECK(pool.completion.totals(guard).retried == 1);
}

TEST_CASE("an exception is a failure at once where it is not to be retried, however many retries there are") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit({}, TaskOptions{.retries = 3});
  REQUIRE(worker.begin() == 1);
  worker.write(result_of(1, ResultKind::failure), {});
  CHECK(pool.collect());
  CHECK(task->outcome() == TaskOutcome::failure);
}

TEST_CASE("a block of arguments goes to each incarnation of a worker once, and is named by its number then") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto messages = [&] {
    int count = 0;
    while (worker.socket().receive(std::chrono::steady_clock::time_point{})) ++count;
    return count;
  };
  const auto run = [&] {
    const auto task = pool.submit(std::string(2 * largest_in_ring, 'a'));
    REQUIRE(worker.begin() == task->task_id());
    worker.end({});
    CHECK(pool.collect());
  };
  run();
  CHECK(messages() == 1);
  run();
  CHECK(messages() == 0);
  ++worker.slot().incarnation;
  run();
  CHECK(messages() == 1);
}

TEST_CASE("results that are taken in wake a worker that has a further call, and none that has no call") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  SegmentHeader& header = worker.slot().header();
  teach(pool, worker, 1);
  for (const std::size_t calls : {2U, 1U}) {
    for (const auto sleeps : {0U, 1U, 0xdead'beefU}) {  // a task may have written anything over the word
      CAPTURE(calls);
      CAPTURE(sleeps);
      std::vector<StateHandle> tasks;
      for (std::size_t i = 0; i < calls; ++i) tasks.push_back(pool.submit());
      REQUIRE(worker.slot().in_flight.size() == calls);
      REQUIRE(worker.begin() != 0);
      worker.end({}, 1);
      const auto wake = header.wake.load();
      header.sleeps = sleeps;
      REQUIRE(pool.collect());
      const bool woken = calls > 1 && sleeps != 0;
      CHECK(header.wake == wake + (woken ? 1 : 0));
      CHECK(header.sleeps == (woken ? 0 : sleeps));
      header.sleeps = 0;
      if (worker.begin() == 0) continue;
      worker.end({}, 1);
      REQUIRE(pool.collect());
    }
  }
  header.sleeps = 1;
  const auto wake = header.wake.load();
  const auto task = pool.submit();
  CHECK(header.wake == wake + 1);
  CHECK(header.sleeps == 0);
}

TEST_CASE("what a call needs and the worker's full socket does not take has the worker read its socket") {
  const CodeReference in_the_program = CodeReference{1} << code_module_shift;
  for (const bool of_a_module : {true, false}) {
    CAPTURE(of_a_module);
    PlayedPool pool;
    PlayedWorker& worker = pool.add_worker();
    SegmentHeader& header = worker.slot().header();
    const std::string revoked(1024, 'x');
    while (worker.slot().worker.socket.send(std::as_bytes(std::span{revoked})) == MessageSocket::Sent::yes) {}
    const auto task = pool.make_task("x", {}, of_a_module ? in_the_program : 0);
    TaskState& state = PlayedPool::task_of(task);
    if (!of_a_module) {
      state.cargo = std::make_unique<Cargo>();
      state.cargo->attachments.push_back(std::make_shared<SharedMemory>(SharedMemory::create("test", 4096)));
    }
    header.sleeps = 1;
    {
      PoolGuard guard{pool.mutex};
      pool.dispatcher.dispatch_or_enqueue(guard, state, ticks());
    }
    CHECK(state.is_pending());
    CHECK(header.mail == 1);
    CHECK(header.wake == 1);
    CHECK(pool.events.supervisor_wakes > 0);  // it tries again
    while (worker.socket().receive(std::chrono::steady_clock::time_point{})) {}
    {
      PoolGuard guard{pool.mutex};
      pool.dispatcher.refill(guard);
    }
    CHECK(header.mail == 1);
    REQUIRE(worker.begin() == state.id);
    const auto sent = worker.socket().receive(std::chrono::steady_clock::time_point{});
    REQUIRE(sent.has_value());
    CHECK(sent->descriptors.size() == (of_a_module ? 0 : 1));
    worker.end({}, 1);
    REQUIRE(pool.collect());
  }
}

TEST_CASE("a call for a worker without one is armed for a leader that sleeps, before the worker sees it") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  {
    PoolGuard guard{pool.mutex};
    pool.bells.set_leader(guard, Bells::Leader::sleeps);
  }
  const auto task = pool.submit();
  CHECK((worker.header().armed.load() & 7U) == Armed::waiter);
  PoolGuard guard{pool.mutex};
  pool.bells.set_leader(guard, Bells::Leader::none);
}

TEST_CASE("which bells are armed: none for a leader that looks, all results for one that sleeps") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  PoolGuard guard{pool.mutex};
  const auto armed = [&] {
    pool.dispatcher.arm_all(guard);
    return worker.header().armed.load() & 7U;
  };
  pool.bells.set_leader(guard, Bells::Leader::looks);
  CHECK(armed() == 0);
  pool.bells.set_leader(guard, Bells::Leader::sleeps);
  CHECK(armed() == Armed::waiter);
  pool.bells.set_leader(guard, Bells::Leader::none);
  CHECK(armed() == 0);
  std::function<void(Locked)> nothing = [](Locked) {};
  REQUIRE(pool.completion.add_continuation(guard, PlayedPool::task_of(task), nothing));
  CHECK(armed() == Armed::service);
  pool.bells.set_leader(guard, Bells::Leader::looks);
  CHECK(armed() == 0);
  pool.bells.set_leader(guard, Bells::Leader::none);
  pool.phase.closed = true;
  CHECK(armed() == Armed::service);
  // Each arming that is made stale is one more: the worker rings once for each.
  const auto epoch = worker.header().armed.load() >> Armed::epoch_shift;
  (void)armed();
  CHECK((worker.header().armed.load() >> Armed::epoch_shift) == epoch);
  pool.bells.make_stale(guard);
  (void)armed();
  CHECK((worker.header().armed.load() >> Armed::epoch_shift) == epoch + 1);
}

TEST_CASE("a worker that runs dry rings only where tasks are pending, or behind others") {
  PlayedPool pool;
  PlayedWorker& worker = pool.add_worker();
  std::vector<StateHandle> tasks;
  const auto rings_dry = [&] {
    PoolGuard guard{pool.mutex};
    pool.dispatcher.arm_all(guard);
    return (worker.header().armed.load() & Armed::dry) != 0;
  };
  for (int i = 0; i < 2; ++i) tasks.push_back(pool.submit());
  CHECK_FALSE(rings_dry());  // its own calls, and no other worker that could have one
  tasks.push_back(pool.submit());
  REQUIRE(PlayedPool::task_of(tasks.back()).is_pending());
  CHECK(rings_dry());
}

TEST_CASE("a worker's limits are looked at before the first of them can be over") {
  for (const auto second_limit : {1s, 3s}) {
    CAPTURE(second_limit);
    PlayedPool pool;
    PlayedWorker& worker = pool.add_worker();
    const auto before = std::chrono::steady_clock::now();
    const auto task = pool.submit({}, TaskOptions{.timeout = 10s, .soft_timeout = 3s});
    REQUIRE(pool.events.looks.size() == 1);
    CHECK(pool.events.looks[0] >= before + 3s);
    CHECK(pool.events.looks[0] < before + 10s);
    CHECK(worker.slot().limits.next_look() == pool.events.looks[0]);
    const auto second = pool.submit({}, TaskOptions{.timeout = second_limit});
    REQUIRE(PlayedPool::task_of(second).is_dispatched());
    // One that is as long, or longer, needs no look of its own.
    REQUIRE(pool.events.looks.size() == (second_limit < 3s ? 2 : 1));
    CHECK((pool.events.looks.back() < before + 3s) == (second_limit < 3s));
    CHECK(worker.slot().limits.next_look() == pool.events.looks.back());
  }
}

TEST_CASE("backpressure counts unfinished tasks, and gives each live worker one more") {
  PlayedPool pool{2, 3};
  const auto allows = [&](std::size_t unfinished) {
    PoolGuard guard{pool.mutex};
    return pool.backpressure.allows_another(guard, unfinished, pool.slots);
  };
  CHECK(allows(2));
  CHECK_FALSE(allows(3));
  pool.add_worker();
  CHECK(allows(3));
  CHECK_FALSE(allows(4));
}
