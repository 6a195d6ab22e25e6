// Several futures at once: wait and as_completed, and who is woken by what.
#include <algorithm>
#include <atomic>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <malloc.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int after(Event go, int value) {
  go.wait();
  return value;
}
int fail(int) { throw std::runtime_error{"failed as asked"}; }
int fail_after(Event go) {
  go.wait();
  throw std::runtime_error{"failed as asked"};
}
std::vector<char> bytes_of(std::size_t size) { return std::vector<char>(size, 'b'); }

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "waiting for the first of several returns at once where one is done, the rest is in not_done") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto go = pool.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(after, go, 1));
  futures.push_back(pool.submit(number, 2));
  futures[1].wait();
  const auto result = kindred::wait(futures, ReturnWhen::first_completed);
  REQUIRE(result.done.size() == 1);
  CHECK(result.done[0] == &futures[1]);
  REQUIRE(result.not_done.size() == 1);
  CHECK(result.not_done[0] == &futures[0]);
  go.set();
  CHECK(kindred::wait(futures).done.size() == 2);
}

TEST_CASE_EACH_START_METHOD("waiting for the first failure is not ended by a cancellation") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto begun = pool.make_event(), go = pool.make_event(), fails = pool.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(begin_and_wait, begun, go));
  futures.push_back(pool.submit(fail_after, fails));
  begun.wait();
  futures.push_back(pool.submit(number, 3));
  CHECK(futures[2].cancel());
  const auto cancelled_only = kindred::wait(futures, ReturnWhen::first_exception, 20ms);
  CHECK(cancelled_only.done.size() == 1);
  fails.set();
  const auto failed = kindred::wait(futures, ReturnWhen::first_exception);
  CHECK(failed.done.size() == 2);
  REQUIRE(failed.not_done.size() == 1);
  CHECK(failed.not_done[0] == &futures[0]);
  go.set();
  CHECK(kindred::wait(futures, ReturnWhen::first_exception).not_done.size() <= 1);
  CHECK(kindred::wait(futures).done.size() == 3);
}

TEST_CASE_EACH_START_METHOD("a future that is given twice counts once") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto go = pool.make_event();
  const auto shared = pool.submit(after, go, 1).share();
  std::vector<SharedFuture<int>> futures{shared, shared, pool.submit(number, 2).share(), shared};
  CHECK(kindred::wait(futures, ReturnWhen::all_completed, 1ms).not_done.size() == 2);
  go.set();
  const auto result = kindred::wait(futures);
  CHECK(result.done.size() == 2);
  CHECK(result.not_done.empty());
  int sum = 0, count = 0;
  for (auto& future : as_completed(futures)) {
    sum += future.get();
    ++count;
  }
  CHECK(count == 2);
  CHECK(sum == 3);
}

TEST_CASE_EACH_START_METHOD("as_completed gives each future once, in the order in which they finish") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 3}};
  const Event go[] = {pool.make_event(), pool.make_event(), pool.make_event()};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(pool.submit(after, go[i], i));
  std::vector<int> order;
  go[2].set();
  for (auto& future : as_completed(futures)) {
    order.push_back(future.get());
    if (order.back() == 2) go[0].set();
    if (order.back() == 0) go[1].set();
  }
  CHECK(order == std::vector<int>{2, 0, 1});
  CHECK(as_completed(std::vector<Future<int>>{}).begin() == std::default_sentinel);
}

TEST_CASE_EACH_START_METHOD("as_completed gives what is finished and then says that the time is over") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto go = pool.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(after, go, 1));
  futures.push_back(pool.submit(number, 2));
  futures[1].wait();
  std::vector<int> seen;
  const auto loop = [&] {
    for (auto& future : as_completed(futures, 30ms)) seen.push_back(future.get());
  };
  CHECK_THROWS_CONTAINS(loop(), TimeoutError, "1 of 2");
  CHECK(seen == std::vector<int>{2});
  go.set();
  CHECK(futures[0].get() == 1);
}

TEST_CASE_EACH_START_METHOD(
    "a result belongs to its future: dropped while as_completed goes on, its memory is free") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps memory that was freed");
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  constexpr std::size_t size = 8U << 20U;
  std::vector<Future<std::vector<char>>> futures;
  for (int i = 0; i < 12; ++i) futures.push_back(pool.submit(bytes_of, size));
  (void)kindred::wait(futures);
  const auto before = resident_kib();
  std::size_t count = 0;
  std::int64_t most = 0;
  for (auto& future : as_completed(futures)) {
    CHECK(future.get().size() == size);
    future = {};
    ++count;
    most = std::max(most, resident_kib());
  }
  CHECK(count == 12);
  // One copy and one mapping at a time are 16 MiB; had all been kept, it would be 96 and more.
  CHECK(most < before + 48 * 1024);
}

TEST_CASE_EACH_START_METHOD("all who wait are woken when shutdown cancels what is pending") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto running = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  std::vector<SharedFuture<int>> pending;
  for (int i = 0; i < 8; ++i) pending.push_back(pool.submit(number, i).share());
  std::atomic<int> waiting{0}, cancelled{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i, mine = pending]() mutable {
      ++waiting;
      if (i % 3 == 0) {
        for (auto* future : kindred::wait(mine).done) cancelled += future->cancelled() ? 1 : 0;
      } else if (i % 3 == 1) {
        for (auto& future : as_completed(mine)) cancelled += future.cancelled() ? 1 : 0;
      } else {
        for (auto& future : mine) cancelled += future.exception() != nullptr && future.cancelled() ? 1 : 0;
      }
    });
  }
  while (waiting != 6) std::this_thread::yield();
  pool.shutdown({.wait = false, .cancel_pending = true});
  for (auto& thread : threads) thread.join();
  CHECK(cancelled == 6 * 8);
  CHECK_FALSE(running.done());
  go.set();
  CHECK(running.get() == 7);
}

TEST_CASE_EACH_START_METHOD("groups that finish while they are being waited for are never missed") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (int i = 0; i < 50; ++i) pool.submit(number, i).get();
  for (int round = 0; round < 300; ++round) {
    std::vector<Future<int>> futures;
    for (int i = 0; i < 12; ++i)
      futures.push_back(i % 4 == 3 ? pool.submit(fail, i) : pool.submit(number, i));
    if (round % 3 == 0) {
      CHECK(kindred::wait(futures).done.size() == 12);
    } else if (round % 3 == 1) {
      CHECK(!kindred::wait(futures, ReturnWhen::first_exception).done.empty());
    } else {
      int count = 0;
      for (auto& future : as_completed(futures)) count += future.done() ? 1 : 0;
      CHECK(count == 12);
    }
  }
}

TEST_CASE_EACH_START_METHOD("many threads wait for many groups of one pool at once") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::atomic<int> sum{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 40; ++round) {
        std::vector<Future<int>> futures;
        for (int i = 0; i < 10; ++i) futures.push_back(pool.submit(number, i));
        if (round % 2 == 0) {
          for (auto& future : as_completed(futures)) sum += future.get();
        } else {
          (void)kindred::wait(futures);
          for (auto& future : futures) sum += future.get();
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sum == 6 * 40 * 45);
}

TEST_CASE_EACH_START_METHOD(
    "a wait for futures of two pools ends with the first, and the other may be dropped then") {
  ProcessPoolExecutor one{entry(), {.start_method = method, .max_workers = 1}};
  ProcessPoolExecutor two{entry(), {.start_method = method, .max_workers = 1}};
  const auto late = one.make_event(), soon = two.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(one.submit(after, late, 1).then([](int value) { return value; }));
  futures.push_back(two.submit(after, soon, 2));
  std::thread setter{[&soon] {
    std::this_thread::sleep_for(20ms);
    soon.set();
  }};
  CHECK(kindred::wait(futures, ReturnWhen::first_completed).done.size() == 1);
  setter.join();
  futures.clear();
  late.set();  // what was to be told of it is told now
  CHECK(one.submit(number, 3).get() == 3);
}

TEST_CASE_EACH_START_METHOD(
    "waits that time out, and loops over as_completed that are left early, leave nothing at the futures") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  ProcessPoolExecutor other{entry(), {.start_method = method, .max_workers = 1}};
  const auto go = pool.make_event();
  const auto other_go = other.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(after, go, 1));
  futures.push_back(other.submit(after, other_go, 2));
  futures.push_back(pool.submit(number, 3));
  futures[2].wait();
  const std::span<Future<int>> open{futures.data(), 2};
  const auto use_all = [&] {
    CHECK(kindred::wait(open, ReturnWhen::first_completed, 0ms).done.empty());
    for (auto& first : as_completed(futures)) {
      CHECK(first.get() == 3);
      break;
    }
  };
  for (int i = 0; i < 100; ++i) use_all();  // what is allocated once and kept
  const auto before = ::mallinfo2().uordblks;
  for (int i = 0; i < 2'000; ++i) use_all();
  CHECK(::mallinfo2().uordblks < before + 2'000 * 20);  // each note takes more than that
  go.set();
  other_go.set();
  int sum = 0;
  for (auto& future : as_completed(futures)) sum += future.get();
  CHECK(sum == 6);
}

TEST_CASE_EACH_START_METHOD("a range of as_completed may outlive the futures that it was made of") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto go = pool.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(number, 1));
  futures.push_back(pool.submit(after, go, 2));
  {
    auto range = as_completed(futures);
    CHECK(range.begin()->get() == 1);
    futures.clear();
  }
  go.set();
  CHECK(pool.submit(number, 5).get() == 5);
}
