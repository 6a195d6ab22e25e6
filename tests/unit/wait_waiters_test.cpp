// Threads that wait for results, and who runs on which core: the test plays the workers.
#include "wait/waiters.hpp"

#include <atomic>
#include <functional>
#include <thread>

#include "support/test.hpp"
#include "unit/pool_rooms.hpp"
#include "wait/cores.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

struct WaitingPool : PlayedPool {
  explicit WaitingPool(std::size_t max_workers = 1, bool may_spin = true,
                       void (*yields)() noexcept = yield_cpu)
      : PlayedPool{max_workers}, spin{may_spin}, yield{yields} {}
  bool spin;
  void (*yield)() noexcept;
  std::function<void()> before_sleep;  ///< of the leader, in its thread
  SharedBell bell;
  Cores cores{2, slots, load};
  Waiters waiters{{mutex, slots, control, bells, dispatcher, completion, cores,
                   [this]() -> const SharedBell& {
                     if (before_sleep) before_sleep();
                     return bell;
                   },
                   spin, yield}};
};

kindred::internal::Deadline in(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}
std::uint64_t microseconds(double count) {
  return static_cast<std::uint64_t>(count * 1e3 * ticks_per_nanosecond());
}

// What a worker does that rings when a result lies there.
void play(PlayedWorker& worker, const SharedBell& bell, int calls) {
  while (calls > 0) {
    if (worker.begin() == 0) {
      std::this_thread::yield();
      continue;
    }
    worker.end("done");
    bell.ring();
    --calls;
  }
}

/// Does it hold, with the lock held, within ten seconds?
template <class Condition>
bool comes_to_hold(WaitingPool& pool, const Condition& condition) {
  const auto until = in(10s);
  for (;;) {
    {
      PoolGuard guard{pool.mutex};
      if (condition(guard)) return true;
    }
    if (std::chrono::steady_clock::now() > *until) return false;
    std::this_thread::yield();
  }
}
auto has_leader(const WaitingPool& pool) {
  return [&pool](Locked locked) { return pool.waiters.has_leader(locked); };
}
/// Between its note and its sleep the thread holds the lock.
auto is_waited_for(const StateHandle& task) {
  return [&task](Locked locked) { return task->has_sleepers(locked); };
}
/// A thread that waits for a task, and has begun to when this is made: it leads, or it follows a leader.
class Waiting {
 public:
  enum class As { leader, follower };
  Waiting(WaitingPool& pool, const StateHandle& task, As as)
      : thread_{[this, &pool, state = task.get()] { has_result_ = pool.waiters.wait(*state, in(30s)); }} {
    const bool has_begun =
        as == As::leader ? comes_to_hold(pool, has_leader(pool)) : comes_to_hold(pool, is_waited_for(task));
    REQUIRE(has_begun);
  }
  /// Returns when its wait is over. Has it its result?
  [[nodiscard]] bool has_result_at_end() {
    thread_.join();
    return has_result_;
  }

 private:
  bool has_result_ = false;
  std::jthread thread_;
};
/// Both results lie there before any thread looks.
void end_two_at_once(WaitingPool& pool, PlayedWorker& worker) {
  PoolGuard guard{pool.mutex};
  for (int i = 0; i < 2; ++i) {
    REQUIRE(worker.begin() != 0);
    worker.end("done");
  }
  pool.bell.ring();
}

}  // namespace

namespace {
/// Yields that the kernel refuses, and what happens at the third one.
unsigned yields = 0;
std::function<void()>* at_the_third = nullptr;
void refuse() noexcept {
  if (++yields == 3 && at_the_third != nullptr) (*at_the_third)();
}
}  // namespace

TEST_CASE(
    "a leader past whom no yield lets the worker spins on where that was of use before, else it sleeps") {
  // A refused yield takes long where something else had the core just then.
  const auto once = [&](auto&& holds) {
    for (int attempt = 0; attempt < 100; ++attempt) {
      if (holds()) return true;
    }
    return false;
  };
  CHECK(once([&] {
    WaitingPool pool{1, true, refuse};
    PlayedWorker& worker = pool.add_worker();
    std::function<void()> end_call = [&] {
      if (worker.begin() != 0) worker.end("done");
      pool.bell.ring();
    };
    pool.before_sleep = end_call;
    const auto spins_on = [&] {
      const auto task = pool.submit();
      worker.header().cpu = static_cast<std::uint32_t>(current_cpu()) + 1;
      yields = 0;
      CHECK(pool.waiters.wait(*task.get(), in(10s)));
      return yields > 1;
    };
    if (!spins_on() || spins_on() || !spins_on() || spins_on() || spins_on()) return false;
    at_the_third = &end_call;
    const bool tried = spins_on();
    const bool again = spins_on();
    at_the_third = nullptr;
    return tried && again && spins_on() && !spins_on() && spins_on();
  }));
}

TEST_CASE("a result that is there already is taken in by the wait itself, and no thread leads") {
  WaitingPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  REQUIRE(worker.begin() == 1);
  worker.end("x");
  CHECK(pool.waiters.wait(*task.get(), in(0ms)));
  PoolGuard guard{pool.mutex};
  CHECK_FALSE(pool.waiters.has_leader(guard));
}

TEST_CASE("a wait ends at its deadline, whatever the worker does, and leaves no leader behind") {
  for (const bool spin : {true, false}) {
    CAPTURE(spin);
    WaitingPool pool{1, spin};
    pool.add_worker();
    const auto task = pool.submit();
    CHECK_FALSE(pool.waiters.wait(*task.get(), in(20ms)));
    CHECK_FALSE(pool.waiters.wait(
        *task.get(), kindred::internal::Deadline{std::chrono::steady_clock::time_point{}}));  // only asks
    PoolGuard guard{pool.mutex};
    CHECK_FALSE(pool.waiters.has_leader(guard));
    CHECK(pool.bells.leader(guard) == Bells::Leader::none);
  }
}

TEST_CASE("the leader takes results in whether it spins or sleeps") {
  for (const bool spin : {true, false}) {
    CAPTURE(spin);
    WaitingPool pool{1, spin};
    PlayedWorker& worker = pool.add_worker();
    const auto task = pool.submit();
    std::thread player{[&] { play(worker, pool.bell, 1); }};
    CHECK(pool.waiters.wait(*task.get(), {}));
    CHECK(PlayedPool::value_of(task) == "done");
    player.join();
  }
}

TEST_CASE("threads that follow a leader are woken for their own results, and one of them leads next") {
  WaitingPool pool;
  PlayedWorker& worker = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 6; ++i) tasks.push_back(pool.submit());
  struct Forward {
    static void leader(WaitingPool& pool) {
      PoolGuard guard{pool.mutex};
      pool.waiters.wake_leader(guard);
    }
  };
  std::atomic<int> ended{0};
  std::vector<std::thread> waiting;
  for (const auto& task : tasks) {
    waiting.emplace_back([&pool, &ended, state = task.get()] {
      if (pool.waiters.wait(*state, in(30s))) ++ended;
    });
  }
  // What `PoolCore` does with the events, here by a thread that looks.
  std::atomic<bool> stop{false};
  std::thread events{[&] {
    while (!stop) {
      {
        PoolGuard guard{pool.mutex};
        for (const FutureState* state : std::exchange(pool.events.woken, {}))
          pool.waiters.wake_followers(guard, *state);
      }
      Forward::leader(pool);
      std::this_thread::yield();
    }
  }};
  play(worker, pool.bell, 6);
  for (auto& thread : waiting) thread.join();
  stop = true;
  events.join();
  CHECK(ended == 6);
}

TEST_CASE("a leader that has its result hands the lead to a thread that follows") {
  WaitingPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto first = pool.submit();
  const auto second = pool.submit();
  Waiting leads{pool, first, Waiting::As::leader};
  Waiting follows{pool, second, Waiting::As::follower};
  play(worker, pool.bell, 1);
  CHECK(leads.has_result_at_end());
  CHECK(comes_to_hold(pool, has_leader(pool)));  // the other thread, which nothing else has woken
  play(worker, pool.bell, 1);
  CHECK(follows.has_result_at_end());
}

TEST_CASE("a thread that is to lead next, and finds its result there, hands the lead on") {
  WaitingPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto first = pool.submit();
  const auto second = pool.submit();
  const auto third = pool.submit();
  Waiting leads{pool, first, Waiting::As::leader};
  Waiting next{pool, second, Waiting::As::follower};
  Waiting last{pool, third, Waiting::As::follower};
  end_two_at_once(pool, worker);  // the leader takes both in, and wakes the second thread to lead
  CHECK(leads.has_result_at_end());
  CHECK(next.has_result_at_end());
  CHECK(comes_to_hold(pool, has_leader(pool)));
  play(worker, pool.bell, 1);
  CHECK(last.has_result_at_end());
}

TEST_CASE("the last thread that waits arms the bells for what no thread waits for, leader or not") {
  WaitingPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto first = pool.submit();
  const auto second = pool.submit();
  const auto third = pool.submit();
  {
    PoolGuard guard{pool.mutex};
    std::function<void()> nothing = [] {};
    REQUIRE(pool.completion.add_callback(guard, *third.get(), nothing));
  }
  Waiting leads{pool, first, Waiting::As::leader};
  Waiting follows{pool, second, Waiting::As::follower};
  end_two_at_once(pool, worker);
  CHECK(leads.has_result_at_end());
  CHECK(follows.has_result_at_end());
  PoolGuard guard{pool.mutex};
  REQUIRE(worker.slot().has_calls());
  CHECK((worker.slot().arming.bits & Armed::service) != 0);
}

TEST_CASE("a wait for several futures ends when it is told that it is ready") {
  WaitingPool pool;
  Waiter waiter;
  std::atomic<bool> ready{false};
  std::thread teller{[&] {
    PoolGuard guard{pool.mutex};
    ready = true;
    pool.waiters.wake(guard, waiter);
  }};
  CHECK(pool.waiters.wait_until([&] { return ready.load(); }, waiter, in(30s)));
  teller.join();
}

TEST_CASE("workers fill all cores only if each has short work for the whole nap") {
  WaitingPool pool{2};
  PlayedWorker& first = pool.add_worker();
  PlayedWorker& second = pool.add_worker();
  const auto fill = [&](PlayedWorker& worker, double average_us, std::size_t calls) {
    worker.slot().average.forget();
    worker.slot().average.move_towards(static_cast<double>(microseconds(average_us)), 0, 1);
    for (std::size_t i = worker.slot().in_flight.size(); i < calls; ++i)
      worker.slot().in_flight.push_back({});
    // Ten seconds ahead: however slowly this case runs, no call of theirs runs for long.
    worker.slot().progress_ticks = ticks() + static_cast<std::uint64_t>(microseconds(1e7));
  };
  PoolGuard guard{pool.mutex};
  CHECK_FALSE(pool.cores.saturated(guard, 100us));  // no run time is known
  RunAverage::Batch batch{.max_counted = microseconds(10), .counted = microseconds(10), .results = 1};
  pool.load.note_times(guard, first.slot(), batch);
  fill(first, 10, 20);
  CHECK_FALSE(pool.cores.saturated(guard, 100us));  // a core is free
  fill(second, 10, 20);
  CHECK(pool.cores.saturated(guard, 100us));
  CHECK_FALSE(pool.cores.saturated(guard, 1ms));  // it would run dry meanwhile
  second.slot().ready = false;
  CHECK_FALSE(pool.cores.saturated(guard, 100us));
  for (auto& worker : pool.workers) {
    while (!worker->slot().in_flight.empty()) worker->slot().in_flight.pop_front();
  }
}

TEST_CASE("of two workers on one core, one is asked to go to another") {
  WaitingPool pool{2};
  PlayedWorker& first = pool.add_worker();
  PlayedWorker& second = pool.add_worker();
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(pool.submit());
  first.header().cpu = 3;
  second.header().cpu = 3;
  PoolGuard guard{pool.mutex};
  REQUIRE(first.slot().has_calls());
  REQUIRE(second.slot().has_calls());
  pool.cores.spread_over_cores(guard);
  CHECK(first.header().crowded_cpu == 0);
  CHECK(second.header().crowded_cpu == 3);
  second.header().cpu = 4;
  pool.cores.spread_over_cores(guard);
  CHECK(second.header().crowded_cpu == 0);
}

TEST_CASE("a neighbour on this core runs a short task until it has run long, and is none on another core") {
  WaitingPool pool;
  PlayedWorker& worker = pool.add_worker();
  const auto task = pool.submit();
  REQUIRE(worker.begin() == 1);
  worker.header().cpu = 1;
  worker.header().begun_ticks = ticks() - microseconds(10'000);
  PoolGuard guard{pool.mutex};
  // Its tasks take a minute: this one is young, however slowly the test runs.
  worker.slot().average.move_towards(static_cast<double>(microseconds(60e6)), 0, 1);
  CHECK(pool.cores.neighbour_on(guard, 0) == Cores::Neighbour::short_task);
  CHECK(pool.cores.neighbour_on(guard, 1) == Cores::Neighbour::none);
  worker.slot().average.forget();
  CHECK(pool.cores.neighbour_on(guard, 0) == Cores::Neighbour::long_task);
}
