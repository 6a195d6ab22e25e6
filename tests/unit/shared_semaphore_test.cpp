#include <random>

#include "kindred/semaphore.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

TEST_CASE("a Semaphore lets in as many as it has permits, whatever process they are in") {
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(2);
  const Message message = pack(pool.id, semaphore);
  struct Shared {
    std::atomic<int> inside, most;
  };
  Common<Shared> common;
  std::vector<Worker> workers;
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back(pool, [&] {
      const auto mine = unpack<Semaphore>(pool.id, message);
      for (int round = 0; round < 3000; ++round) {
        mine.acquire();
        const int now = ++common->inside;
        if (now > common->most) common->most = now;
        if (round % 16 == 0) std::this_thread::yield();
        --common->inside;
        mine.release();
      }
    });
  }
  for (auto& worker : workers) CHECK(worker.end() == 0);
  CHECK(common->most == 2);
  CHECK(semaphore.available() == 2);
  CHECK_FALSE(semaphore.abandoned());
}

TEST_CASE("a Semaphore's waits end in time, and its numbers are checked") {
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(1);
  CHECK(semaphore.try_acquire());
  CHECK_FALSE(semaphore.try_acquire());
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(semaphore.try_acquire_for(20ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
  CHECK_FALSE(semaphore.try_acquire_until(std::chrono::system_clock::now() + 1ms));
  semaphore.release(3);  // more than were acquired, as the standard allows
  CHECK(semaphore.available() == 3);
  CHECK_THROWS_CONTAINS(semaphore.release(-1), UsageError, "-1");
  CHECK_THROWS_CONTAINS(semaphore.release(Semaphore::max()), UsageError, "3 permits available");
  CHECK(semaphore.available() == 3);
  semaphore.release(0);
  CHECK(semaphore.available() == 3);
  CHECK_THROWS_CONTAINS(Semaphore{}.acquire(), UsageError, "empty handle");
}

TEST_CASE("a dead worker's permits come back, and that is told") {
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(3);
  Common<std::atomic<int>> have;
  Worker worker{pool, [&, message = pack(pool.id, semaphore)] {
                  const auto mine = unpack<Semaphore>(pool.id, message);
                  mine.acquire();
                  mine.acquire();
                  mine.acquire();
                  mine.release();
                  *have = 1;
                  ::pause();
                }};
  until([&] { return *have == 1; });
  CHECK(semaphore.try_acquire());
  Sleeper sleeper{[&] { semaphore.acquire(); }};
  worker.kill();
  sleeper.join();
  CHECK(semaphore.available() == 1);
  CHECK(semaphore.abandoned());
  semaphore.make_consistent();
  CHECK_FALSE(semaphore.abandoned());
}

TEST_CASE("permits stay with a worker that dropped its handle, until it ends") {
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(1);
  Common<std::atomic<int>> stage;
  Worker worker{pool, [&, message = pack(pool.id, semaphore)] {
                  unpack<Semaphore>(pool.id, message).acquire();
                  *stage = 1;
                  until([&] { return *stage == 2; });
                  unpack<Semaphore>(pool.id, message).release();  // a new mapping, the same account
                  unpack<Semaphore>(pool.id, message).acquire();
                  *stage = 3;
                  ::pause();
                }};
  until([&] { return *stage == 1; });
  CHECK_FALSE(semaphore.try_acquire());
  *stage = 2;
  until([&] { return *stage == 3; });
  CHECK_FALSE(semaphore.try_acquire());
  worker.kill();
  CHECK(semaphore.try_acquire());
}

TEST_CASE("a permit released by another process is not given back twice") {
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(2);
  Common<std::atomic<int>> have;
  Worker worker{pool, [&, message = pack(pool.id, semaphore)] {
                  const auto mine = unpack<Semaphore>(pool.id, message);
                  mine.acquire();
                  mine.acquire();
                  *have = 1;
                  ::pause();
                }};
  until([&] { return *have == 1; });
  semaphore.release();  // for the worker: this process holds none
  CHECK(semaphore.available() == 1);
  worker.kill();
  CHECK(semaphore.available() == 2);
}

TEST_CASE("permits that were consumed do not come back") {
  Pool pool;
  const Semaphore signals = pool.registry.make_semaphore(0);
  Worker worker{pool, [&, message = pack(pool.id, signals)] {
                  const auto mine = unpack<Semaphore>(pool.id, message);
                  mine.acquire();
                  mine.acquire();
                  mine.consume(2);
                  mine.acquire();
                }};
  signals.release(3);
  CHECK(worker.end() == 0);
  CHECK(signals.available() == 1);
}

TEST_CASE("no permit is lost or made by a worker that stops at any instruction of acquire and release") {
  if (long_run()) const Deadline deadline{300s};
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(2);
  const Message message = pack(pool.id, semaphore);
  const long stride = long_run() ? 1 : 13;
  bool came_back = false;
  long steps = 0;
  for (;; steps += stride) {
    const bool within = kill_after_steps(
        pool, steps, [&] { return unpack<Semaphore>(pool.id, message); },
        [](const Semaphore& mine) {
          mine.acquire();
          mine.release();
        });
    REQUIRE(semaphore.try_acquire_for(5s));
    REQUIRE(semaphore.try_acquire_for(5s));
    REQUIRE_FALSE(semaphore.try_acquire());
    semaphore.release(2);
    came_back = came_back || semaphore.abandoned();
    semaphore.make_consistent();
    if (!within) break;
  }
  CHECK(steps > 500);
  CHECK(came_back);
}

TEST_CASE("a sleeper gets its permit although the one that gives it stops at any instruction of that") {
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(1);
  const Message message = pack(pool.id, semaphore);
  const long stride = long_run() ? 1 : 13;
  for (long steps = 0;; steps += stride) {
    std::atomic<bool> got{false};
    std::unique_ptr<Sleeper> sleeper;
    const bool within = kill_after_steps(
        pool, steps,
        [&] {
          auto mine = unpack<Semaphore>(pool.id, message);
          mine.acquire();
          return mine;
        },
        [](const Semaphore& mine) { mine.release(); },
        [&] {
          sleeper = std::make_unique<Sleeper>([&] {
            semaphore.acquire();
            got = true;
          });
        });
    sleeper->join();
    REQUIRE(got);
    semaphore.release();
    REQUIRE(semaphore.available() == 1);
    if (!within) break;
  }
}

TEST_CASE("workers killed at random moments leave a Semaphore whole") {
  Pool pool;
  const Semaphore semaphore = pool.registry.make_semaphore(2);
  const Message message = pack(pool.id, semaphore);
  Common<std::atomic<long>> turns;
  const auto worker = [&] {
    return Worker{pool, [&] {
                    const auto mine = unpack<Semaphore>(pool.id, message);
                    for (;;) {
                      mine.acquire();
                      ++*turns;
                      mine.release();
                    }
                  }};
  };
  std::vector<Worker> workers;
  for (int i = 0; i < 4; ++i) workers.push_back(worker());
  std::mt19937 random{54321};
  for (int kill = 0; kill < 100; ++kill) {
    const long seen = *turns;
    until([&] { return *turns > seen + static_cast<long>(random() % 40); });
    workers.erase(workers.begin());
    workers.push_back(worker());
  }
  workers.clear();
  CHECK(semaphore.available() == 2);
}
