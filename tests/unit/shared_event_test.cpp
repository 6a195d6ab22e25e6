#include "kindred/counter.hpp"
#include "kindred/event.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

TEST_CASE("an Event releases all who wait in any process, and those who come later") {
  Pool pool;
  const Event event = pool.registry.make_event();
  const Message message = pack(pool.id, event);
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back(pool, [&] {
      const auto mine = unpack<Event>(pool.id, message);
      mine.wait();
      if (!mine.is_set() || !mine.wait_for(0s)) ::_exit(3);
    });
  }
  Sleeper sleeper{[&] { event.wait(); }};
  CHECK_FALSE(event.is_set());
  event.set();
  event.set();
  sleeper.join();
  for (auto& worker : workers) CHECK(worker.end() == 0);
  event.wait();
  event.clear();
  CHECK_FALSE(event.is_set());
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(event.wait_for(20ms));
  CHECK(std::chrono::steady_clock::now() - begin >= 20ms);
  CHECK_FALSE(event.wait_until(std::chrono::system_clock::now() + 1ms));
}

TEST_CASE("who waits for an Event is released although it is cleared at once") {
  Pool pool;
  const Event event = pool.registry.make_event();
  for (int i = 0; i < 20; ++i) {
    Sleeper sleeper{[&] { event.wait(); }};
    event.set();
    event.clear();
    sleeper.join();
  }
}

TEST_CASE("a sleeper is released although the one that sets the Event stops at any instruction of that") {
  if (!can_single_step()) KINDRED_SKIP("single-stepping is forbidden here, or too slow");
  Pool pool;
  const Event event = pool.registry.make_event();
  const Message message = pack(pool.id, event);
  bool set_once = false;
  for (long steps = 0;; steps += long_run() ? 1 : 3) {
    std::atomic<bool> released{false};
    std::unique_ptr<Sleeper> sleeper;
    const bool within = kill_after_steps(
        pool, steps, [&] { return unpack<Event>(pool.id, message); }, [](const Event& mine) { mine.set(); },
        [&] {
          sleeper = std::make_unique<Sleeper>([&] {
            event.wait();
            released = true;
          });
        });
    const bool set = event.is_set();
    set_once = set_once || set;
    if (!set) event.set();
    sleeper->join();
    REQUIRE(released);
    event.clear();
    if (!within) break;
  }
  CHECK(set_once);
}

TEST_CASE("a Counter counts every addition of every process, killed ones included") {
  Pool pool;
  const Counter counter = pool.registry.make_counter(100);
  const Message message = pack(pool.id, counter);
  Common<std::atomic<long>> done;
  std::vector<Worker> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back(pool, [&] {
      const auto mine = unpack<Counter>(pool.id, message);
      for (;;) {
        ++mine;
        ++*done;
      }
    });
  }
  until([&] { return *done > 10'000; });
  workers.clear();
  const long counted = counter.load() - 100;
  CHECK(counted >= *done);
  CHECK(counted <= *done + 3);  // each may have died between the two
}

TEST_CASE("a Counter has the members of an atomic") {
  Pool pool;
  const Counter counter = pool.registry.make_counter(5);
  CHECK(counter++ == 5);
  CHECK(++counter == 7);
  CHECK(counter-- == 7);
  CHECK(--counter == 5);
  CHECK((counter += 10) == 15);
  CHECK((counter -= 5) == 10);
  CHECK(counter.fetch_sub(3) == 10);
  CHECK(counter.exchange(1) == 7);
  std::int64_t expected = 2;
  CHECK_FALSE(counter.compare_exchange_strong(expected, 9));
  CHECK(expected == 1);
  CHECK(counter.compare_exchange_strong(expected, 9));
  counter.store(std::numeric_limits<std::int64_t>::max());
  CHECK(++counter == std::numeric_limits<std::int64_t>::min());  // wraps
  CHECK_THROWS_CONTAINS(static_cast<void>(Counter{}.load()), UsageError, "empty handle");
}
