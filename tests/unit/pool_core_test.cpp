// A whole pool on a clock that the test moves, with workers that are no processes: starts, answers, deaths,
// limits and the end.
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "pool/pool_core.hpp"
#include "support/test.hpp"
#include "unit/played_core.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;
using Ended = ExitReason::Kind;

namespace {

constexpr ExitReason exited(int code) { return {.kind = Ended::exited, .code = code}; }
constexpr ExitReason killed(int signal) { return {.kind = Ended::signalled, .signal = signal}; }

void load_model() {}

std::string value_of(const StateHandle& task) {
  REQUIRE(task->finished());
  REQUIRE(task->outcome() == TaskOutcome::value);
  return PlayedPool::value_of(task);
}

}  // namespace

TEST_CASE("a task has a worker started for it, and the worker's answer is its value") {
  PlayedCore pool;
  const auto task = pool.submit("question");
  PlayedProcess& worker = pool.busy_process();
  CHECK(task->running());
  worker.answer("answer");
  CHECK(task->wait({}));
  CHECK(value_of(task) == "answer");
  CHECK(worker.hello.index == 0);
  CHECK(pool.machine.processes.size() == 1);
}

TEST_CASE("however a worker dies, it takes the one call that it had begun with it, and no other") {
  for (const ExitReason& how : {exited(0), exited(3), killed(SIGSEGV), killed(SIGKILL), killed(SIGTERM)}) {
    CAPTURE(to_string(how));
    PlayedCore pool;
    const auto begun = pool.submit("begun");
    const auto behind = pool.submit("behind");
    pool.busy_process().die(how);
    pool.finish(begun);
    const auto lost = failure_of<WorkerLost>(begun);
    REQUIRE(lost);
    CHECK(lost->exit_reason() == how);
    CHECK_FALSE(behind->finished());
    pool.busy_process(1).answer("from the next one");
    CHECK(behind->wait({}));
    CHECK(value_of(behind) == "from the next one");
    CHECK(pool->stats().restarts == 1);
    CHECK(pool->stats().lost == 1);
    CHECK(pool.machine.processes[1].hello.incarnation == 1);
  }
}

TEST_CASE("a worker that dies before it begins a call loses none") {
  for (const ExitReason& how : {exited(0), killed(SIGKILL)}) {
    CAPTURE(to_string(how));
    PlayedCore pool;
    const auto task = pool.submit();
    PlayedProcess& worker = pool.ready_process();
    worker.die(how);
    pool.rounds_until([&] { return pool.is_buried(worker); });
    REQUIRE_FALSE(task->finished());
    pool.busy_process(1).answer("all the same");
    CHECK(task->wait({}));
    CHECK(value_of(task) == "all the same");
    CHECK(pool->stats().lost == 0);
  }
}

TEST_CASE("calls that a dead worker had not begun go to the next one in their order") {
  PlayedCore pool;
  const auto known = pool.submit();  // so that short tasks are known: several are dispatched ahead
  PlayedProcess& worker = pool.busy_process();
  worker.answer({});
  CHECK(known->wait({}));
  std::vector<StateHandle> tasks;
  for (int i = 0; i < 5; ++i) tasks.push_back(pool.submit());
  pool.rounds_until([&] { return worker.begin() != 0; });
  worker.die(killed(SIGSEGV));
  pool.finish(tasks[0]);
  CHECK(failure_of<WorkerLost>(tasks[0]));
  PlayedProcess& next = pool.ready_process(1);
  for (std::size_t i = 1; i < tasks.size(); ++i) {
    std::uint64_t begun = 0;
    pool.rounds_until([&] { return (begun = next.begin()) != 0; });
    CHECK(begun == tasks[i]->task_id());
    next.answer({});
  }
}

TEST_CASE("an answer that was written before the death counts") {
  PlayedCore pool;
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.answer("last word");
  worker.die(killed(SIGKILL));
  pool.rounds_until([&] { return pool.is_buried(worker); });
  CHECK(value_of(task) == "last word");
}

TEST_CASE("a task is tried again as often as it may, and the last death is its failure") {
  PlayedCore pool;
  const auto task = pool.submit({}, TaskOptions{.retries = 2});
  for (const std::size_t n : {0U, 1U, 2U}) {
    CHECK_FALSE(task->finished());
    pool.busy_process(n).die(killed(SIGSEGV));
    pool.rounds_until([&] { return pool.is_buried(pool.machine.processes[n]); });
  }
  CHECK(failure_of<WorkerLost>(task)->exit_reason() == killed(SIGSEGV));
  CHECK(pool->stats().retried == 2);
  CHECK(pool->stats().lost == 1);
}

TEST_CASE("a task that was begun again and again by workers that say nothing of it is lost in the end") {
  PlayedCore pool;
  const auto task = pool.submit();
  for (std::size_t n = 0; !task->finished(); ++n) {
    REQUIRE(n <= TaskState::max_suspicions);
    pool.ready_process(n).die(killed(SIGSEGV));
    pool.rounds_until([&] { return pool.is_buried(pool.machine.processes[n]); });
  }
  CHECK(failure_of<WorkerLost>(task));
}

TEST_CASE("a task over its limit has its worker killed, and fails by the time that it ran") {
  PlayedCore pool;
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s});
  PlayedProcess& worker = pool.busy_process();
  worker.end->run_for(9s);
  pool.pass(9s);
  CHECK(pool.kill_reason(worker) == KillReason::none);
  worker.end->run_for(11s);
  pool.pass(2s);
  pool.finish(task);
  const auto timeout = failure_of<TaskTimeout>(task);
  REQUIRE(timeout);
  CHECK(timeout->limit() == 10s);
  CHECK(timeout->ran_for() >= 11s);
  CHECK(timeout->ran_for() < 1min);
  CHECK(worker.reason == killed(SIGKILL));
}

TEST_CASE("each attempt at a task has the whole time limit, in the same worker or another") {
  for (const bool by_death : {false, true}) {
    CAPTURE(by_death);
    PlayedCore pool;
    const auto task = pool.submit({}, TaskOptions{.timeout = 10s, .retries = 4, .retry_exceptions = true});
    PlayedProcess* worker = &pool.busy_process();
    for (std::size_t attempt = 1; attempt <= 5; ++attempt) {
      CAPTURE(attempt);
      worker->end->run_for(9s);  // together far more than one attempt may take
      pool.pass(9s);
      REQUIRE(pool.kill_reason(*worker) == KillReason::none);
      if (attempt == 5) break;
      if (by_death) {
        worker->die(exited(3));
        worker = &pool.busy_process(attempt);
      } else {
        worker->fail("not yet");
        pool.rounds_until([&] { return worker->begin() != 0; });
      }
    }
    worker->answer("at last");
    CHECK(task->wait({}));
    CHECK(value_of(task) == "at last");
    CHECK(pool->stats().retried == 4);
  }
}

TEST_CASE("an exception that may be retried is a failure once there are no retries left") {
  PlayedCore pool;
  const auto task = pool.submit({}, TaskOptions{.retries = 1, .retry_exceptions = true});
  PlayedProcess& worker = pool.busy_process();
  worker.fail("first");
  pool.rounds_until([&] { return worker.begin() != 0; });
  worker.fail("second");
  pool.finish(task);
  const auto failure = failure_of<std::runtime_error>(task);
  REQUIRE(failure);
  CHECK(std::string{failure->what()}.find("second") != std::string::npos);
  CHECK(pool->stats().failed == 1);
  CHECK(pool.machine.processes.size() == 1);
}

TEST_CASE("an attempt that is retried after its limit has its whole time again") {
  PlayedCore pool;
  const auto task = pool.submit({}, TaskOptions{.timeout = 10s, .retries = 1});
  PlayedProcess& first = pool.busy_process();
  first.end->run_for(11s);
  pool.pass(11s);
  PlayedProcess& second = pool.busy_process(1);
  second.end->run_for(9s);
  pool.pass(9s);
  CHECK(pool.kill_reason(second) == KillReason::none);
  second.answer("in time");
  CHECK(task->wait({}));
  CHECK(value_of(task) == "in time");
}

TEST_CASE("a task that was pending for too long fails, though a worker has its call") {
  PlayedCore pool;
  const auto runs = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  const auto waits = pool.submit({}, TaskOptions{.queue_timeout = 1ns});
  pool.pass(1s);
  pool.finish(waits);
  CHECK(failure_of<TaskTimeout>(waits));
  worker.answer("undisturbed");
  CHECK(runs->wait({}));
  CHECK(pool.kill_reason(worker) == KillReason::none);
}

TEST_CASE("an initializer over its limit breaks the pool") {
  PlayedCore pool{{.initializer = Call{load_model}, .initializer_timeout = 5s}};
  const auto task = pool.submit();
  PlayedProcess& worker = pool.process();
  pool.pass(4s);
  CHECK(pool.kill_reason(worker) == KillReason::none);
  pool.pass(2s);
  pool.finish(task);
  const auto broken = failure_of<BrokenProcessPool>(task);
  REQUIRE(broken);
  CHECK(std::string{broken->what()}.find("initializer_timeout") != std::string::npos);
  CHECK_THROWS_AS((void)pool.submit(), BrokenProcessPool);
}

TEST_CASE("more deaths within the period than the restart limit allows break the pool") {
  PlayedCore pool{{.restart_limit = {.count = 2, .period = 10s}}};
  std::vector<StateHandle> tasks;
  for (std::size_t n = 0; n < 3; ++n) {
    tasks.push_back(pool.submit());
    pool.busy_process(n).die(killed(SIGSEGV));
    pool.finish(tasks.back());
    CHECK(failure_of<WorkerLost>(tasks.back()));
  }
  CHECK_THROWS_AS((void)pool.submit(), BrokenProcessPool);
  CHECK(pool.log().find("restart_limit") != std::string::npos);
}

TEST_CASE("deaths that lie further apart than the period, or with a success between, break nothing") {
  PlayedCore pool{{.restart_limit = {.count = 1, .period = 10s}}};
  std::size_t n = 0;
  const auto die = [&] {
    const auto task = pool.submit();
    pool.busy_process(n++).die(killed(SIGSEGV));
    pool.finish(task);
  };
  die();
  pool.pass(11s);
  die();
  const auto task = pool.submit();
  pool.busy_process(n).answer({});
  CHECK(task->wait({}));
  const auto lost = pool.submit();
  pool.rounds_until([&] { return pool.machine.processes[n].begin() != 0; });
  pool.machine.processes[n++].die(killed(SIGSEGV));
  pool.finish(lost);
  CHECK_NOTHROW((void)pool.submit());
}

TEST_CASE("a pool that breaks at the first death names it as the cause") {
  PlayedCore pool{{.on_worker_death = OnWorkerDeath::break_pool}};
  const auto begun = pool.submit();
  const auto behind = pool.submit();
  pool.busy_process().die(exited(7));
  pool.finish(behind);
  CHECK(failure_of<WorkerLost>(begun)->exit_reason() == exited(7));
  const auto broken = failure_of<BrokenProcessPool>(behind);
  REQUIRE(broken);
  REQUIRE(broken->cause());
  try {
    std::rethrow_exception(broken->cause());
  } catch (const WorkerLost& lost) {
    CHECK(lost.exit_reason() == exited(7));
  }
}

TEST_CASE("a start that fails is tried again a little later") {
  PlayedCore pool;
  pool.machine.refusals = {"fork"};
  const auto task = pool.submit();
  pool.rounds_until([&] { return pool.machine.refusals.empty(); });
  for (int i = 0; i < 3; ++i) pool.round();
  CHECK(pool.machine.processes.empty());
  CHECK(pool.log().find("is tried again") != std::string::npos);
  pool.pass(10s);
  pool.busy_process().answer("later");
  CHECK(task->wait({}));
}

TEST_CASE("a pool without a worker gives up after a few failed starts in a row") {
  PlayedCore pool;
  pool.machine.refusals.assign(100, "fork");
  const auto task = pool.submit();
  pool.rounds_until([&] {
    pool.pass(10s);
    return task->finished();
  });
  CHECK(failure_of<BrokenProcessPool>(task));
  CHECK(pool.machine.refusals.size() > 90);
}

TEST_CASE("a preload over its limit breaks the pool, and not before") {
  PlayedCore pool{{.preload_timeout = 60s}};
  pool.machine.is_prepared = false;
  const auto task = pool.submit();
  pool.round();
  CHECK(pool.next_start() == pool.now() + 60s);
  pool.pass(59s);
  CHECK_FALSE(task->finished());
  pool.pass(2s);
  pool.finish(task);
  const auto broken = failure_of<BrokenProcessPool>(task);
  REQUIRE(broken);
  CHECK(pool.log().find("preload_timeout") != std::string::npos);
}

TEST_CASE("a pool that ends while the fork server preloads starts no worker for what was wanted before") {
  PlayedCore pool;
  const auto task = pool.submit();
  pool.machine.while_preparing = [&] { pool->end_workers(true); };
  pool.round();
  CHECK(failure_of<BrokenProcessPool>(task));
  pool.rounds_until([&] { return pool.is_over(); });
  CHECK(pool.machine.processes.empty());
}

TEST_CASE("a start that the fork server does not answer is given up when the pool has no use for it") {
  PlayedCore pool;
  pool.machine.answers = false;
  const auto task = pool.submit();
  pool.rounds_until([&] { return !pool.machine.processes.empty(); });
  CHECK(task->cancel(Running::ask));
  pool->shutdown(false, false);
  pool.rounds_until([&] { return pool.is_over(); });
  CHECK(pool.machine.processes[0].given_up);
}

TEST_CASE("a worker is buried without the fork server's word when that does not come") {
  PlayedCore pool;
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  pool.machine.tells_ends = false;
  worker.die(killed(SIGSEGV));
  for (int i = 0; i < 3; ++i) pool.pass(500ms);
  CHECK_FALSE(task->finished());
  pool.rounds_until([&] {
    pool.pass(1s);
    return task->finished();
  });
  CHECK(failure_of<WorkerLost>(task)->exit_reason().kind == Ended::lost);
}

TEST_CASE("a worker that the pool killed is buried at once, though the fork server says nothing of its end") {
  PlayedCore pool;
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  pool.machine.tells_ends = false;
  CHECK(task->cancel(Running::kill));
  pool.rounds_until([&] { return pool.is_buried(worker); });  // no time passes
  const auto next = pool.submit();
  pool.machine.tells_ends = true;
  pool.busy_process(1).answer("from the next one");
  CHECK(next->wait({}));
  CHECK(value_of(next) == "from the next one");
}

TEST_CASE("what a dead worker has left behind is ended at once, and again when that is due") {
  PlayedCore pool;
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  pool.machine.tidy_again = pool.now() + 20ms;
  worker.die(killed(SIGSEGV));
  pool.finish(task);
  CHECK(pool.machine.tidied == 1);
  CHECK(pool.next_tidying() == pool.now() + 20ms);
  pool.pass(19ms);
  CHECK(pool.machine.tidied == 1);
  pool.pass(1ms);
  CHECK(pool.machine.tidied == 2);
  CHECK_FALSE(pool.next_tidying());
}

TEST_CASE("a worker that corrupts its result ring is killed, and its task fails by that") {
  PlayedCore pool;
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.end->write(result_of(4711), {});
  pool.finish(task);
  const auto lost = failure_of<WorkerLost>(task);
  REQUIRE(lost);
  CHECK(std::string{lost->what()}.find("corrupted its shared memory") != std::string::npos);
  CHECK(worker.reason == killed(SIGKILL));
}

TEST_CASE("a worker that closes its socket and lives is killed after a moment") {
  PlayedCore pool;
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.end->close_socket();
  pool.rounds_until([&] {
    pool.pass(10ms);
    return task->finished();
  });
  CHECK(std::string{failure_of<WorkerLost>(task)->what()}.find("closed its socket") != std::string::npos);
}

TEST_CASE("a pending task is cancelled for certain, a running one only by killing its worker") {
  PlayedCore pool;
  const auto runs = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  const auto waits = pool.submit();
  CHECK(waits->cancel(Running::ask));
  CHECK(waits->outcome() == TaskOutcome::cancelled);
  CHECK_FALSE(runs->cancel(Running::leave));
  CHECK(pool.kill_reason(worker) == KillReason::none);
  CHECK_FALSE(runs->cancel(Running::ask));
  CHECK(worker.end->header().stop_attempt.load() == worker.end->header().begun_attempt.load());
  CHECK(runs->cancel(Running::kill));
  CHECK(runs->outcome() == TaskOutcome::cancelled);
  const auto next = pool.submit();
  pool.busy_process(1).answer("next");
  CHECK(next->wait({}));
  CHECK(worker.reason == killed(SIGKILL));
  CHECK(std::string{failure_of<Cancelled>(waits)->what()}.find("before it began") != std::string::npos);
  const std::string why = failure_of<Cancelled>(runs)->what();  // and the worker has been buried since
  CHECK(why.find("while it ran: its worker was killed") != std::string::npos);
  CHECK(pool->stats().lost == 0);
  CHECK(pool->stats().cancelled == 2);
}

TEST_CASE("a shut down pool does all that was submitted, and then its workers are asked to leave") {
  PlayedCore pool;
  const auto first = pool.submit();
  const auto second = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  pool->shutdown(false, false);
  CHECK_THROWS_AS((void)pool.submit(), UsageError);
  pool.round();
  CHECK(worker.end->header().command.load() == 0U);
  worker.answer("first");
  pool.rounds_until([&] { return worker.begin() != 0; });
  worker.answer("second");
  pool.rounds_until([&] { return pool.is_over(); });
  CHECK(value_of(first) == "first");
  CHECK(value_of(second) == "second");
  CHECK(worker.reason == exited(0));
  CHECK(pool->stats().restarts == 0);
}

TEST_CASE("a shutdown that cancels lets what was begun come to its end") {
  PlayedCore pool;
  const auto begun = pool.submit();
  const auto behind = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  pool->shutdown(false, true);
  CHECK(behind->outcome() == TaskOutcome::cancelled);
  worker.answer("begun");
  pool.rounds_until([&] { return pool.is_over(); });
  CHECK(value_of(begun) == "begun");
}

TEST_CASE("a worker that does not leave in time is killed") {
  PlayedCore pool{{.shutdown_grace = 5s}};
  (void)pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.obeys = false;
  worker.answer({});
  pool->shutdown(false, false);
  pool.rounds_until([&] { return worker.end->header().command.load() != 0; });
  pool.pass(4s);
  CHECK(pool.kill_reason(worker) == KillReason::none);
  pool.pass(2s);
  pool.rounds_until([&] { return pool.is_over(); });
  CHECK(worker.reason == killed(SIGKILL));
}

TEST_CASE("workers are ended by a signal, and every open task fails") {
  for (const bool kill : {false, true}) {
    CAPTURE(kill);
    PlayedCore pool;
    const auto begun = pool.submit();
    const auto behind = pool.submit();
    PlayedProcess& worker = pool.busy_process();
    std::atomic<bool> ended{false};
    std::thread ender{[&] {
      pool->end_workers(kill);
      ended = true;
    }};
    pool.rounds_until([&] { return ended.load(); });
    ender.join();
    pool.rounds_until([&] { return pool.is_over(); });
    CHECK(worker.reason == killed(kill ? SIGKILL : SIGTERM));
    CHECK(failure_of<WorkerLost>(begun));
    CHECK(failure_of<BrokenProcessPool>(behind));
  }
}

TEST_CASE("workers that do not end by SIGTERM are killed when shutdown_grace has passed") {
  PlayedCore pool{{.shutdown_grace = 20ms}};
  const auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.ignores_terminate = true;
  std::atomic<bool> ended{false};
  std::thread ender{[&] {
    pool->end_workers(false);
    ended = true;
  }};
  pool.rounds_until([&] { return ended.load(); });
  ender.join();
  CHECK(worker.reason == killed(SIGKILL));
  CHECK(failure_of<WorkerLost>(task));
}

TEST_CASE("a worker leaves after as many tasks as it may have, and a revoked call is none of them") {
  PlayedCore pool{{.max_tasks_per_worker = 3}};
  const auto first = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  const auto was_asked = [&] { return worker.end->header().command.load() != 0; };
  CHECK(pool.submit()->cancel(Running::ask));  // dispatched, and not begun
  const auto second = pool.submit();
  const auto third = pool.submit();
  CHECK_FALSE(was_asked());
  worker.answer({});
  CHECK(first->wait({}));
  for (const auto& task : {second, third}) {
    pool.rounds_until([&] { return worker.begin() != 0; });
    CHECK(was_asked());
    worker.answer({});
    pool.finish(task);
  }
  pool.rounds_until([&] { return pool.is_buried(worker); });
  CHECK(worker.reason == exited(0));
  CHECK(pool->stats().restarts == 0);
}

TEST_CASE("a worker without work leaves after idle_timeout, and the next task starts another") {
  PlayedCore pool{{.idle_timeout = 30s}};
  auto task = pool.submit();
  PlayedProcess& worker = pool.busy_process();
  worker.answer({});
  CHECK(task->wait({}));
  pool.pass(29s);
  CHECK(worker.end->header().command.load() == 0U);
  pool.pass(2s);
  pool.rounds_until([&] { return pool.is_buried(worker); });
  CHECK(worker.reason == exited(0));
  task = pool.submit();
  pool.busy_process(1).answer({});
  CHECK(task->wait({}));
  CHECK(pool->stats().restarts == 0);
}

TEST_CASE("a pool that is made smaller asks its surplus workers to leave") {
  PlayedCore pool{{.max_workers = 2, .start_all = true}};
  PlayedProcess& first = pool.ready_process(0);
  PlayedProcess& second = pool.ready_process(1);
  CHECK(pool->worker_pids() == std::vector{first.pid, second.pid});
  pool->resize(1);
  pool.rounds_until([&] { return pool.is_buried(second); });
  CHECK(second.reason == exited(0));
  CHECK(pool->worker_pids() == std::vector{first.pid});
}

TEST_CASE("a callback runs once its task is finished, and may submit while the pool shuts down") {
  PlayedCore pool;
  const auto task = pool.submit();
  StateHandle next;
  std::atomic<bool> called{false};
  task->on_finished([&] {
    next = pool.submit();
    called = true;
  });
  PlayedProcess& worker = pool.busy_process();
  pool->shutdown(false, false);
  worker.answer({});
  pool.rounds_until([&] { return called.load(); });
  pool.rounds_until([&] { return worker.begin() != 0; });
  worker.answer("chained");
  pool.rounds_until([&] { return pool.is_over(); });
  CHECK(value_of(next) == "chained");
}
