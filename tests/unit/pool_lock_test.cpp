// The lock of a pool, which is given back by a plain store.
#include "lock/pool_lock.hpp"
#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/cpu.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using namespace std::chrono_literals;
using kindred::internal::PoolLock;

namespace {

// Several threads count together. The holder of the lock lets others run meanwhile, now and then, so that the
// others have to sleep for it.
void count_together(PoolLock& lock) {
  constexpr int threads = 4;
  constexpr int rounds = 20'000;
  long counter = 0;
  bool inside = false;
  int met = 0;
  std::vector<std::thread> all;
  for (int thread = 0; thread < threads; ++thread) {
    all.emplace_back([&, thread] {
      for (int round = 0; round < rounds; ++round) {
        const std::scoped_lock hold{lock};
        if (inside) ++met;
        inside = true;
        ++counter;
        if ((round + thread) % 500 == 0) std::this_thread::sleep_for(200us);
        if (round % 64 == 0) kindred::internal::yield_cpu();
        inside = false;
      }
    });
  }
  for (auto& thread : all) thread.join();
  CHECK(counter == long{threads} * rounds);
  CHECK(met == 0);
}

// A thread that waits for the lock gets it once it is given back, however long it has waited: one that nobody
// wakes hangs here.
void hand_to_sleeper(PoolLock& lock) {
  for (int round = 0; round < 300; ++round) {
    std::atomic<bool> waits{false};
    std::atomic<bool> has_it{false};
    lock.lock();
    std::thread sleeper{[&] {
      waits = true;
      lock.lock();
      has_it = true;
      lock.unlock();
    }};
    while (!waits) std::this_thread::yield();
    // From "not yet asleep" to "long asleep".
    std::this_thread::sleep_for(std::chrono::microseconds{round % 30 * 10});
    CHECK(!has_it);
    lock.unlock();
    sleeper.join();
    CHECK(has_it);
  }
}

}  // namespace

TEST_CASE("the pool's lock lets one thread in at a time, and loses no sleeper") {
  PoolLock lock{kindred::internal::register_light_side()};
  count_together(lock);
  hand_to_sleeper(lock);
}

TEST_CASE("the pool's lock without a membarrier makes the fence itself") {
  PoolLock lock{false};
  count_together(lock);
  hand_to_sleeper(lock);
}

TEST_CASE("the pool's lock can be tried, and waited with") {
  PoolLock lock{kindred::internal::register_light_side()};
  lock.lock();
  CHECK(!lock.try_lock());
  lock.unlock();
  CHECK(lock.try_lock());
  lock.unlock();

  std::condition_variable_any changed;
  bool done = false;
  std::thread other{[&] {
    const std::scoped_lock hold{lock};
    done = true;
    changed.notify_all();
  }};
  std::unique_lock hold{lock};
  changed.wait(hold, [&] { return done; });
  hold.unlock();
  other.join();
  CHECK(done);
}
