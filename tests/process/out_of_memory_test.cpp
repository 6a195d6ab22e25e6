// Memory that ends while the pool does something: the caller is told so, and nothing is lost or hangs.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

// Which allocation of this thread fails: the first, the second; 0: none. And whether all of the pool's
// supervisor do.
thread_local int fails = 0;
std::atomic<bool> supervisor_fails{false};
std::atomic<int> supervisor_failed{0};

bool shall_fail() {
  if (fails != 0 && --fails == 0) return true;
  if (!supervisor_fails.load(std::memory_order_relaxed)) return false;
  char name[16] = {};
  ::prctl(PR_GET_NAME, name);
  if (std::strcmp(name, "kindred-super") != 0) return false;
  ++supervisor_failed;
  return true;
}

void* take(std::size_t bytes, std::size_t alignment) {
  void* const memory = shall_fail()
                           ? nullptr
                           : std::aligned_alloc(alignment, (std::max<std::size_t>(bytes, 1) + alignment - 1) /
                                                               alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc{};
  return memory;
}

std::vector<int> many(int size) { return std::vector<int>(static_cast<std::size_t>(size), 7); }
std::size_t size_of(const std::vector<int>& values) { return values.size(); }
int refuse(int value) { throw std::out_of_range{"refused " + std::to_string(value)}; }

// Lets each allocation of `action` fail, one after another, until none is left that could. Returns how many
// did.
template <class Action, class Check>
int fail_each(const Action& action, const Check& check) {
  for (int k = 1;; ++k) {
    CAPTURE(k);
    bool failed = false;
    fails = k;
    try {
      action();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    const bool reached = fails == 0;
    fails = 0;
    check(failed);
    if (!reached || k == 1000) return k - 1;
  }
}

}  // namespace

void* operator new(std::size_t bytes) { return take(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

TEST_CASE("a task for whose priority there is no memory runs all the same, in its place among the others") {
  ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::fork, .max_workers = 1}};
  int submitted = 0;
  std::optional<Event> go;
  std::vector<Future<int>> others;
  std::optional<Future<int>> prioritized;
  const auto begin = [&] {
    go = pool.make_event();
    others.clear();
    others.push_back(pool.submit(wait_and_return, *go, 1));
    while (!others.front().running()) std::this_thread::sleep_for(1ms);
    for (int i = 0; i < 3; ++i) others.push_back(pool.submit(number, 1));
  };
  begin();
  const int failures = fail_each([&] { prioritized.emplace(pool.submit({.priority = 5}, number, 5)); },
                                 [&](bool failed) {
                                   go->set();
                                   for (auto& other : others) CHECK(other.get() == 1);
                                   submitted += failed ? 4 : 5;
                                   if (!failed) CHECK(prioritized->get() == 5);
                                   prioritized.reset();
                                   CHECK(pool.stats().pending + pool.stats().running == 0);
                                   begin();
                                 });
  CHECK(failures > 1);
  go->set();
  for (auto& other : others) CHECK(other.get() == 1);
  CHECK(pool.stats().done == static_cast<std::uint64_t>(submitted + 4));
}

TEST_CASE_EACH_START_METHOD(
    "whichever allocation of submit fails, it says so and leaves no task behind, or the task runs") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(number, 1).get() == 1);
  const std::vector<int> large(50'000, 1);
  int failures = 0;
  std::uint64_t arguments_failed = 0;
  const auto try_all = [&](const auto& submit, const auto& expected) {
    std::optional<std::decay_t<decltype(submit())>> future;
    failures +=
        fail_each([&] { future.emplace(submit()); },
                  [&](bool failed) {
                    try {
                      const auto value = failed ? expected : future->get();
                      CHECK(value == expected);
                    } catch (const std::bad_alloc&) {  // while its arguments were written: its own error
                      ++arguments_failed;
                    }
                    future.reset();
                    CHECK(pool.submit(number, 2).get() == 2);
                    CHECK(pool.stats().pending + pool.stats().running == 0);
                  });
  };
  try_all([&] { return pool.submit(number, 3); }, 3);
  try_all(
      [&] {
        return pool.submit(
            {.name = "a name that is too long to lie within a string", .timeout = 10s, .queue_timeout = 1h},
            number, 4);
      },
      4);
  try_all([&] { return pool.submit(size_of, large); }, large.size());
  try_all([&] { return pool.submit({.priority = 1}, number, 5); }, 5);
  CHECK(failures > 5);
  const auto stats = pool.stats();
  CHECK(stats.failed == arguments_failed);
  CHECK(stats.submitted == stats.done + stats.failed);
}

TEST_CASE_EACH_START_METHOD(
    "whichever allocation of a wait fails, no result is lost but that which there was no memory for") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(number, 1).get() == 1);
  int failures = 0;
  for (const int size : {100, 2'000, 100'000}) {
    failures += fail_each(
        [&] {
          auto value = pool.submit(many, size);
          auto error = pool.submit(refuse, size);
          if (value.get().size() != static_cast<std::size_t>(size)) throw std::runtime_error{"another value"};
          try {
            (void)error.get();
          } catch (const std::out_of_range&) {}
        },
        [&](bool) { CHECK(pool.submit(number, 2).get() == 2); });
  }
  CHECK(failures > 10);
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD("a cancel needs no memory, and its error says how") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event();
  const auto go = pool.make_event();
  auto busy = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  for (const int size : {1, 2'000, 100'000}) {
    CAPTURE(size);
    auto waiting = pool.submit(size_of, many(size));
    bool cancelled = false;
    const int failures =
        fail_each([&] { cancelled = waiting.cancel(); }, [](bool failed) { CHECK_FALSE(failed); });
    if (size < 100'000)
      CHECK(failures == 0);  // the larger one's memory goes back to the pool, which notes it
    CHECK(cancelled);
    CHECK_THROWS_WITH_AS((void)waiting.get(), doctest::Contains("before it began"), Cancelled);
  }
  go.set();
  (void)busy.get();
  CHECK(pool.stats().cancelled == 3);
}

TEST_CASE_EACH_START_METHOD(
    "a supervisor without memory gives each task its end, and each callback, once there is some again") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  CHECK(pool.submit(number, 1).get() == 1);
  constexpr int tasks = 200;
  std::atomic<int> called{0};
  std::vector<Future<std::vector<int>>> futures;
  for (int i = 0; i < tasks; ++i) {
    futures.push_back(pool.submit(many, i % 2 == 0 ? 100 : 20'000));
    futures.back().on_done([&] { ++called; });
    if (i == 0) supervisor_fails = true;
  }
  for (const auto until = std::chrono::steady_clock::now() + 20s;
       supervisor_failed < 3 && std::chrono::steady_clock::now() < until;)
    std::this_thread::yield();
  supervisor_fails = false;
  int values = 0, without_memory = 0;
  for (auto& future : futures) {
    try {
      values += future.get().empty() ? 0 : 1;
    } catch (const std::bad_alloc&) {
      ++without_memory;
    }
  }
  CHECK(values + without_memory == tasks);
  CHECK(supervisor_failed > 0);
  pool.shutdown();
  CHECK(called == tasks);
}

TEST_CASE_EACH_START_METHOD(
    "a worker that dies while the supervisor has no memory is buried once there is some again") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.logger().add_sink([](const LogRecord&) {});
  const auto begun = pool.make_event(), go = pool.make_event();
  // The first time there is memory, and the supervisor keeps what it needs to hear of a death.
  for (const bool short_of_memory : {false, true, true, true}) {
    CAPTURE(short_of_memory);
    auto lost = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    begun.clear();
    const auto pid = static_cast<pid_t>(pool.stats().per_worker.at(0).pid);
    supervisor_failed = 0;
    supervisor_fails = short_of_memory;
    ::kill(pid, SIGKILL);
    for (const auto until = std::chrono::steady_clock::now() + 20s;
         short_of_memory && supervisor_failed < 3 && std::chrono::steady_clock::now() < until;)
      std::this_thread::yield();
    CHECK((supervisor_failed >= 3 || !short_of_memory));
    supervisor_fails = false;
    CHECK_THROWS_AS(lost.get(), WorkerLost);
  }
  CHECK(pool.submit(number, 4).get() == 4);
}

TEST_CASE_EACH_START_METHOD("where no thread for callbacks can be started, the call that adds one says so") {
  const auto outcome = run_forked([&] {
    // The limit does not hold for root: another user, whom nobody else is.
    if (::getuid() == 0 && (::setresgid(61235, 61235, 61235) != 0 || ::setresuid(61235, 61235, 61235) != 0))
      throw std::runtime_error{"setresuid"};
    ::prctl(PR_SET_DUMPABLE, 1);
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    if (pool.submit(number, 1).get() != 1) throw std::runtime_error{"no pool"};
    const auto begun = pool.make_event(), go = pool.make_event();
    auto later = pool.submit(begin_and_wait, begun, go);
    begun.wait();
    const rlimit none{.rlim_cur = 1, .rlim_max = 1};
    if (::setrlimit(RLIMIT_NPROC, &none) != 0) throw std::runtime_error{"setrlimit"};
    std::string said;
    try {
      later.on_done([] {});
    } catch (const SystemError& error) {
      said = error.what();
    }
    if (said.find("pthread_create") == std::string::npos || said.find("ulimit -u") == std::string::npos)
      throw std::runtime_error{"it said: " + said};
    go.set();
    if (later.get() != 7) throw std::runtime_error{"another value"};
  });
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}
