// One future: what it says at each moment, its callbacks and continuations, and that it ends once.
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstdlib>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int fail(int code) { throw std::out_of_range{"no place " + std::to_string(code)}; }
void wait_for(Event go) { go.wait(); }
void mark(SharedArray<int> ran, std::size_t place) { ran.mutable_span()[place] = 1; }
std::string text_of(std::size_t size) { return std::string(size, 'x'); }

// One that hides: no text, and false when asked.
struct SilentError : std::exception {
  explicit operator bool() const { return false; }
  const char* what() const noexcept override { return ""; }
};
int fail_silently() { throw SilentError{}; }

// Callbacks run on a thread of the pool's: what they noted is read while the lock is held.
struct Notes {
  std::mutex mutex;
  std::vector<std::string> lines;
  void add(std::string line) {
    const std::scoped_lock lock{mutex};
    lines.push_back(std::move(line));
  }
  std::vector<std::string> all() {
    const std::scoped_lock lock{mutex};
    return lines;
  }
};

struct Started {
  struct promise_type {
    Started get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};
Started await_both(ProcessPoolExecutor& pool, Notes& notes) {
  auto first = pool.submit(add, 20, 1);
  const int value = co_await first;
  auto second = pool.submit(fail, value);
  try {
    co_await second;
  } catch (const std::out_of_range& error) {
    notes.add(error.what());
  }
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a future tells pending, running and done apart") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto running = pool.submit(begin_and_wait, begun, go);
  auto pending = pool.submit(add, 1, 2);
  begun.wait();
  CHECK(running.running());
  CHECK_FALSE(running.done());
  CHECK_FALSE(pending.running());
  CHECK_FALSE(pending.done());
  CHECK(running.task_id() != pending.task_id());
  go.set();
  CHECK(running.get() == 7);
  CHECK(running.get() == 7);
  CHECK(pending.get() == 3);
  CHECK(pending.done());
  CHECK_FALSE(pending.running());
  CHECK_FALSE(pending.cancelled());
  CHECK(pending.exception() == nullptr);
}

TEST_CASE_EACH_START_METHOD("a callback on a finished future runs at once in the caller") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(add, 1, 2);
  future.wait();
  std::thread::id where;
  int seen = 0;
  future.on_done([&](Future<int>& done) {
    where = std::this_thread::get_id();
    seen = done.get();
  });
  CHECK(where == std::this_thread::get_id());
  CHECK(seen == 3);
}

TEST_CASE_EACH_START_METHOD("callbacks run once each, in the order of registration") {
  Notes notes;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    const auto go = pool.make_event();
    auto future = pool.submit(wait_for, go);
    for (const char* name : {"first", "second", "third"}) future.on_done([&notes, name] { notes.add(name); });
    CHECK(notes.all().empty());
    go.set();
    future.get();
  }
  CHECK(notes.all() == std::vector<std::string>{"first", "second", "third"});
}

TEST_CASE_EACH_START_METHOD(
    "a callback that throws is logged and harms no other callback, and the pool goes on") {
  ResourceAudit audit;
  Notes notes, log;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.logger().add_sink([&log](const LogRecord& record) { log.add(record.message); });
  const auto go = pool.make_event(), third = pool.make_event();
  auto future = pool.submit(wait_for, go);
  future.on_done([&] { notes.add("first"); });
  future.on_done([] { throw std::runtime_error{"the second callback gives up"}; });
  future.on_done([&] {
    notes.add("third");
    third.set();
  });
  go.set();
  third.wait();
  CHECK(notes.all() == std::vector<std::string>{"first", "third"});
  CHECK(pool.submit(add, 2, 2).get() == 4);
  CHECK(pool.logger().flush());
  std::string all;
  for (const auto& line : log.all()) all += line + "\n";
  CHECK_CONTAINS(all, "the second callback gives up");
}

TEST_CASE_EACH_START_METHOD("a callback on a pending future runs when it is cancelled, and sees that") {
  std::atomic<int> calls{0};
  std::atomic<bool> cancelled{false};
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    const auto begun = pool.make_event(), go = pool.make_event();
    auto running = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    auto pending = pool.submit(add, 1, 2);
    pending.on_done([&](Future<int>& future) {
      ++calls;
      cancelled = future.cancelled();
    });
    CHECK(pending.cancel());
    CHECK(pending.cancelled());
    CHECK(pending.done());
    CHECK_FALSE(pending.running());
    CHECK_THROWS_AS(pending.get(), Cancelled);
    go.set();
    running.get();
  }
  CHECK(calls == 1);
  CHECK(cancelled);
}

TEST_CASE_EACH_START_METHOD("a running task is not cancelled by a plain cancel, and its result arrives") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto future = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  CHECK_FALSE(future.cancel());
  CHECK_FALSE(future.cancelled());
  go.set();
  CHECK(future.get() == 7);
  CHECK_FALSE(future.cancel());
}

TEST_CASE_EACH_START_METHOD(
    "a task that was handed to a worker is cancelled and never runs, or it runs: never both") {
  ResourceAudit audit;
  constexpr std::size_t count = 2000;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto ran = pool.make_array<int>(count, ArrayAccess::all_write);
  for (int i = 0; i < 50; ++i) pool.submit(add, i, i).get();  // so that it hands ahead
  // Both workers are busy until all are submitted and the last ones are cancelled, which is certain then.
  const auto begun = pool.make_barrier(3);
  const auto go = pool.make_event();
  const auto hold = [](Barrier all, Event end) {
    all.arrive_and_wait();
    end.wait();
  };
  std::vector<Future<void>> holding;
  for (int i = 0; i < 2; ++i) holding.push_back(pool.submit(hold, begun, go));
  begun.arrive_and_wait();
  std::vector<Future<void>> futures;
  for (std::size_t i = 0; i < count; ++i) futures.push_back(pool.submit(mark, ran, i));
  std::vector<char> answer(count, 0);
  constexpr std::size_t surely = 20;
  for (std::size_t i = count - surely; i < count; ++i) {
    answer[i] = futures[i].cancel() ? 1 : 0;
    CHECK(answer[i] == 1);
  }
  go.set();
  // The others race: from the front, where they run, and from the back, where they wait.
  std::thread front{[&] {
    for (std::size_t i = 0; i < count - surely; i += 3) answer[i] = futures[i].cancel() ? 1 : 0;
  }};
  for (std::size_t i = count - surely; i-- > 0;) {
    if (i % 3 == 1) answer[i] = futures[i].cancel() ? 1 : 0;
  }
  front.join();
  for (auto& future : holding) future.get();
  std::size_t wrong = 0, cancelled = 0;
  for (std::size_t i = 0; i < count; ++i) {
    futures[i].wait();
    cancelled += answer[i] != 0 ? 1U : 0U;
    wrong += (answer[i] != 0) != futures[i].cancelled() || (ran[i] != 0) == (answer[i] != 0) ? 1U : 0U;
  }
  CHECK(wrong == 0);
  CHECK(cancelled >= surely);
  CHECK(pool.stats().cancelled == cancelled);
}

TEST_CASE_EACH_START_METHOD("waiting no time on a pending future says so, and its result can be read later") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto future = pool.submit(begin_and_wait, begun, go);
  CHECK_FALSE(future.wait_for(0s));
  CHECK_FALSE(future.wait_for(-1s));
  CHECK_FALSE(future.wait_for(5ms));
  CHECK_FALSE(future.wait_until(std::chrono::steady_clock::now()));
  CHECK_FALSE(future.wait_until(std::chrono::system_clock::now() + 2ms));
  go.set();
  CHECK(future.wait_for(std::chrono::hours{1}));
  CHECK(future.get() == 7);
}

TEST_CASE_EACH_START_METHOD("what a future ended with stays, whatever comes after") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto done = pool.submit(add, 1, 2);
  done.wait();
  CHECK_FALSE(done.cancel(Running::kill));
  pool.kill_workers();
  CHECK(done.get() == 3);
  CHECK(pool.stats().done == 1);
}

TEST_CASE_EACH_START_METHOD("twenty threads that wait and cancel at once see one and the same end") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (int i = 0; i < 20; ++i) pool.submit(add, i, i).get();
  for (int round = 0; round < 30; ++round) {
    auto future = pool.submit(add, round, 1).share();
    std::atomic<int> values{0}, cancels{0}, answers{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 20; ++i) {
      threads.emplace_back([&, i, mine = future]() mutable {
        if (i % 3 == 0 && mine.cancel()) ++answers;
        try {
          values += mine.get() == round + 1 ? 1 : 100;
        } catch (const Cancelled&) {
          ++cancels;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK((values == 20 || cancels == 20));
    CHECK((cancels == 20) == (answers > 0));
  }
}

TEST_CASE_EACH_START_METHOD("an exception without a word is an error all the same") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(fail_silently);
  CHECK(future.exception() != nullptr);
  CHECK_THROWS_CONTAINS(future.get(), TaskError, "SilentError");
  CHECK_FALSE(future.cancelled());
}

TEST_CASE_EACH_START_METHOD("continuations get the value, or the finished future, and pass errors by") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto text = pool.submit(add, 20, 1).then([](int value) { return value * 2; }).then([](int value) {
    return std::to_string(value);
  });
  CHECK(text.get() == "42");
  auto passed_by = pool.submit(fail, 5).then([](int value) { return value; });
  CHECK_THROWS_CONTAINS(passed_by.get(), std::out_of_range, "no place 5");
  auto mended =
      pool.submit(fail, 5).then([](Future<int>& future) { return future.exception() ? -1 : future.get(); });
  CHECK(mended.get() == -1);
  auto thrown =
      pool.submit(add, 1, 1).then([](int) -> int { throw std::domain_error{"in the continuation"}; });
  CHECK_THROWS_CONTAINS(thrown.get(), std::domain_error, "in the continuation");
  int nothing = 0;
  pool.submit(add, 1, 1).then([&](int value) { nothing = value; }).get();
  CHECK(nothing == 2);
}

TEST_CASE_EACH_START_METHOD("a coroutine waits for a task, and meets what it threw") {
  Notes notes;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    await_both(pool, notes);
    while (notes.all().empty()) pool.submit(add, 0, 0).get();
  }
  CHECK_CONTAINS(notes.all().at(0), "no place 21");
}

TEST_CASE_EACH_START_METHOD("a future outlives its pool, with its value") {
  ResourceAudit audit;
  Future<int> kept;
  Future<std::string> large;
  Future<int> failed;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    kept = pool.submit(add, 3, 4);
    large = pool.submit(text_of, std::size_t{3'000'000});
    failed = pool.submit(fail, 9);
  }
  CHECK(kept.done());
  CHECK(kept.get() == 7);
  CHECK(large.get().size() == 3'000'000);
  CHECK_THROWS_CONTAINS(failed.get(), std::out_of_range, "no place 9");
  CHECK_FALSE(kept.cancel());
}

TEST_CASE_EACH_START_METHOD(
    "futures are dropped before, while and after their tasks end, and with the pool: the tasks run all the same") {
  ResourceAudit audit;
  constexpr int count = 3000;
  std::vector<Future<int>> late;
  std::uint64_t done = 0;
  std::thread after_the_pool;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    for (int i = 0; i < count; ++i) {
      TaskOptions options;
      if (i % 5 == 1) options.timeout = 1h;
      if (i % 5 == 2) options.queue_timeout = 1h;  // a timer holds it, too, until it ends
      auto future = pool.submit(options, add, i, 1);
      if (i % 3 == 0) continue;  // dropped at once
      if (i % 7 == 0) future.on_done([] {});
      late.push_back(std::move(future));
      if (i % 64 == 0) CHECK(late.back().get() == i + 1);
    }
    std::vector<Future<int>> dropped_here{std::make_move_iterator(late.begin()),
                                          std::make_move_iterator(late.begin() + 900)};
    late.erase(late.begin(), late.begin() + 900);
    std::thread dropper{[others = std::move(dropped_here)]() mutable { others.clear(); }};
    Future<int> killed = pool.submit(wait_and_return, pool.make_event(), 1);
    while (!killed.running()) std::this_thread::sleep_for(1ms);
    CHECK(killed.cancel(Running::kill));
    killed = {};  // its call is in a ring yet
    dropper.join();
    while ((done = pool.stats().done) < count) std::this_thread::sleep_for(1ms);
    after_the_pool = std::thread{[others = std::move(late)]() mutable { others.clear(); }};
  }
  after_the_pool.join();
  CHECK(done == count);
}

TEST_CASE_EACH_START_METHOD("tasks whose futures nobody kept leave no memory behind") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer keeps memory that was freed; it tells of what leaks itself");
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  // All are open at once each time, whoever is given a CPU when: so each round needs the same memory.
  const auto some = [&pool] {
    const auto begun = pool.make_event(), go = pool.make_event();
    auto holds = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    for (int i = 0; i < 30'000; ++i) (void)pool.submit(add, i, 1);
    go.set();
    CHECK(holds.get() == 7);
    CHECK(pool.submit(add, 1, 1).get() == 2);
  };
  some();
  const auto before = resident_kib();
  for (int i = 0; i < 8; ++i) some();
  CHECK(resident_kib() < before + 8 * 1024);  // that many states are 30 MiB
}

TEST_CASE("an empty future says what it is instead of crashing") {
  Future<int> empty;
  CHECK_FALSE(empty.valid());
  CHECK_THROWS_CONTAINS(empty.get(), UsageError, "moved from");
  CHECK_THROWS_AS(empty.wait(), UsageError);
  CHECK_THROWS_AS((void)empty.done(), UsageError);
  CHECK_THROWS_AS(empty.cancel(), UsageError);
}

TEST_CASE_EACH_START_METHOD(
    "callbacks that each submit the next task all run, and shutdown waits for the chain") {
  ResourceAudit audit;
  std::atomic<int> ran{0};
  std::function<void(int)> next;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    next = [&](int left) {
      auto future = pool.submit(add, left, 1);
      future.on_done([&, left](Future<int>& done) {
        if (done.get() == left + 1) ++ran;
        if (left > 1) next(left - 1);
      });
    };
    next(100);
    pool.shutdown();
    CHECK(ran == 100);
    CHECK_THROWS_CONTAINS((void)pool.submit(add, 1, 1), UsageError, "has been shut down");
  }
}

TEST_CASE_EACH_START_METHOD("a chain of callbacks ends where pending tasks are cancelled") {
  ResourceAudit audit;
  std::mutex mutex;
  std::string refusal;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto future = pool.submit(begin_and_wait, begun, go);
  future.on_done([&](Future<int>&) {
    try {
      (void)pool.submit(add, 1, 1);
    } catch (const UsageError& error) {
      const std::scoped_lock lock{mutex};
      refusal = error.what();
    }
  });
  begun.wait();
  pool.shutdown({.wait = false, .cancel_pending = true});
  go.set();
  pool.shutdown();
  const std::scoped_lock lock{mutex};
  CHECK_CONTAINS(refusal, "has been shut down");
}

TEST_CASE_EACH_START_METHOD(
    "a continuation that returns a future is that future, with its value or its error") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  Future<int> sum = pool.submit(add, 1, 2).then([&](int three) { return pool.submit(add, three, 4); });
  CHECK(sum.get() == 7);
  Future<void> done =
      pool.submit(add, 1, 2).then([&](Future<int> whole) { return pool.submit([](int) {}, whole.get()); });
  done.get();
  CHECK_THROWS_AS(pool.submit(add, 1, 2).then([&](int code) { return pool.submit(fail, code); }).get(),
                  std::out_of_range);
  CHECK_THROWS_AS(pool.submit(fail, 1).then([&](int code) { return pool.submit(add, code, 1); }).get(),
                  std::out_of_range);
  auto late = pool.submit(add, 1, 2).then([&](int) { return Future<int>{}; });
  CHECK_THROWS_CONTAINS(late.get(), UsageError, "this future is empty");
}

TEST_CASE_EACH_START_METHOD(
    "a continuation that waits for another pool outlives its own: its callbacks run all the same") {
  ResourceAudit audit;
  std::promise<int> noted;
  ProcessPoolExecutor other{entry(), {.start_method = method, .max_workers = 1}};
  const auto go = other.make_event();
  {
    std::optional<ProcessPoolExecutor> pool{std::in_place, entry(),
                                            ExecutorOptions{.start_method = method, .max_workers = 1}};
    auto both =
        pool->submit(add, 1, 2).then([&](int three) { return other.submit(wait_and_return, go, three); });
    pool.reset();
    both.on_done([&](Future<int> last) { noted.set_value(last.get()); });
    go.set();
  }
  CHECK(noted.get_future().get() == 3);
}

TEST_CASE_EACH_START_METHOD(
    "shared futures have callbacks and continuations, and both kinds take callables that only move") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  SharedFuture<int> shared = pool.submit(add, 1, 2);
  CHECK(shared.then([](int three) { return three + 1; }).get() == 4);
  CHECK(shared.then([one = std::make_unique<int>(1)](SharedFuture<int>& three) { return three.get() + *one; })
            .get() == 4);
  std::promise<int> noted, noted_by_value;
  auto first = noted.get_future(), second = noted_by_value.get_future();
  shared.on_done(
      [noted = std::move(noted)](const SharedFuture<int>& three) mutable { noted.set_value(three.get()); });
  auto single = pool.submit(add, 2, 2);
  single.on_done(
      [noted = std::move(noted_by_value)](Future<int> four) mutable { noted.set_value(four.get()); });
  CHECK(first.get() == 3);
  CHECK(second.get() == 4);
}

TEST_CASE_EACH_START_METHOD(
    "the longest times there are mean for ever, and fractions of a second are times") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit({.timeout = std::chrono::nanoseconds::max(),
                                 .soft_timeout = std::chrono::nanoseconds::max(),
                                 .queue_timeout = std::chrono::nanoseconds::max()},
                                add, 1, 2));
  CHECK(futures[0].wait_for(std::chrono::hours::max()));
  CHECK(futures[0].get() == 3);
  const auto go = pool.make_event();
  futures.push_back(pool.submit(begin_and_wait, pool.make_event(), go));
  CHECK_FALSE(futures[1].wait_for(0.001s));
  CHECK(wait(futures, ReturnWhen::all_completed, 0.001s).not_done.size() == 1);
  std::jthread setter{[&] { go.set(); }};
  CHECK(futures[1].wait_for(std::chrono::nanoseconds::max()));
  CHECK(futures[1].wait_for(std::chrono::duration<double>{1e300}));
  CHECK(wait(futures, ReturnWhen::all_completed, std::chrono::hours::max()).done.size() == 2);
  int count = 0;
  for (auto& future : as_completed(futures, std::chrono::nanoseconds::max())) count += future.done() ? 1 : 0;
  CHECK(count == 2);
}

TEST_CASE_EACH_START_METHOD(
    "limits that are nearly the longest there are limit nothing, also while they are looked at") {
  ResourceAudit audit;
  constexpr auto nearly_the_longest = std::chrono::nanoseconds::max() - 1ns;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method,
                            .max_workers = 1,
                            .initializer = {add, 1, 2},
                            .idle_timeout = nearly_the_longest,
                            .restart_limit = {.period = nearly_the_longest},
                            .initializer_timeout = nearly_the_longest,
                            .shutdown_grace = nearly_the_longest,
                            .terminate_grace = nearly_the_longest}};
  const auto begun = pool.make_event(), end = pool.make_event();
  auto running = pool.submit({.timeout = nearly_the_longest,
                              .soft_timeout = nearly_the_longest,
                              .queue_timeout = nearly_the_longest},
                             begin_and_wait, begun, end);
  begun.wait();
  auto limited = pool.submit({.timeout = nearly_the_longest, .queue_timeout = 1ms}, add, 1,
                             2);  // its timer comes, and all that are due are looked at
  CHECK_THROWS_AS(limited.get(), TaskTimeout);
  CHECK(running.running());
  end.set();
  CHECK(running.wait_for(10s));
  CHECK(pool.logger().flush(std::chrono::milliseconds::max()));
}
