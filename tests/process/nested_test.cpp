// Pools in workers of pools, and pools that are asked for work by their own workers.
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int twice(int value) { return 2 * value; }
int throws(int value) { throw std::out_of_range{"inner " + std::to_string(value)}; }
void stay(Event begun) {
  begun.set();
  for (;;) ::pause();
}

StartMethod inner_method(int method) { return static_cast<StartMethod>(method); }

int through_a_pool(Worker& worker, int method, int value) {
  ProcessPoolExecutor inner{worker.entry(), {.start_method = inner_method(method), .max_workers = 2}};
  auto first = inner.submit(twice, value), second = inner.submit(twice, 1);
  const int sum = first.get() + second.get();
  const auto stats = inner.stats();
  if (stats.done != 2 || stats.submitted != 2 || stats.per_worker.empty())
    throw std::runtime_error{"the inner pool's figures"};
  return sum;
}
void fail_in_a_pool(Worker& worker, int method, bool dies) {
  ProcessPoolExecutor inner{worker.entry(), {.start_method = inner_method(method), .max_workers = 1}};
  if (dies)
    inner.submit([] { ::raise(SIGKILL); }).get();
  else
    inner.submit(throws, 3).get();
}

// A pool that lives as long as the worker does, at work or not.
struct Kept {
  std::unique_ptr<ProcessPoolExecutor> pool;
  Future<void> running;
};
std::vector<int> keep_a_pool(Worker& worker, int method, bool busy) {
  auto& kept = worker.state<Kept>();
  kept.pool = std::make_unique<ProcessPoolExecutor>(
      worker.entry(),
      ExecutorOptions{.start_method = inner_method(method), .max_workers = 1, .shutdown_grace = 200ms});
  kept.pool->submit(twice, 1).get();
  if (busy) {
    const auto begun = kept.pool->make_event();
    kept.running = kept.pool->submit(stay, begun);
    begun.wait();
  }
  std::vector<int> pids;
  for (const auto& info : descendants(::getpid())) pids.push_back(info.pid);
  return pids;
}
void keep_a_pool_and_stay(Worker& worker, int method, SharedArray<int> pids, Event begun) {
  const auto found = keep_a_pool(worker, method, true);
  for (std::size_t i = 0; i < found.size() && i < pids.size(); ++i) pids.mutable_span()[i] = found[i];
  stay(begun);
}
template <class Pids>
bool all_gone(const Pids& pids) {
  for (int waits = 0; waits < 4000 * slowness(); ++waits) {
    bool any = false;
    for (const int pid : pids) any = any || (pid != 0 && process_exists(pid));
    if (!any) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

int down(Worker& worker, int method, int levels) {
  if (levels == 0) return 0;
  ProcessPoolExecutor inner{worker.entry(),
                            {.start_method = inner_method(method), .max_workers = 1, .max_depth = 3}};
  return 1 + inner.submit(down, method, levels - 1).get();
}

ProcessPoolExecutor* known_to_all =
    nullptr;  // in a worker under fork: what it was when its template was forked
int ask_own_pool(int value) {
  if (known_to_all == nullptr) return -1;
  return known_to_all->submit(twice, value).get();
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a task may have a pool of its own, with figures of its own") {
  KINDRED_SKIP_UNDER_TSAN("a worker has threads: what it forks may start none");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(pool.submit(through_a_pool, static_cast<int>(method), i));
  for (int i = 0; i < 4; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == 2 * i + 2);
  CHECK(pool.stats().done == 4);
  CHECK(pool.stats().submitted == 4);
}

TEST_CASE_EACH_START_METHOD(
    "what goes wrong in an inner pool arrives with type and text, and leaves nothing behind") {
  KINDRED_SKIP_UNDER_TSAN("a worker has threads: what it forks may start none");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.logger().add_sink([](const LogRecord&) {});
  auto thrown = pool.submit(fail_in_a_pool, static_cast<int>(method), false);
  CHECK_THROWS_CONTAINS(thrown.get(), TaskError, "inner 3");
  CHECK_THROWS_AS(thrown.get(), std::out_of_range);
  CHECK_THROWS_CONTAINS(pool.submit(fail_in_a_pool, static_cast<int>(method), true).get(), TaskError,
                        "was killed by SIGKILL");
  CHECK(pool.submit(twice, 4).get() == 8);
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD(
    "when the outer pool is shut down, inner pools that were kept end, idle or busy") {
  KINDRED_SKIP_UNDER_TSAN("a worker has threads: what it forks may start none");
  for (const bool busy : {false, true}) {
    CAPTURE(busy);
    ResourceAudit audit;
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method, .max_workers = 1, .shutdown_grace = busy ? 300ms : 5s}};
    pool.logger().add_sink([](const LogRecord&) {});
    const auto pids = pool.submit(keep_a_pool, static_cast<int>(method), busy).get();
    CHECK_FALSE(pids.empty());
    pool.shutdown();
    CHECK(all_gone(pids));
  }
}

TEST_CASE_EACH_START_METHOD("when the outer workers are killed, inner workers go too") {
  KINDRED_SKIP_UNDER_TSAN("a worker has threads: what it forks may start none");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto pids = pool.make_array<int>(4, ArrayAccess::all_write);
  const auto begun = pool.make_event();
  auto running = pool.submit(keep_a_pool_and_stay, static_cast<int>(method), pids, begun);
  begun.wait();
  CHECK(pids[0] != 0);
  pool.kill_workers();
  CHECK_THROWS_AS(running.get(), WorkerLost);
  CHECK(all_gone(pids));
}

TEST_CASE_EACH_START_METHOD(
    "a pool deeper than max_depth is refused with both numbers, and those above end in order") {
  KINDRED_SKIP_UNDER_TSAN("a worker has threads: what it forks may start none");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(down, static_cast<int>(method), 2).get() == 2);
  auto deep = pool.submit(down, static_cast<int>(method), 3);
  CHECK_THROWS_CONTAINS(
      deep.get(), TaskError,
      "a pool in a worker of a pool: this one would be at depth 4, and ExecutorOptions::max_depth is 3. Raise max_depth");
  CHECK(pool.submit(twice, 1).get() == 2);
}

TEST_CASE("a worker that submits to its own pool is refused with the reason, instead of waiting for itself") {
  KINDRED_SKIP_UNDER_TSAN("a worker that was forked beside threads may start none");
  ResourceAudit audit;
  // Only a copy of this program knows the pool at all: under fork, where its template is forked anew after
  // the pool was made.
  ProcessPoolExecutor pool{entry(),
                           {.start_method = StartMethod::fork, .max_workers = 1, .max_tasks_per_worker = 1}};
  pool.logger().add_sink([](const LogRecord&) {});
  known_to_all = &pool;
  CHECK(pool.submit(ask_own_pool, 1).get() == -1);
  for (const auto& info : descendants(::getpid())) {
    if (info.name == "kindred-server") {
      ::kill(info.pid, SIGKILL);
      while (process_exists(info.pid)) std::this_thread::yield();
    }
  }
  auto refused = pool.submit({.retries = 2}, ask_own_pool, 2);
  refused.wait();
  known_to_all = nullptr;
  CHECK_THROWS_CONTAINS(
      refused.get(), TaskError,
      "is one of its own workers. A worker that waits for its own pool can wait for ever, so it may not submit to it");
  CHECK_THROWS_CONTAINS(refused.get(), TaskError, "make a pool of its own in the worker");
}

TEST_CASE_EACH_START_METHOD(
    "a task does not find the pool that the parent has in a global, so it cannot wait for itself") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .max_tasks_per_worker = 1}};
  known_to_all = &pool;
  for (int i = 0; i < 3; ++i) CHECK(pool.submit(ask_own_pool, i).get() == -1);
  known_to_all = nullptr;
}
