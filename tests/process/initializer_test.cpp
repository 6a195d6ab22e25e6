// Initializers and finalizers that work, throw, die and hang.
#include <algorithm>
#include <csignal>
#include <functional>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

struct Model {
  std::string name;
};
void load(Worker& worker, const std::string& name) { worker.state<Model>().name = name; }
std::string loaded() { return this_worker().state<Model>().name; }
int index_of_worker(Worker& worker) { return worker.index(); }
void kill_worker() { ::raise(SIGKILL); }

enum class Way : int { throws, exits, segfaults, hangs, kills_itself };
void go_wrong(Way how) {
  switch (how) {
    case Way::throws: throw std::runtime_error{"model.bin is not there"};
    case Way::exits: ::_exit(9);
    case Way::segfaults: ::raise(SIGSEGV); return;
    case Way::kills_itself: ::raise(SIGKILL); return;
    case Way::hangs:
      for (;;) ::pause();
  }
}
void go_wrong_after(Counter starts, int good, Way how) {
  if (starts.fetch_add(1) >= good) go_wrong(how);
}

struct Log {
  std::mutex mutex;
  std::string text;
  void operator()(const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    text += record.message + "\n";
  }
  std::string all() {
    const std::scoped_lock lock{mutex};
    return text;
  }
};

// All futures of a pool whose initializer fails end with its cause, and so does what is submitted later.
void check_broken(StartMethod method, Call initializer, const char* text, const char* cause_text,
                  std::optional<std::chrono::nanoseconds> limit = {}) {
  ResourceAudit audit;
  CAPTURE(text);
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method,
                            .max_workers = 2,
                            .initializer = std::move(initializer),
                            .initializer_timeout = limit}};
  pool.logger().add_sink([](const LogRecord&) {});
  std::vector<Future<int>> futures;
  try {
    for (int i = 0; i < 6; ++i) futures.push_back(pool.submit(number, i));
  } catch (const BrokenProcessPool&) {
    // It may be found broken before the last one.
  }
  REQUIRE_FALSE(futures.empty());
  for (auto& future : futures) {
    try {
      future.get();
      FAIL("no error");
    } catch (const BrokenProcessPool& error) {
      CHECK_CONTAINS(error.what(), text);
      REQUIRE(error.cause());
      CHECK_THROWS_CONTAINS(std::rethrow_exception(error.cause()), std::exception, cause_text);
    }
  }
  CHECK_THROWS_AS(pool.submit(number, 1), BrokenProcessPool);
  pool.shutdown();
  CHECK(pool.stats().restarts <= 4);
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "the initializer runs once in each worker, before its first task, and in its replacement") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 1, .initializer = {load, "model.bin"}}};
  CHECK(pool.submit(loaded).get() == "model.bin");
  CHECK(pool.submit(loaded).get() == "model.bin");
  CHECK_THROWS_AS(pool.submit(kill_worker).get(), WorkerLost);
  CHECK(pool.submit(loaded).get() == "model.bin");
  CHECK_THROWS_AS(pool.set_initializer({load, "other"}), UsageError);
}

TEST_CASE_EACH_START_METHOD("an initializer that throws breaks the pool with its own error") {
  check_broken(method, {go_wrong, Way::throws}, "initializer", "model.bin is not there");
}

TEST_CASE_EACH_START_METHOD("an initializer that ends the worker breaks the pool with how it ended") {
  check_broken(method, {go_wrong, Way::exits}, "initializer", "exited with code 9");
  check_broken(method, {go_wrong, Way::segfaults}, "initializer", "SIGSEGV");
}

TEST_CASE_EACH_START_METHOD(
    "a SIGKILL in the initializer is a death like any other: it breaks the pool when it comes too often") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method,
                            .max_workers = 1,
                            .initializer = {go_wrong, Way::kills_itself},
                            .restart_limit = {.count = 3, .period = 1h}}};
  pool.logger().add_sink([](const LogRecord&) {});
  CHECK_THROWS_CONTAINS(pool.submit(number, 1).get(), BrokenProcessPool, "SIGKILL");
  CHECK(pool.stats().restarts == 4);
}

TEST_CASE_EACH_START_METHOD("an initializer that hangs breaks the pool after initializer_timeout") {
  check_broken(method, {go_wrong, Way::hangs}, "initializer", "initializer", 150ms);
}

TEST_CASE_EACH_START_METHOD(
    "an initializer that fails in the third worker only breaks the pool with the cause") {
  ResourceAudit audit;
  Log log;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 3}};
    pool.logger().add_sink(std::ref(log));
    const auto starts = pool.make_counter();
    const auto go = pool.make_event();
    pool.set_initializer({go_wrong_after, starts, 2, Way::throws});
    std::vector<Future<int>> futures;
    for (int i = 0; i < 3; ++i) futures.push_back(pool.submit(wait_and_return, go, i));
    for (auto& future : futures)
      CHECK_THROWS_CONTAINS(future.get(), BrokenProcessPool, "model.bin is not there");
    CHECK_THROWS_AS(pool.submit(number, 1), BrokenProcessPool);
  }
  CHECK_CONTAINS(log.all(), "the initializer failed in worker");
}

TEST_CASE_EACH_START_METHOD(
    "an initializer that fails in a replacement only breaks the pool with the cause") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto starts = pool.make_counter();
  pool.set_initializer({go_wrong_after, starts, 1, Way::throws});
  CHECK(pool.submit(number, 1).get() == 1);
  CHECK_THROWS_AS(pool.submit(kill_worker).get(), WorkerLost);
  std::string text;
  try {
    pool.submit(number, 2).get();
  } catch (const BrokenProcessPool& error) {
    try {
      std::rethrow_exception(error.cause());
    } catch (const std::exception& cause) {
      text = cause.what();
    }
  }
  CHECK_CONTAINS(text, "model.bin is not there");
}

TEST_CASE_EACH_START_METHOD("the finalizer runs in each worker that ends in good order") {
  ResourceAudit audit;
  for (const auto& [most, finalizers] : std::vector<std::pair<int, int>>{{0, 1}, {1, 3}}) {
    TemporaryFolder folder;
    const auto note = [](const std::string& path) {
      write_file(path + "/" + std::to_string(::getpid()), "");
    };
    {
      ProcessPoolExecutor pool{entry(),
                               {.start_method = method,
                                .max_workers = 1,
                                .finalizer = {note, folder.path()},
                                .max_tasks_per_worker = most}};
      for (int i = 0; i < 3; ++i) CHECK(pool.submit(number, i).get() == i);
    }
    const auto listing = run_program("/bin/ls", {folder.path()}).out;
    CHECK(std::count(listing.begin(), listing.end(), '\n') == finalizers);
  }
}

TEST_CASE_EACH_START_METHOD("a finalizer that throws, dies or hangs is reported, and shutdown ends") {
  for (const auto& [how, text] :
       std::vector<std::pair<Way, std::string>>{{Way::throws, "model.bin is not there"},
                                                {Way::exits, "exited with code 9"},
                                                {Way::segfaults, "SIGSEGV"},
                                                {Way::hangs, "SIGKILL"}}) {
    CAPTURE(text);
    ResourceAudit audit;
    Log log;
    {
      // Only the one that hangs is to be killed, however slow the others are.
      const auto grace = how == Way::hangs ? std::chrono::nanoseconds{200ms} : std::chrono::nanoseconds{1h};
      ProcessPoolExecutor pool{
          entry(),
          {.start_method = method, .max_workers = 1, .finalizer = {go_wrong, how}, .shutdown_grace = grace}};
      pool.logger().set_level(Level::debug);
      pool.logger().add_sink(std::ref(log));
      CHECK(pool.submit(number, 1).get() == 1);
      pool.shutdown();
      CHECK_CONTAINS(log.all(), text);
    }
  }
}

TEST_CASE_EACH_START_METHOD("a call that takes the Worker may be initializer and task alike") {
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 2, .initializer = {index_of_worker}}};
  CHECK(pool.submit(index_of_worker).get() <= 1);
}
