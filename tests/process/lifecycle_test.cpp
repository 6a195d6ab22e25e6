// A pool's life: how many workers it starts, when it replaces them, and every way to end it.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <link.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int stay_deaf(Event begun) {
  ::signal(SIGTERM, SIG_IGN);
  begun.set();
  for (;;) ::pause();
}
void kill_after(Event go) {
  go.wait();
  ::raise(SIGKILL);
}
int grow(std::size_t bytes) {
  static std::vector<char> kept;
  kept.assign(bytes, 'x');
  return static_cast<int>(::getpid());
}
std::vector<char> echo(std::vector<char> bytes) { return bytes; }

std::size_t threads_of_this() {
  const auto text = read_file("/proc/self/status");
  return std::stoul(text.substr(text.find("Threads:") + 8));
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "construction starts no worker; under fork it starts the template and nothing else") {
  ResourceAudit audit;
  const auto processes = descendants(::getpid()).size();
  const auto threads = threads_of_this();
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  CHECK(descendants(::getpid()).size() == processes + (method == StartMethod::fork ? 1 : 0));
  CHECK(threads_of_this() <= threads + 1);  // the log's
  CHECK(pool.worker_pids().empty());
  CHECK(pool.stats().workers == 0);
}

TEST_CASE_EACH_START_METHOD(
    "the threads that made the pool and started its workers end, and the workers live on (row 12)") {
  if (method == StartMethod::fork)
    KINDRED_SKIP_UNDER_TSAN("a worker that was forked beside threads may start none");
  ResourceAudit audit;
  std::optional<ProcessPoolExecutor> pool;
  std::thread{[&] {
    pool.emplace(entry(), ExecutorOptions{.start_method = method, .max_workers = 1});
    // A template that were bound to this thread is so by the time it has its name.
    const auto is_bound = [](const ProcessInfo& one) { return one.name == "kindred-server"; };
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (method == StartMethod::fork && std::ranges::none_of(descendants(::getpid()), is_bound) &&
           std::chrono::steady_clock::now() < until)
      std::this_thread::yield();
  }}.join();
  std::atomic<int> servers_lost{0};
  pool->logger().add_sink(
      [&](const LogRecord& record) { servers_lost += contains(record.message, "takes its place") ? 1 : 0; });
  int first = 0;
  std::thread{[&] { first = pool->submit(pid_of_worker).get(); }}.join();
  for (int i = 0; i < 20; ++i) {
    std::thread{[&] { CHECK(pool->submit(pid_of_worker).get() == first); }}.join();
  }
  CHECK(pool->stats().restarts == 0);
  CHECK(pool->logger().flush());
  CHECK(servers_lost == 0);
  scorecard(12, "the same worker ran 20 tasks after the threads that had made it and the pool");
}

namespace {
// Kills the template of a pool of one worker, and that worker, so that another template is forked from the
// program as it is now.
void make_another_template(ProcessPoolExecutor& pool) {
  for (const auto& process : descendants(::getpid())) {
    if (process.parent == ::getpid() && process.name == "kindred-server") ::kill(process.pid, SIGKILL);
  }
  for (const auto pid : pool.worker_pids()) ::kill(static_cast<pid_t>(pid), SIGKILL);
}
}  // namespace

TEST_CASE("a template that was forked while a thread of the program was in dl_iterate_phdr is replaced") {
  KINDRED_SKIP_UNDER_TSAN("a worker that was forked beside threads may start none");
  ResourceAudit audit;
  std::atomic<bool> ends{false};
  std::thread walker{[&] {
    // Also free for short: a supervisor that has waited for the lock forks just after it was given back, each
    // time.
    for (bool briefly = false; !ends; briefly = !briefly) {
      ::dl_iterate_phdr(
          [](dl_phdr_info*, std::size_t, void*) {
            std::this_thread::sleep_for(3ms);
            return 1;
          },
          nullptr);
      std::this_thread::sleep_for(briefly ? 50us : 1000us);
    }
  }};
  {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = StartMethod::fork,
                              .max_workers = 1,
                              .restart_limit = {.count = 1000, .period = 1h}}};
    std::atomic<int> told{0};
    pool.logger().add_sink(
        [&](const LogRecord& record) { told += contains(record.message, "dl_iterate_phdr") ? 1 : 0; });
    CHECK(pool.submit(echo, std::vector<char>(1)).get().size() == 1);
    for (int i = 0; i < 2 || (told == 0 && i < 20); ++i) {
      make_another_template(pool);
      auto future = pool.submit({.retries = 3}, echo, std::vector<char>(1));
      REQUIRE(future.wait_for(60s));
      CHECK(future.get().size() == 1);
      CHECK(pool.logger().flush());
    }
    CHECK(told > 0);
  }
  ends = true;
  walker.join();
}

TEST_CASE_EACH_START_METHOD("tasks that are waited for one after another use one worker") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 4}};
  std::set<int> pids;
  for (int i = 0; i < 30; ++i) pids.insert(pool.submit(pid_of_worker).get());
  CHECK(pids.size() == 1);
  CHECK(pool.worker_pids().size() == 1);
}

TEST_CASE_EACH_START_METHOD(
    "tasks that wait for each other get as many workers as they need, up to max_workers") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 4}};
  for (const int together : {1, 2, 4}) {
    const auto all = pool.make_barrier(together);
    std::vector<Future<int>> futures;
    for (int i = 0; i < together; ++i) futures.push_back(pool.submit(pid_together, all));
    std::set<int> pids;
    for (auto& future : futures) pids.insert(future.get());
    CHECK(pids.size() == static_cast<std::size_t>(together));
  }
  const auto go = pool.make_event();
  std::vector<Future<int>> many;
  for (int i = 0; i < 60; ++i) many.push_back(pool.submit(wait_and_return, go, i));
  go.set();
  for (auto& future : many) future.get();
  CHECK(pool.worker_pids().size() <= 4);
}

TEST_CASE_EACH_START_METHOD(
    "a worker is replaced after max_tasks_per_worker tasks exactly, and no task is lost") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .max_tasks_per_worker = 3}};
  std::vector<int> pids;
  for (int i = 0; i < 12; ++i) pids.push_back(pool.submit(pid_of_worker).get());
  for (std::size_t i = 0; i < 12; i += 3) {
    CHECK(pids[i] == pids[i + 1]);
    CHECK(pids[i] == pids[i + 2]);
    if (i != 0) CHECK(pids[i] != pids[i - 1]);
  }
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD(
    "a backlog larger than max_tasks_per_worker is worked off, results in flight included") {
  ResourceAudit audit;
  for (const auto& [workers, most, backlog] :
       {std::tuple{1, 2, 6}, std::tuple{2, 2, 8}, std::tuple{2, 1, 9}, std::tuple{2, 7, 100}}) {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method, .max_workers = workers, .max_tasks_per_worker = most}};
    std::vector<Future<int>> futures;
    for (int i = 0; i < backlog; ++i) futures.push_back(pool.submit(number, i));
    for (int i = 0; i < backlog; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == i);
  }
}

TEST_CASE_EACH_START_METHOD("with one task per worker and a shutdown at once, all that is pending ends") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .max_tasks_per_worker = 1}};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 12; ++i) futures.push_back(pool.submit(number, i));
  pool.shutdown();
  for (int i = 0; i < 12; ++i) {
    CHECK(futures[static_cast<std::size_t>(i)].done());
    CHECK(futures[static_cast<std::size_t>(i)].get() == i);
  }
}

TEST_CASE_EACH_START_METHOD("a pool that is destroyed finishes what is pending") {
  ResourceAudit audit;
  std::vector<Future<int>> futures;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    for (int i = 0; i < 50; ++i) futures.push_back(pool.submit(number, i));
  }
  for (int i = 0; i < 50; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == i);
}

TEST_CASE_EACH_START_METHOD(
    "shutdown may be called again, from threads and from callbacks, and each call ends") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto future = pool.submit(begin_and_wait, begun, go);
  std::atomic<bool> called{false};
  future.on_done([&] {
    pool.shutdown();
    called = true;
  });
  auto dies = pool.submit(kill_after, go);
  dies.on_done([&] { pool.shutdown({.wait = true, .cancel_pending = true}); });
  begun.wait();
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([&] { pool.shutdown(); });
  go.set();
  for (auto& thread : threads) thread.join();
  pool.shutdown();
  CHECK(future.get() == 7);
  CHECK(dies.done());
  CHECK(pool.worker_pids().empty());
}

TEST_CASE_EACH_START_METHOD("submit after shutdown is refused with what to do") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(number, 1).get() == 1);
  pool.shutdown();
  CHECK_THROWS_CONTAINS(pool.submit(number, 1), UsageError, "shut down");
  CHECK_THROWS_CONTAINS(pool.try_submit(number, 1), UsageError, "shut down");
  CHECK_THROWS_CONTAINS(pool.map(number, std::vector<int>{1}), UsageError, "shut down");
  CHECK(pool.stats().done == 1);
}

TEST_CASE_EACH_START_METHOD("shutdown without waiting returns at once, and the tasks finish") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto go = pool.make_event();
  std::vector<Future<int>> futures;
  for (int i = 0; i < 5; ++i) futures.push_back(pool.submit(wait_and_return, go, i));
  pool.shutdown({.wait = false});
  CHECK_FALSE(futures[0].done());
  go.set();
  for (int i = 0; i < 5; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == i);
}

TEST_CASE_EACH_START_METHOD(
    "shutdown ends right after the only task was cancelled, or on a pool that never ran") {
  ResourceAudit audit;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    auto future = pool.submit(number, 1);
    (void)future.cancel();
    pool.shutdown();
    CHECK(future.done());
  }
  ProcessPoolExecutor unused{entry(), {.start_method = method, .max_workers = 1}};
  unused.shutdown();
  unused.shutdown();
}

TEST_CASE_EACH_START_METHOD(
    "shutdown that cancels lets what runs finish, cancels the rest, and the count is exact") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto running = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  std::vector<Future<int>> futures;
  for (int i = 0; i < 20; ++i) futures.push_back(pool.submit(number, i));
  pool.shutdown({.wait = false, .cancel_pending = true});
  for (auto& future : futures) CHECK(future.cancelled());
  CHECK(pool.stats().cancelled == 20);
  go.set();
  CHECK(running.get() == 7);
  pool.shutdown();
}

TEST_CASE_EACH_START_METHOD("terminate_workers and kill_workers end a pool in every state") {
  for (const bool kill : {false, true}) {
    CAPTURE(kill);
    const auto end = [kill](ProcessPoolExecutor& pool) {
      kill ? pool.kill_workers() : pool.terminate_workers();
    };
    ResourceAudit audit;
    {
      ProcessPoolExecutor unused{entry(), {.start_method = method, .max_workers = 1}};
      end(unused);
      CHECK_THROWS_AS(unused.submit(number, 1), Error);
    }
    {
      ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
      CHECK(pool.submit(number, 1).get() == 1);
      end(pool);
      CHECK(pool.worker_pids().empty());
      CHECK_THROWS_AS(pool.submit(number, 1), Error);
      end(pool);
      pool.shutdown();
      end(pool);
    }
    ProcessPoolExecutor busy{entry(), {.start_method = method, .max_workers = 1}};
    const auto begun = busy.make_event(), go = busy.make_event();
    auto running = busy.submit(begin_and_wait, begun, go);
    begun.wait();
    auto pending = busy.submit(number, 1);
    end(busy);
    CHECK_THROWS_CONTAINS(running.get(), WorkerLost, kill ? "SIGKILL" : "SIGTERM");
    CHECK_THROWS_CONTAINS(pending.get(), BrokenProcessPool, kill ? "kill_workers" : "terminate_workers");
  }
}

TEST_CASE_EACH_START_METHOD("workers that ignore SIGTERM are killed after shutdown_grace") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .shutdown_grace = 100ms}};
  const auto begun = pool.make_event();
  auto deaf = pool.submit(stay_deaf, begun);
  begun.wait();
  pool.terminate_workers();
  CHECK_THROWS_CONTAINS(deaf.get(), WorkerLost, "SIGKILL");
}

TEST_CASE_EACH_START_METHOD(
    "a worker that leaves for idleness and a task that arrives do not miss each other") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .idle_timeout = 1ms}};
  std::set<int> pids;
  for (int i = 0; i < 40; ++i) {
    pids.insert(pool.submit(pid_of_worker).get());
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds{i % 20 * 100};
    while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
  }
  // A busy machine may let no worker leave in between: one does when it is given the time.
  while (!pool.worker_pids().empty()) std::this_thread::yield();
  pids.insert(pool.submit(pid_of_worker).get());
  CHECK(pids.size() > 1);
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD("a worker that grew over its limit is replaced after its task") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps memory that was freed");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 1, .max_rss_per_worker = 96U << 20U}};
  const int before = pool.submit(pid_of_worker).get();
  CHECK(pool.submit(grow, std::size_t{160} << 20U).get() == before);
  CHECK(pool.submit(pid_of_worker).get() != before);
  CHECK(pool.stats().restarts == 0);
  CHECK(pool.stats().lost == 0);
}

TEST_CASE_EACH_START_METHOD(
    "memory that the pool keeps for large values does not count as a worker's growth") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps memory that was freed");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 1, .max_rss_per_worker = 96U << 20U}};
  const int before = pool.submit(pid_of_worker).get();
  const auto bytes = std::vector<char>(32U << 20U, 'x');
  for (int i = 0; i < 4; ++i) {
    auto one = pool.submit(echo, bytes), other = pool.submit(echo, bytes);
    CHECK(one.get().size() + other.get().size() == 2 * bytes.size());
  }
  CHECK(pool.submit(pid_of_worker).get() == before);
}

TEST_CASE_EACH_START_METHOD(
    "memory of large arguments and results is free on both sides when they are done") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps memory that was freed");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto bytes = std::vector<char>(16U << 20U, 'x');
  CHECK(pool.submit(echo, bytes).get().size() == bytes.size());
  const auto worker = std::to_string(pool.worker_pids().at(0));
  const auto here = resident_kib("self"), there = resident_kib(worker);
  for (int i = 0; i < 12; ++i) CHECK(pool.submit(echo, bytes).get().size() == bytes.size());
  CHECK(resident_kib("self") < here + 64 * 1024);
  CHECK(resident_kib(worker) < there + 64 * 1024);
}

TEST_CASE_EACH_START_METHOD("resize takes workers away and gives more") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 3}};
  const auto all = pool.make_barrier(3);
  std::vector<Future<int>> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(pool.submit(pid_together, all));
  for (auto& future : futures) future.get();
  pool.resize(1);
  CHECK(pool.max_workers() == 1);
  while (pool.worker_pids().size() > 1) CHECK(pool.submit(number, 1).get() == 1);
  pool.resize(4);
  const auto four = pool.make_barrier(4);
  std::vector<Future<int>> more;
  for (int i = 0; i < 4; ++i) more.push_back(pool.submit(pid_together, four));
  for (auto& future : more) future.get();
  CHECK_THROWS_AS(pool.resize(0), UsageError);
}

TEST_CASE_EACH_START_METHOD(
    "a first submit that finds no descriptor leaves no task behind, and the next one works") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer needs descriptors of its own");
  ResourceAudit audit;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::string text;
  {
    rlimit none = before;
    none.rlim_cur = 3;
    ::setrlimit(RLIMIT_NOFILE, &none);
    try {
      (void)pool.submit(number, 2);
    } catch (const SystemError& error) {
      text = error.what();
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
  }
  CHECK_CONTAINS(text, "ulimit -n");
  CHECK(pool.stats().submitted == 0);
  CHECK(pool.submit(number, 2).get() == 2);
}
