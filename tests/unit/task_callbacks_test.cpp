// Users' callbacks: on a thread of their own, in order, and none is lost when the pool ends.
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kindred/internal/task_entry.hpp"
#include "support/test.hpp"
#include "task/callback_runner.hpp"
#include "task/deferred_work.hpp"
#include "task/task_facts.hpp"
#include "unit/held_lock.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

std::unique_ptr<Continuations> one(std::function<void()> action, std::uint64_t of_task = 0) {
  auto continuations = std::make_unique<Continuations>();
  continuations->callbacks.push_back({std::move(action), nullptr});
  continuations->of_task = of_task;
  return continuations;
}

void run(CallbackRunner& runner, std::function<void()> action) {
  ContinuationQueue queue;
  queue.push(one(std::move(action)));
  REQUIRE(runner.run(queue));
}

}  // namespace

TEST_CASE("callbacks run one after another on a thread of their own, also those that throw") {
  std::vector<int> ran;
  std::atomic<int> idle{0};
  CallbackRunner runner{[&] { ++idle; }};
  runner.start();
  std::thread::id thread;
  for (int i = 0; i < 3; ++i) {
    run(runner, [&, i] {
      CHECK(runner.on_its_thread());
      thread = std::this_thread::get_id();
      ran.push_back(i);
      if (i == 1) throw std::runtime_error{"of a callback"};
    });
  }
  runner.finish();
  CHECK(ran == std::vector{0, 1, 2});
  CHECK(thread != std::this_thread::get_id());
  CHECK_FALSE(runner.on_its_thread());
  CHECK(idle.load() >= 1);
  CHECK(runner.idle());
}

TEST_CASE("what a callback adds while the runner ends is run, too, and after that nothing is taken") {
  bool chained = false;
  CallbackRunner runner;
  runner.start();
  run(runner, [&] {
    runner.finish();  // from its own thread: returns at once
    run(runner, [&] { chained = true; });
  });
  runner.finish();
  CHECK(chained);
  ContinuationQueue late;
  late.push(one([] {}));
  CHECK_FALSE(runner.run(late));
  CHECK_FALSE(late.empty());
}

TEST_CASE("a callback is told the task whose end it follows") {
  std::uint64_t inside = 0;
  run_callbacks(one([&] { inside = task_of_running_callback(); }, 42));
  CHECK(inside == 42);
  CHECK(task_of_running_callback() == 0);
}

TEST_CASE("a queue keeps its order when another one is added to it") {
  std::string order;
  const auto letter = [&](char c) { return one([&order, c] { order += c; }); };
  ContinuationQueue first;
  ContinuationQueue second;
  CHECK(first.empty());
  first.push(letter('a'));
  second.push(letter('b'));
  second.push(letter('c'));
  first.take_all(second);
  CHECK(second.empty());
  first.push(letter('d'));
  while (!first.empty()) run_callbacks(first.pop());
  CHECK(order == "abcd");
}

TEST_CASE("deferred work is taken with the lock and done without it, each piece once") {
  std::vector<std::uint64_t> released;
  CallbackRunner over;
  over.finish();  // so that callbacks come back to the thread that gives the lock back
  DeferredWork work{over, [&](std::uint64_t task) { released.push_back(task); }};
  int called = 0;
  {
    const HeldLock lock;
    work.run_callbacks_of(lock, one([&] { ++called; }));
    work.release_flight_of(lock, 7);
    CHECK(work.has_callbacks(lock));
    CHECK_FALSE(work.empty());
  }
  auto taken = work.take();
  CHECK(work.empty());
  CHECK(called == 0);
  work.run(std::move(taken));
  CHECK(called == 1);
  CHECK(released == std::vector<std::uint64_t>{7});
}

TEST_CASE("an error names a task by its own name, else by its function, else by its type") {
  static constexpr EntryInfo entry{nullptr, "a type of function", false};
  const auto code = std::make_shared<CodeBook>();
  alignas(TaskState) std::byte memory[sizeof(TaskState)];
  auto& task = *::new (memory) TaskState{nullptr, 7, code->reference(&entry), 0};
  CHECK(name_of_task(*code, task) == "a type of function");
  CHECK(name_of_reported_code(*code, task.entry) == "a type of function");
  const WorkerIdentity worker{.index = 3, .pid = 77, .incarnation = 2};
  task.options = new SharedOptions{{.name = "its own"}};
  const TaskFacts facts = facts_of(task, code, &worker);
  CHECK(facts.task_name == "its own");
  CHECK(facts.task_id == 7);
  CHECK(facts.worker == 3);
  CHECK(facts.pid == 77);
  CHECK(facts.incarnation == 2);
  task.options.reset();
  CHECK(facts_about(worker, "initializer").task_name == "initializer");
}

TEST_CASE("a reference that a worker made up names nothing and reads nothing") {
  const CodeBook code;
  for (const CodeReference made_up : {CodeReference{0}, CodeReference{1}, ~CodeReference{0},
                                      (CodeReference{1} << code_module_shift) | 0x7fff'ffff,
                                      (CodeReference{9} << code_module_shift) | 64}) {
    CAPTURE(made_up);
    CHECK(name_of_reported_code(code, made_up).empty());
  }
}
