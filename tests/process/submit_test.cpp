// submit: what may be run, with which arguments, and what is refused before anything is sent.
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

void nothing() {}
void note_order(Counter place, SharedArray<int> order, int value) {
  order.mutable_span()[static_cast<std::size_t>(place++)] = value;
}
std::string whom(Worker& worker, const std::string& text) {
  return text + " " + std::to_string(worker.index()) + " " +
         std::to_string(worker.pid() == static_cast<std::uint32_t>(::getpid())) + " " +
         std::to_string(&worker == &this_worker()) + " " + std::to_string(worker.task_id() != 0) + " " +
         std::to_string(worker.attempt());
}

struct Scale {
  double factor = 1;
  double operator()(double value) const { return factor * value; }
};
struct Address {
  std::string street;
  std::optional<int> number;
};
struct Person {
  std::string name;
  std::vector<Address> addresses;
  std::map<std::string, std::array<int, 2>> marks;
};
Person moved(Person person, const Address& where) {
  person.addresses.push_back(where);
  person.marks["moves"][1] += 1;
  return person;
}
std::unique_ptr<int> doubled(std::unique_ptr<int> value) { return std::make_unique<int>(2 * *value); }
std::vector<std::uint8_t> back(std::vector<std::uint8_t> bytes) { return bytes; }
std::size_t total(const std::vector<std::string>& lines) {
  std::size_t bytes = 0;
  for (const auto& line : lines) bytes += line.size();
  return bytes;
}

// Cannot be written.
struct Unwritable {
  template <class Archive>
  void save(Archive&) const {
    throw std::domain_error{"this stays here"};
  }
  template <class Archive>
  void load(Archive&) {}
};
void take(const Unwritable&) {}

}  // namespace

TEST_CASE_EACH_START_METHOD("functions, lambdas, function objects and constants run in a worker") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(add, 1, 2).get() == 3);
  CHECK(pool.submit(&add, 2, 2).get() == 4);
  CHECK(pool.submit<add>(3, 2).get() == 5);
  CHECK(pool.submit([](int a) { return a + 1; }, 5).get() == 6);
  CHECK(pool.submit(Scale{2.5}, 2).get() == doctest::Approx(5));
  pool.submit(nothing).get();
  CHECK(pool.submit(whom, "worker").get() == "worker 0 1 1 1 1");
  CHECK(pool.submit([] { return static_cast<int>(::getpid()); }).get() != ::getpid());
  CHECK_FALSE(in_worker());
  CHECK_THROWS_AS((void)this_worker(), UsageError);
}

TEST_CASE_EACH_START_METHOD("arguments and results of every size cross, nested ones too") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto person =
      pool.submit(moved, Person{"Ada", {{"Elm", 3}}, {{"moves", {0, 4}}}}, Address{"Oak", std::nullopt})
          .get();
  CHECK(person.name == "Ada");
  REQUIRE(person.addresses.size() == 2);
  CHECK(person.addresses[0].number == 3);
  CHECK_FALSE(person.addresses[1].number);
  CHECK(person.marks.at("moves")[1] == 5);
  CHECK(*pool.submit(doubled, std::make_unique<int>(21)).get() == 42);
  for (const std::size_t size :
       {0U, 1U, 255U, 4095U, 4096U, 4097U, 16383U, 16384U, 16385U, 65536U, 1'000'000U, 20'000'000U}) {
    CAPTURE(size);
    std::vector<std::uint8_t> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + size);
    CHECK((pool.submit(back, bytes).get() == bytes));
  }
  std::vector<Future<std::vector<std::uint8_t>>> many;
  for (std::size_t i = 0; i < 200; ++i)
    many.push_back(pool.submit(back, std::vector<std::uint8_t>(i * 301, static_cast<std::uint8_t>(i))));
  for (std::size_t i = 0; i < 200; ++i)
    CHECK((many[i].get() == std::vector<std::uint8_t>(i * 301, static_cast<std::uint8_t>(i))));
  CHECK(pool.submit(total, std::vector<std::string>(1000, std::string(100, 'x'))).get() == 100'000);
}

TEST_CASE_EACH_START_METHOD(
    "an argument that cannot be written fails that future alone, and no worker is touched") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(take, Unwritable{});
  try {
    future.get();
    FAIL("no error");
  } catch (const TaskError& error) {
    CHECK(error.phase() == TaskPhase::writing_arguments);
    CHECK_CONTAINS(error.what(), "this stays here");
    CHECK(error.worker() == -1);
  }
  CHECK_THROWS_AS(future.get(), std::domain_error);
  CHECK(pool.worker_pids().empty());
  CHECK(pool.submit(add, 1, 1).get() == 2);
  CHECK(pool.stats().failed == 1);
}

TEST_CASE_EACH_START_METHOD("with max_pending, submit waits for room and try_submit refuses") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .max_pending = 3}};
  const auto begun = pool.make_event(), go = pool.make_event();
  std::vector<Future<int>> futures;
  futures.push_back(pool.submit(begin_and_wait, begun, go));
  begun.wait();
  for (int i = 0; i < 3; ++i) {
    auto room = pool.try_submit(add, i, 0);
    REQUIRE(room);
    futures.push_back(std::move(*room));
  }
  CHECK_FALSE(pool.try_submit(add, 3, 0));
  std::atomic<bool> taken{false};
  std::thread waits{[&] {
    auto future = pool.submit(add, 40, 2);
    taken = true;
    CHECK(future.get() == 42);
  }};
  CHECK_FALSE(futures[1].wait_for(20ms));
  CHECK_FALSE(taken);
  go.set();
  waits.join();
  for (auto& future : futures) future.get();
}

TEST_CASE_EACH_START_METHOD("many threads submit to one pool at once") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::atomic<int> sum{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) sum += pool.submit(add, i, 1).get();
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(sum == 8 * (199 * 200 / 2 + 200));
  const auto stats = pool.stats();
  CHECK(stats.submitted == 1600);
  CHECK(stats.done == 1600);
  CHECK(stats.pending + stats.running == 0);
}

TEST_CASE_EACH_START_METHOD("task options out of range are refused with their value") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK_THROWS_CONTAINS(pool.submit({.timeout = 0s}, add, 1, 1), UsageError, "timeout is 0");
  CHECK_THROWS_CONTAINS(pool.submit({.soft_timeout = -1s}, add, 1, 1), UsageError, "soft_timeout");
  CHECK_THROWS_CONTAINS(pool.submit({.retries = -1}, add, 1, 1), UsageError, "retries is -1");
  CHECK(pool.stats().submitted == 0);
}

TEST_CASE_EACH_START_METHOD("higher priorities go first, equal ones in their order") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  const auto place = pool.make_counter();
  const auto order = pool.make_array<int>(6, ArrayAccess::all_write);
  auto first = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  std::vector<Future<void>> futures;
  for (const int priority : {0, 5, -3, 5, 0, 9}) {
    futures.push_back(pool.submit({.priority = priority}, note_order, place, order,
                                  priority * 10 + static_cast<int>(futures.size())));
  }
  go.set();
  for (auto& future : futures) future.get();
  CHECK(std::vector<int>(order.begin(), order.end()) == std::vector<int>{95, 51, 53, 0, 4, -28});
}

TEST_CASE_EACH_START_METHOD("a task that waited longer than its queue_timeout never starts") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  const auto place = pool.make_counter();
  const auto order = pool.make_array<int>(1, ArrayAccess::all_write);
  auto first = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  auto late = pool.submit({.name = "late", .queue_timeout = 20ms}, note_order, place, order, 1);
  CHECK_THROWS_CONTAINS(
      late.get(), TaskTimeout,
      "task 'late' #2 waited for a worker longer than its queue_timeout of 20 ms, and never began.");
  go.set();
  first.get();
  CHECK(pool.submit(add, 1, 1).get() == 2);
  CHECK(place.load() == 0);
}
