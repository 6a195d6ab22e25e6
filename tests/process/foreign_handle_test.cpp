// Handles that reach a process they are not for: every use is an error that names both contexts, in every
// start method; none crashes, none hangs.
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int use_counter(Counter counter) { return static_cast<int>(++counter); }

// One of everything, made by one pool. Its future `running` does not end before `go` is set.
struct Handles {
  explicit Handles(StartMethod method)
      : pool{entry(), {.start_method = method, .max_workers = 1}},
        mutex{pool.make_mutex()},
        semaphore{pool.make_semaphore(1)},
        begun{pool.make_event()},
        go{pool.make_event()},
        barrier{pool.make_barrier(1)},
        counter{pool.make_counter()},
        channel{pool.make_channel<int>(4)},
        array{pool.make_array<int>(4, ArrayAccess::all_write)},
        logger{pool.logger().named("bound")} {
    pool.logger().add_sink([](const LogRecord&) {});
    finished = pool.submit(number, 5);
    finished.get();
    running = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    pending = pool.submit(number, 6);
  }
  ~Handles() {
    if (pool_is_ours()) go.set();
  }
  [[nodiscard]] bool pool_is_ours() const { return maker == ::getpid(); }

  pid_t maker = ::getpid();
  ProcessPoolExecutor pool;
  Mutex mutex;
  Semaphore semaphore;
  Event begun, go;
  Barrier barrier;
  Counter counter;
  Channel<int> channel;
  SharedArray<int> array;
  Logger logger;
  Future<int> finished, running, pending;
};

using Uses = std::map<std::string, std::function<void()>>;
Uses uses_of_shared_objects(Handles& with) {
  return {
      {"Mutex::lock", [&] { with.mutex.lock(); }},
      {"Mutex::try_lock", [&] { (void)with.mutex.try_lock(); }},
      {"Semaphore::acquire", [&] { with.semaphore.acquire(); }},
      {"Semaphore::release", [&] { with.semaphore.release(); }},
      {"Event::wait", [&] { with.go.wait(); }},
      {"Event::set", [&] { with.begun.set(); }},
      {"Barrier::arrive_and_wait", [&] { with.barrier.arrive_and_wait(); }},
      {"Counter::++", [&] { ++with.counter; }},
      {"Channel::send", [&] { with.channel.send(1); }},
      {"Channel::receive", [&] { (void)with.channel.receive(); }},
  };
}
Uses uses_of_the_rest(Handles& with) {
  return {
      {"Future::wait", [&] { with.running.wait(); }},
      {"Future::get", [&] { (void)with.running.get(); }},
      {"Future::wait_for", [&] { (void)with.running.wait_for(1ms); }},
      {"Future::done", [&] { (void)with.pending.done(); }},
      {"Future::running", [&] { (void)with.running.running(); }},
      {"Future::cancel", [&] { (void)with.pending.cancel(Running::kill); }},
      {"Future::exception", [&] { (void)with.pending.exception(); }},
      {"Future::on_done", [&] { with.pending.on_done([] {}); }},
      {"Future::then", [&] { (void)with.pending.then([](int value) { return value; }); }},
      {"Future::log", [&] { (void)with.finished.log(); }},
      {"wait", [&] { (void)kindred::wait(std::array{std::move(with.pending)}); }},
      {"submit", [&] { (void)with.pool.submit(number, 1); }},
      {"submit with options", [&] { (void)with.pool.submit({.name = "x"}, number, 1); }},
      {"try_submit", [&] { (void)with.pool.try_submit(number, 1); }},
      {"map",
       [&] {
         for (int each : with.pool.map(number, std::vector{1, 2})) (void)each;
       }},
      {"stats", [&] { (void)with.pool.stats(); }},
      {"worker_pids", [&] { (void)with.pool.worker_pids(); }},
      {"shutdown", [&] { with.pool.shutdown(); }},
      {"kill_workers", [&] { with.pool.kill_workers(); }},
      {"resize", [&] { with.pool.resize(2); }},
      {"set_initializer", [&] { with.pool.set_initializer({number, 1}); }},
      {"make_counter", [&] { (void)with.pool.make_counter(); }},
      {"make_array", [&] { (void)with.pool.make_array<int>(3); }},
      {"ExecutorLogger::info", [&] { with.pool.logger().info("here"); }},
      {"ExecutorLogger::flush", [&] { (void)with.pool.logger().flush(); }},
      {"ExecutorLogger::add_sink", [&] { with.pool.logger().add_sink([](const LogRecord&) {}); }},
      {"ExecutorLogger::set_level", [&] { with.pool.logger().set_level(Level::debug); }},
      {"ExecutorLogger::records", [&] { (void)with.pool.logger().kept_records(); }},
      {"Logger::info", [&] { with.logger.info("here"); }},
  };
}

// What is wrong: each use must throw a UsageError with all of `words`.
std::string try_all(const Uses& uses, const std::vector<std::string>& words) {
  std::string wrong;
  for (const auto& [name, use] : uses) {
    std::string text;
    try {
      use();
    } catch (const UsageError& error) {
      text = error.what();
    } catch (const std::exception& error) {
      text = std::string{"another error: "} + error.what();
    }
    for (const auto& word : words) {
      if (!contains(text, word)) {
        wrong += name + ": " + (text.empty() ? "no error" : text) + "\n";
        break;
      }
    }
  }
  return wrong;
}

std::string context_words(StartMethod method, pid_t owner) {
  return "(" + std::string{to_string(method)} + ", of pid " + std::to_string(owner) + ")";
}

Handles* inherited = nullptr;
std::string try_inherited(const std::string& theirs, const std::string& ours) {
  if (inherited == nullptr) return "nothing was inherited";
  return try_all(uses_of_shared_objects(*inherited), {theirs, ours}) +
         try_all(uses_of_the_rest(*inherited), {theirs, ours});
}

// A fork of a task's.
int use_in_a_fork(Counter counter) {
  const auto child = ::fork();
  if (child == 0) {
    int code = 1;
    try {
      ++counter;
    } catch (const UsageError& error) {
      code = contains(error.what(), "this Counter belongs to context") &&
                     contains(error.what(), "works for no context")
                 ? 0
                 : 2;
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "in a fork of the user's own, every handle of a pool is refused with both contexts, and its end harms nobody") {
  ResourceAudit audit;
  Handles handles{method};
  const auto maker = ::getpid();
  const auto outcome = run_forked([&] {
    const std::vector<std::string> words{context_words(method, maker), "pid " + std::to_string(::getpid()),
                                         "works for no context"};
    const auto wrong =
        try_all(uses_of_shared_objects(handles), words) + try_all(uses_of_the_rest(handles), words);
    if (!wrong.empty()) throw std::runtime_error{wrong};
    if (handles.finished.get() != 5 || handles.array[0] != 0)
      throw std::runtime_error{"what the child has a copy of"};
  });
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  CHECK(handles.counter.load() == 0);
  handles.go.set();
  CHECK(handles.running.get() == 7);
  CHECK(handles.pending.get() == 6);
  CHECK(handles.pool.submit(number, 8).get() == 8);
}

TEST_CASE_EACH_START_METHOD(
    "a fork of the user's own may destroy what it inherited, and end as a program does") {
  ResourceAudit audit;
  auto handles = std::make_unique<Handles>(method);
  auto results = std::make_optional(handles->pool.map(number, std::vector{1, 2, 3}));
  std::array several{std::move(handles->running), std::move(handles->pending)};
  auto completed = as_completed(several);
  const auto outcome = run_forked([&] {
    const auto wrong = try_all(
        {{"a map", [&] { (void)*results->begin(); }}, {"as_completed", [&] { (void)*completed.begin(); }}},
        {context_words(method, ::getppid()), "works for no context"});
    if (!wrong.empty()) throw std::runtime_error{wrong};
    results.reset();
    handles.reset();
  });
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  handles->go.set();
  int sum = 0;
  for (const int each : *results) sum += each;
  CHECK(sum == 6);
  results.reset();
  for (auto& future : completed) sum += future.get();
  CHECK(sum == 6 + 7 + 6);
}

TEST_CASE_EACH_START_METHOD("a worker that inherited another pool's handles is refused with both contexts") {
  KINDRED_SKIP_UNDER_TSAN("a worker that was forked beside threads may start none");
  ResourceAudit audit;
  auto handles = std::make_unique<Handles>(method);
  inherited = handles.get();
  {
    ProcessPoolExecutor other{
        entry(),
        {.start_method = StartMethod::fork, .max_workers = 1}};  // a fork of this process, as it is now
    other.logger().add_sink([](const LogRecord&) {});
    const auto wrong = other
                           .submit(try_inherited, context_words(method, ::getpid()),
                                   context_words(StartMethod::fork, ::getpid()))
                           .get();
    CHECK_MESSAGE(wrong.empty(), wrong);
  }
  inherited = nullptr;
  handles->go.set();
  CHECK(handles->running.get() == 7);
  CHECK(handles->counter.load() == 0);
}

TEST_CASE_EACH_START_METHOD(
    "a process that a task forks is no worker, and may not use what the task was given") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto counter = pool.make_counter();
  CHECK(pool.submit(use_in_a_fork, counter).get() == 0);
  CHECK(counter.load() == 0);
}

TEST_CASE_EACH_START_METHOD(
    "handles that were kept after their pool ended are refused with both contexts; values stay") {
  ResourceAudit audit;
  std::optional<Handles> handles{method};
  const auto mutex = handles->mutex;
  const auto counter = handles->counter;
  const auto channel = handles->channel;
  const auto event = handles->go;
  const auto array = handles->array;
  auto finished = std::move(handles->finished), last = std::move(handles->running);
  const auto logger = handles->logger;
  handles.reset();
  CHECK(finished.get() == 5);
  CHECK(last.get() == 7);
  CHECK(last.then([](int value) { return value + 1; }).get() == 8);
  CHECK(array[3] == 0);
  const auto id = context_words(method, ::getpid());
  const Uses uses{{"lock", [&] { mutex.lock(); }},    {"++", [&] { ++counter; }},
                  {"send", [&] { channel.send(1); }}, {"receive", [&] { (void)channel.receive(); }},
                  {"wait", [&] { event.wait(); }},    {"set", [&] { event.set(); }}};
  const auto wrong = try_all(uses, {id, "whose executor has been destroyed", "works for no context"});
  CHECK_MESSAGE(wrong.empty(), wrong);
  logger.debug("of a pool that is gone: {}", 1);  // to stderr, by the environment's level
  ProcessPoolExecutor next{entry(), {.start_method = method, .max_workers = 1}};
  std::string text;
  try {
    (void)next.submit(use_counter, counter);
  } catch (const UsageError& error) {
    text = error.what();
  }
  CHECK_CONTAINS(text, "this Counter belongs to context");
  CHECK_CONTAINS(text, " and was used in context");
}
