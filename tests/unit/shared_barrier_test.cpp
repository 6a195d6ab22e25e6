#include "kindred/barrier.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

TEST_CASE("a Barrier opens when all have arrived, phase after phase") {
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(4);
  const Message message = pack(pool.id, barrier);
  Common<std::atomic<int>> arrived;
  const auto take_part = [&](const Barrier& mine) {
    for (int phase = 1; phase <= 500; ++phase) {
      ++*arrived;
      mine.arrive_and_wait();
      if (*arrived < 4 * phase) return false;
      mine.arrive_and_wait();
    }
    return true;
  };
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i)
    workers.emplace_back(pool, [&] { ::_exit(take_part(unpack<Barrier>(pool.id, message)) ? 0 : 3); });
  // Their ends break it, but only after all have gone through the last phase.
  CHECK(take_part(barrier));
  for (auto& worker : workers) CHECK(worker.reap() == 0);
  for (auto& worker : workers) worker.tell();
  CHECK(barrier.broken());
}

TEST_CASE("a Barrier has the members of the standard's") {
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(3);
  const auto token = barrier.arrive(2);
  CHECK_FALSE(barrier.wait_for(token, 1ms));
  CHECK_THROWS_CONTAINS(static_cast<void>(barrier.arrive(2)), UsageError, "3 where 2 had arrived");
  CHECK_THROWS_CONTAINS(static_cast<void>(barrier.arrive(0)), UsageError, "0 participants arrived");
  barrier.arrive_and_drop();
  barrier.wait(token);
  CHECK(barrier.wait_until(token, std::chrono::steady_clock::now()));
  Sleeper sleeper{[&] { barrier.arrive_and_wait(); }};  // two are left
  CHECK(barrier.arrive_and_wait_for(10s));
  sleeper.join();
}

TEST_CASE("an arrival whose time is over has never been") {
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(2);
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(barrier.arrive_and_wait_for(20ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
  CHECK_FALSE(barrier.arrive_and_wait_until(std::chrono::system_clock::now() + 1ms));
  Sleeper sleeper{[&] { barrier.arrive_and_wait(); }};
  barrier.arrive_and_wait();
}

TEST_CASE(
    "a worker that dies with a Barrier breaks it for those who wait and those who come, by name, until it is reset") {
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(3);
  const Message message = pack(pool.id, barrier);
  Common<std::atomic<int>> have;
  bool has_arrived = false;
  SUBCASE("waiting in it") { has_arrived = true; }
  SUBCASE("on its way to it") {}
  Worker worker{pool, [&] {
                  const auto mine = unpack<Barrier>(pool.id, message);
                  if (has_arrived) static_cast<void>(mine.arrive());
                  *have = 1;
                  ::pause();
                }};
  until([&] { return *have == 1; });
  std::string text;
  Sleeper sleeper{[&] {
    try {
      barrier.arrive_and_wait();
    } catch (const BrokenBarrier& error) {
      text = error.what();
    }
  }};
  const auto pid = std::to_string(worker.pid());
  worker.kill();
  sleeper.join();
  CHECK_CONTAINS(text, "worker 0 (pid " + pid + ") ended while it had the barrier");
  CHECK(barrier.broken());
  CHECK_THROWS_CONTAINS(barrier.arrive_and_wait(), BrokenBarrier, "pid " + pid);
  CHECK_THROWS_AS(barrier.arrive_and_wait(), Error);
  barrier.reset();
  CHECK_FALSE(barrier.broken());
  const auto token = barrier.arrive(3);
  barrier.wait(token);
}

TEST_CASE("a worker that let go of a Barrier, or left it, does not break it when it dies") {
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(2);
  const Message message = pack(pool.id, barrier);
  Common<std::atomic<int>> have;
  Worker without{pool, [&] {
                   { const auto mine = unpack<Barrier>(pool.id, message); }
                   ++*have;
                   ::pause();
                 }};
  Worker left{pool, [&] {
                const auto mine = unpack<Barrier>(pool.id, message);
                mine.arrive_and_drop();
                ++*have;
                ::pause();
              }};
  until([&] { return *have == 2; });
  without.kill();
  left.kill();
  CHECK_FALSE(barrier.broken());
  barrier.arrive_and_wait();
}

TEST_CASE("a Barrier that is aborted or reset tells those who wait") {
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(2);
  std::string text;
  {
    Sleeper sleeper{[&] {
      try {
        barrier.arrive_and_wait();
      } catch (const BrokenBarrier& error) {
        text = error.what();
      }
    }};
    SUBCASE("abort") { barrier.abort(); }
    SUBCASE("reset") { barrier.reset(); }
  }
  CHECK((contains(text, "abort()") || contains(text, "has been reset")));
  barrier.reset();
  barrier.wait(barrier.arrive(2));
}

TEST_CASE("nobody waits for ever at a Barrier whose participant stops at any instruction") {
  if (long_run()) const Deadline deadline{300s};
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const Barrier barrier = pool.registry.make_barrier(2);
  const Message message = pack(pool.id, barrier);
  bool opened = false;
  bool broke = false;
  for (long steps = 0;; steps += long_run() ? 1 : 13) {
    std::atomic<int> outcome{0};
    std::unique_ptr<Sleeper> sleeper;
    const bool within = kill_after_steps(
        pool, steps, [&] { return unpack<Barrier>(pool.id, message); },
        [](const Barrier& mine) { mine.arrive_and_wait(); },
        [&] {
          sleeper = std::make_unique<Sleeper>([&] {
            try {
              barrier.arrive_and_wait();
              outcome = 1;
            } catch (const BrokenBarrier&) {
              outcome = 2;
            }
          });
        });
    sleeper->join();
    REQUIRE(outcome != 0);
    opened = opened || outcome == 1;
    broke = broke || outcome == 2;
    barrier.reset();
    if (!within) break;
  }
  CHECK(opened);
  CHECK(broke);
}
