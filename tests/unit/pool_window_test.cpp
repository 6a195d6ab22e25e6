// What those who look at a pool are told, by a pool whose workers are no processes.
#include "pool/pool_window.hpp"

#include <string>

#include "support/test.hpp"
#include "unit/played_core.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

TEST_CASE("the counts of a pool say where its tasks are, and which worker runs which") {
  PlayedCore pool;
  const auto first = pool.submit("four");
  const auto second = pool.submit("more");
  const auto third = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.answer("four");
  CHECK(first->wait({}));
  CHECK(worker.begin() != 0);
  CHECK(third->cancel(Running::ask));

  const PoolStats stats = pool->stats();
  CHECK(stats.submitted == 3);
  CHECK(stats.done == 1);
  CHECK(stats.cancelled == 1);
  CHECK(stats.running == 1);
  CHECK(stats.pending == 0);
  CHECK(stats.failed == 0);
  CHECK(stats.workers == 1);
  CHECK(stats.argument_bytes == 8);
  REQUIRE(stats.per_worker.size() == 1);
  CHECK(stats.per_worker[0].pid == worker.pid);
  CHECK(stats.per_worker[0].running_task == second->task_id());
  CHECK(stats.per_worker[0].tasks_done == 1);
}

TEST_CASE("a worker that runs a task is shown as running, also before its word that it is ready was read") {
  const TemporaryFolder folder;
  const std::string path = folder / "pool.prom";
  PlayedCore pool{{.metrics_file = path, .metrics_interval = std::chrono::milliseconds{10}}};
  const auto task = pool.submit();
  PlayedProcess& worker = pool.process();
  pool.rounds_until([&] { return worker.begin() != 0; });
  pool.rounds_until([&] { return contains(read_file(path), "state=\"running\"} 1"); });
  worker.say_ready();
  worker.answer({});
  CHECK(task->wait({}));
}

TEST_CASE("the counts of a worker outlive its incarnations") {
  PlayedCore pool;
  for (std::size_t n = 0; n < 3; ++n) {
    const auto task = pool.submit();
    pool.busy_process(n).die({.kind = ExitReason::Kind::exited, .code = 1});
    pool.finish(task);
  }
  const PoolStats stats = pool->stats();
  CHECK(stats.lost == 3);
  REQUIRE(stats.per_worker.size() == 1);
  CHECK(stats.per_worker[0].tasks_lost == 3);
  CHECK(stats.per_worker[0].restarts == 3);
}

TEST_CASE("a trace has a task that ended and one whose worker died, and ends where it is told to") {
  const TemporaryFolder folder;
  const std::string path = folder / "trace.json";
  PlayedCore pool;
  pool->trace(path, 1U << 20U);
  auto task = pool.submit({}, TaskOptions{.name = "answered"});
  PlayedProcess& worker = pool.busy_process();
  worker.answer({});
  CHECK(task->wait({}));
  task = pool.submit({}, TaskOptions{.name = "died with it"});
  pool.rounds_until([&] { return worker.begin() != 0; });
  worker.die({.kind = ExitReason::Kind::exited, .code = 1});
  pool.finish(task);
  const auto running = pool.submit({}, TaskOptions{.name = "runs at the end"});
  PlayedProcess& next = pool.busy_process(1);
  pool->trace({}, 0);
  const std::string trace = read_file(path);
  CHECK(trace.find("answered") != std::string::npos);
  CHECK(trace.find("died with it") != std::string::npos);
  CHECK(trace.find("runs at the end") != std::string::npos);
  next.answer({});
  CHECK(running->wait({}));
  task = pool.submit({}, TaskOptions{.name = "afterwards"});
  CHECK(task->cancel(Running::ask));
  CHECK(read_file(path) == trace);
}

TEST_CASE("the metrics file is there from the beginning, and its last text has the last task") {
  const TemporaryFolder folder;
  const std::string path = folder / "pool.prom";
  {
    PlayedCore pool{{.metrics_file = path}};
    CHECK(read_file(path).find("# EOF") != std::string::npos);
    const auto task = pool.submit();
    pool.busy_process().answer({});
    CHECK(task->wait({}));
  }
  const std::string text = read_file(path);
  const auto sample = text.find("\nkindred_tasks_submitted_total{");
  REQUIRE(sample != std::string::npos);
  CHECK(text.find("} 1\n", sample) == text.find('}', sample));
}
