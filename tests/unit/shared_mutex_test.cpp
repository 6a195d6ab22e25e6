#include <future>
#include <mutex>
#include <random>

#include "kindred/mutex.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

TEST_CASE("a Mutex lets one thread of all processes in at a time") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  const Message message = pack(pool.id, mutex);
  struct Shared {
    long plain;
  };  // no atomic: only the mutex protects it
  Common<Shared> common;
  constexpr int rounds = 20'000;
  const auto work = [&](const Mutex& lock) {
    for (int i = 0; i < rounds; ++i) {
      const std::scoped_lock guard{lock};
      const_cast<volatile long&>(common->plain) = common->plain + 1;
    }
  };
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back(pool, [&] {
      const auto mine = unpack<Mutex>(pool.id, message);
      std::thread other{[&] { work(mine); }};
      work(mine);
      other.join();
    });
  }
  work(mutex);
  for (auto& worker : workers) CHECK(worker.end() == 0);
  CHECK(common->plain == 7 * rounds);
  CHECK_FALSE(mutex.abandoned());
}

TEST_CASE("the standard's guards work on a Mutex, and its waits end in time") {
  Pool pool;
  Mutex mutex = pool.registry.make_mutex();
  { const std::lock_guard guard{mutex}; }
  { const std::scoped_lock guard{mutex}; }
  Mutex second = pool.registry.make_mutex();
  { const std::scoped_lock both{mutex, second}; }
  std::unique_lock held{mutex};
  std::thread{[&] {
    CHECK_FALSE(mutex.try_lock());
    const auto begin = std::chrono::steady_clock::now();
    CHECK_FALSE(mutex.try_lock_for(20ms));
    CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
    CHECK_FALSE(mutex.try_lock_until(std::chrono::system_clock::now() + 5ms));
    CHECK_FALSE(mutex.try_lock_until(std::chrono::steady_clock::time_point::min()));
    CHECK_FALSE(mutex.try_lock_for(-1h));
  }}.join();
  held.unlock();
  CHECK(mutex.try_lock_for(std::chrono::hours::max()));
  mutex.unlock();
  const std::unique_lock timed{mutex, 1ms};
  CHECK(timed.owns_lock());
}

TEST_CASE(
    "what a killed worker had locked is free again, and every owner is told until it is made consistent") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  Worker holder{pool, [&, message = pack(pool.id, mutex)] {
                  const auto mine = unpack<Mutex>(pool.id, message);
                  mine.lock();
                  ::pause();
                }};
  until([&] {
    if (!mutex.try_lock()) return true;
    mutex.unlock();
    return false;
  });
  std::thread waiter{[&] {
    mutex.lock();
    CHECK(mutex.abandoned());
    mutex.unlock();
  }};
  holder.kill();
  waiter.join();
  CHECK(mutex.abandoned());
  mutex.lock();
  CHECK(mutex.abandoned());
  mutex.make_consistent();
  CHECK_FALSE(mutex.abandoned());
  mutex.unlock();
  CHECK_FALSE(mutex.abandoned());
}

TEST_CASE("a worker that exits while it holds a Mutex gives it back as a killed one does") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  Worker holder{pool, [&, message = pack(pool.id, mutex)] { unpack<Mutex>(pool.id, message).lock(); }};
  CHECK(holder.end() == 0);
  CHECK(mutex.try_lock_for(10s));
  CHECK(mutex.abandoned());
  mutex.unlock();
}

TEST_CASE("workers killed at random moments neither block a Mutex nor tear what it protects unseen") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  const Message message = pack(pool.id, mutex);
  struct Shared {
    std::atomic<long> left, right, turns;
  };
  Common<Shared> common;
  const auto worker = [&] {
    return Worker{pool, [&] {
                    const auto mine = unpack<Mutex>(pool.id, message);
                    for (;;) {
                      const std::scoped_lock guard{mine};
                      if (mine.abandoned()) {
                        common->right.store(common->left);
                        mine.make_consistent();
                      }
                      if (common->left != common->right) ::_exit(3);
                      ++common->left;
                      ++common->right;
                      ++common->turns;
                    }
                  }};
  };
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) workers.push_back(worker());
  std::mt19937 random{12345};
  for (int kill = 0; kill < 150; ++kill) {
    const long seen = common->turns;
    until([&] {
      return common->turns > seen + static_cast<long>(random() % 50);
    });  // they go on, though others have died
    workers.erase(workers.begin());
    workers.push_back(worker());
  }
  for (auto& one : workers) CHECK(process_exists(one.pid()));
  workers.clear();
  CHECK(mutex.try_lock_for(10s));
  CHECK((mutex.abandoned() || common->left == common->right));
  mutex.unlock();
}

TEST_CASE("a Mutex survives a worker that stops at any instruction of lock and unlock") {
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  const Message message = pack(pool.id, mutex);
  const long stride = long_run() ? 1 : 7;
  bool abandoned_once = false;
  bool free_once = false;
  long steps = 0;
  for (;; steps += stride) {
    const bool within = kill_after_steps(
        pool, steps, [&] { return unpack<Mutex>(pool.id, message); },
        [](const Mutex& mine) {
          mine.lock();
          mine.unlock();
        });
    REQUIRE(mutex.try_lock_for(10s));
    (mutex.abandoned() ? abandoned_once : free_once) = true;
    mutex.make_consistent();
    mutex.unlock();
    if (!within) break;
  }
  CHECK(steps > 50);
  CHECK(abandoned_once);
  CHECK(free_once);
}

TEST_CASE("a sleeper gets the Mutex although its owner stops at any instruction of unlock") {
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  const Message message = pack(pool.id, mutex);
  const long stride = long_run() ? 1 : 5;
  long steps = 0;
  for (;; steps += stride) {
    std::atomic<bool> got{false};
    std::unique_ptr<Sleeper> sleeper;
    const bool within = kill_after_steps(
        pool, steps,
        [&] {
          auto mine = unpack<Mutex>(pool.id, message);
          mine.lock();
          return mine;
        },
        [](const Mutex& mine) { mine.unlock(); },
        [&] {
          sleeper = std::make_unique<Sleeper>([&] {
            mutex.lock();
            mutex.unlock();
            got = true;
          });
        });
    sleeper->join();
    REQUIRE(got);
    if (!within) break;
  }
  CHECK(steps > 50);
}

TEST_CASE("one unlock wakes one sleeper, and all get the Mutex in the end") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  mutex.lock();
  std::atomic<int> got{0};
  const auto sleep = [&] {
    mutex.lock();
    ++got;
    mutex.unlock();
  };
  Sleeper first{sleep};
  Sleeper second{sleep};
  Sleeper third{sleep};
  mutex.unlock();
  for (Sleeper* sleeper : {&first, &second, &third}) sleeper->join();
  CHECK(got == 3);
}

TEST_CASE("a sleeper gets the Mutex although the one that was woken before it died") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  const Message message = pack(pool.id, mutex);
  for (int round = 0; round < 20; ++round) {
    mutex.lock();
    Worker first{pool, [&] {
                   const auto mine = unpack<Mutex>(pool.id, message);
                   mine.lock();
                   ::pause();
                 }};
    // It sleeps on the word first, and is stopped there: it is woken, and does nothing with that.
    until_asleep(first.pid());
    ::kill(first.pid(), SIGSTOP);
    bool got = false;
    Sleeper second{[&] {
      mutex.lock();
      mutex.unlock();
      got = true;
    }};
    mutex.unlock();
    first.kill();
    second.join();
    REQUIRE(got);
  }
}

TEST_CASE("a Mutex refuses what a thread must not do, and says why") {
  Pool pool;
  const Mutex mutex = pool.registry.make_mutex();
  CHECK_THROWS_CONTAINS(mutex.unlock(), UsageError, "nobody does");
  mutex.lock();
  CHECK_THROWS_CONTAINS(mutex.lock(), UsageError, "not recursive");
  CHECK_THROWS_CONTAINS(static_cast<void>(mutex.try_lock_for(1ms)), UsageError, "not recursive");
  CHECK_FALSE(mutex.try_lock());
  std::thread{[&] {
    CHECK_THROWS_CONTAINS(mutex.unlock(), UsageError, "of this process does");
    CHECK_THROWS_CONTAINS(mutex.make_consistent(), UsageError, "does not hold");
  }}.join();
  Worker other{pool, [&, message = pack(pool.id, mutex)] {
                 const auto mine = unpack<Mutex>(pool.id, message);
                 CHECK_THROWS_CONTAINS(mine.unlock(), UsageError, "the parent does");
                 if (mine.try_lock()) ::_exit(3);
               }};
  CHECK(other.end() == 0);
  mutex.unlock();
  mutex.lock();
  CHECK(run_forked([&] { mutex.unlock(); }).code ==
        0);  // a guard's end in a fork of the user's own: it is still ours
  CHECK_FALSE(std::async(std::launch::async, [&] { return mutex.try_lock(); }).get());
  mutex.unlock();
  CHECK_THROWS_CONTAINS(Mutex{}.lock(), UsageError, "empty handle");
  CHECK_THROWS_CONTAINS(Mutex{}.unlock(), UsageError, "empty handle");
  CHECK_FALSE(static_cast<bool>(Mutex{}));
  CHECK(mutex == Mutex{mutex});
  CHECK_FALSE(mutex == pool.registry.make_mutex());
}
