// map: order, chunks, how far it reads ahead, and how it ends early.
#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <exception>
#include <iterator>
#include <list>
#include <numeric>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <pthread.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int square(int value) { return value * value; }
int fail_at_three(int value) {
  if (value == 3) throw std::out_of_range{"no place 3"};
  return value;
}
int wait_at_two(Event go, int value) {
  if (value == 2) go.wait();
  return value;
}
int time_out(int) { throw TimeoutError{"the function's own"}; }
std::string join(const std::string& a, int b, char c) { return a + std::to_string(b) + c; }
void count(Counter counter, int) { ++counter; }
double half(double value) { return value / 2; }
int as_number(bool value) { return value ? 1 : 0; }
std::vector<int> numbers(int size) {
  std::vector<int> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

// Refuses to be written where it is bad.
struct Picky {
  int value = 0;
  template <class Archive>
  void save(Archive& archive) const {
    if (value == 2) throw std::invalid_argument{"two cannot be sent"};
    archive(value);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(value);
  }
};
int value_of(const Picky& picky) { return picky.value; }

// One of each thousand crashes, one throws.
int crash_at_500(int value) {
  if (value == 500) std::raise(SIGSEGV);
  return value;
}
std::string crash_or_throw(Counter runs, int value) {
  ++runs;
  if (value == 500) std::raise(SIGSEGV);
  if (value == 700) throw std::out_of_range{"no place 700"};
  return std::string(static_cast<std::size_t>(value % 50), 'x') + std::to_string(value);
}
std::string fill(int value) {
  if (value == 30) std::raise(SIGSEGV);
  return std::string(static_cast<std::size_t>(value % 7) * 1000, static_cast<char>('a' + value % 26));
}
int crash_once(Counter crashes, int value) {
  if (value == 5 && crashes.fetch_add(1) == 0) std::raise(SIGKILL);
  return value;
}
int count_and_crash_at_20(Counter runs, int value) {
  if (value != 20) return value;
  ++runs;
  std::raise(SIGSEGV);
  return value;
}
int hang_at_three(int value) {
  if (value == 3) {
    for (;;) ::pause();
  }
  return value;
}
int end_thread_at_two(int value) {
  if (value == 2) ::pthread_exit(nullptr);
  return value;
}
struct Scale {
  int factor = 1;
  std::string unit;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(factor, unit);
  }
  std::string operator()(int value) const {
    if (value == 9) std::raise(SIGABRT);
    return std::to_string(value * factor) + unit;
  }
};
// The second chunk that a worker reads ends it before an item of it has begun.
struct DiesBeforeSecondChunk {
  Counter reads;
  template <class Archive>
  void save(Archive& archive) const {
    archive(reads);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(reads);
    if (in_worker() && reads.fetch_add(1) == 1) std::raise(SIGKILL);
  }
  int operator()(int value) const { return value * value; }
};
std::string what_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& caught) {
    return caught.what();
  }
}

// A range without end that says how many of its items were fetched.
struct Endless {
  int* fetched;
  struct iterator {
    int* fetched;
    int at = 0;
    using value_type = int;
    using difference_type = std::ptrdiff_t;
    int operator*() const { return at; }
    iterator& operator++() {
      ++at;
      ++*fetched;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t) const { return false; }
  };
  [[nodiscard]] iterator begin() const { return {fetched}; }
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }
};

template <class Value = int, class Map>
std::vector<Value> collect(Map&& map) {
  std::vector<Value> values;
  for (const Value value : map) values.push_back(value);
  return values;
}

std::string long_text_or_crash(Counter runs, int number, std::size_t bytes) {
  ++runs;
  if (number == 30) ::raise(SIGKILL);
  return std::string(bytes, static_cast<char>('a' + number % 26));
}
int count_or_crash_at_15000(Counter runs, int number) {
  ++runs;
  if (number == 15'000) ::raise(SIGKILL);
  return number;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("map keeps the order, whatever the chunk size") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::vector<int> squares;
  for (const int value : numbers(40)) squares.push_back(value * value);
  for (const std::ptrdiff_t chunk : {0, 1, 6, 40, 50}) {
    CAPTURE(chunk);
    CHECK(collect(pool.map(square, numbers(40), MapOptions{.chunk_size = chunk})) == squares);
  }
  const auto lasting = numbers(5);
  CHECK(collect(pool.map(square, lasting)) == std::vector<int>{0, 1, 4, 9, 16});
  CHECK_THROWS_CONTAINS(pool.map(square, lasting, MapOptions{.chunk_size = -1}), UsageError,
                        "chunk_size is -1");
  CHECK_THROWS_CONTAINS(pool.map(square, lasting, MapOptions{.buffer_size = -5}), UsageError,
                        "buffer_size is -5");
}

TEST_CASE_EACH_START_METHOD("map takes numbers that lie in a row as any others, whatever their type") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto from = numbers(5000);
  std::vector<int> squares;
  std::vector<double> halves;
  for (const int value : from) {
    squares.push_back(value * value);
    halves.push_back(value / 2.0);
  }
  for (const std::ptrdiff_t chunk : {0, 1, 7, 5000, 6000}) {
    CAPTURE(chunk);
    const MapOptions options{.chunk_size = chunk};
    CHECK((collect(pool.map(square, from, options)) == squares));
    CHECK((collect(pool.map(square, std::span{from}, options)) == squares));
    CHECK((collect(pool.map(square, std::list<int>(from.begin(), from.end()), options)) == squares));
    CHECK((collect<double>(pool.map(half, from, options)) == halves));  // each is converted
    CHECK(
        (collect<double>(pool.map(half, std::vector<double>(from.begin(), from.end()), options)) == halves));
  }
  CHECK(collect(pool.map(as_number, std::array{true, false, true})) == std::vector<int>{1, 0, 1});
  CHECK(collect(pool.map(as_number, std::vector<bool>{false, true})) == std::vector<int>{0, 1});
}

TEST_CASE_EACH_START_METHOD(
    "map takes several ranges, to the end of the shortest, and functions with arguments of their own") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const std::vector<std::string> names{"a", "b", "c"};
  std::vector<std::string> joined;
  for (auto& text : pool.map(join, names, numbers(5), std::string{"xyz!"})) joined.push_back(text);
  CHECK(joined == std::vector<std::string>{"a0x", "b1y", "c2z"});
  const auto counter = pool.make_counter();
  int rounds = 0;
  for ([[maybe_unused]] auto& nothing : pool.map(count, std::vector<Counter>(7, counter), numbers(7)))
    ++rounds;
  CHECK(rounds == 7);
  CHECK(counter.load() == 7);
}

TEST_CASE_EACH_START_METHOD(
    "map gives the results before the item that throws, then its error, and the loop ends") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::ptrdiff_t chunk : {1, 2, 4, 10}) {
    CAPTURE(chunk);
    std::vector<int> seen;
    const auto loop = [&] {
      for (const int value : pool.map(fail_at_three, numbers(50), MapOptions{.chunk_size = chunk}))
        seen.push_back(value);
    };
    CHECK_THROWS_CONTAINS(loop(), std::out_of_range, "no place 3");
    CHECK(seen == std::vector<int>{0, 1, 2});
  }
  CHECK(collect(pool.map(square, numbers(3))) == std::vector<int>{0, 1, 4});
}

TEST_CASE_EACH_START_METHOD(
    "a map over its time says so, cancels the rest, and is told from a TimeoutError of the function") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(square, 3).get() == 9);  // the start of the worker is not in the map's time
  const auto go = pool.make_event();
  std::vector<int> seen;
  const auto late = [&] {
    for (const int value : pool.map(wait_at_two, std::vector<Event>(20, go), numbers(20),
                                    MapOptions{.chunk_size = 1, .timeout = 3s * slowness()})) {
      seen.push_back(value);
    }
  };
  bool timed_out = false;
  try {
    late();
  } catch (const TaskError&) {
    CHECK(false);
  } catch (const TimeoutError& error) {
    timed_out = true;
    CHECK_CONTAINS(error.what(), "map");
  }
  CHECK(timed_out);
  CHECK(seen == std::vector<int>{0, 1});
  CHECK(pool.stats().pending == 0);
  go.set();
  const auto own = [&] { (void)collect(pool.map(time_out, numbers(2), MapOptions{.timeout = 1h})); };
  CHECK_THROWS_CONTAINS(own(), TaskError, "the function's own");
}

TEST_CASE_EACH_START_METHOD(
    "a buffer of n reads at most n items ahead of the first, and one more for each taken") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::ptrdiff_t chunk : {1, 2}) {
    CAPTURE(chunk);
    int fetched = 0;
    auto map = pool.map(square, Endless{&fetched}, MapOptions{.chunk_size = chunk, .buffer_size = 4});
    CHECK(fetched <= 4);
    auto at = map.begin();
    CHECK(fetched <= 4);
    for (int taken = 0; taken < 20; ++taken) {
      CHECK(*at == taken * taken);
      CHECK(fetched <= 4 + taken);
      ++at;
    }
  }
}

TEST_CASE_EACH_START_METHOD("a map over nothing gives nothing and starts no worker") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  CHECK(collect(pool.map(square, std::vector<int>{})).empty());
  CHECK(pool.stats().submitted == 0);
  CHECK(pool.worker_pids().empty());
}

TEST_CASE_EACH_START_METHOD("an item that cannot be written is an error of the loop, and nothing hangs") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::ptrdiff_t chunk : {1, 2, 3, 10}) {
    CAPTURE(chunk);
    std::vector<int> seen;
    const auto loop = [&] {
      for (const int value :
           pool.map(value_of, std::vector<Picky>{{0}, {1}, {2}, {3}}, MapOptions{.chunk_size = chunk}))
        seen.push_back(value);
    };
    CHECK_THROWS_CONTAINS(loop(), std::invalid_argument, "two cannot be sent");
    CHECK(seen == std::vector<int>{0, 1});
  }
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD("a map that is left early cancels what it had not begun") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto go = pool.make_event(), after = pool.make_event();
  after.set();
  std::vector<Event> waits{after, go};
  for (int i = 0; i < 30; ++i) waits.push_back(go);
  for (const int value :
       pool.map(wait_and_return, waits, numbers(32), MapOptions{.chunk_size = 1, .buffer_size = 32})) {
    CHECK(value == 0);
    break;
  }
  const auto stats = pool.stats();
  CHECK(stats.cancelled >= 30);
  CHECK(stats.pending == 0);
  go.set();
  pool.shutdown();
  CHECK(pool.stats().submitted == 32);
}

TEST_CASE_EACH_START_METHOD("an unordered map gives results as they come, each once") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto go = pool.make_event(), after = pool.make_event();
  after.set();
  std::vector<Event> waits(6, after);
  waits[0] = go;
  std::vector<int> seen;
  for (const int value :
       pool.map(wait_and_return, waits, numbers(6), MapOptions{.chunk_size = 1, .ordered = false})) {
    seen.push_back(value);
    if (seen.size() == 5) go.set();
  }
  CHECK(seen.size() == 6);
  CHECK(seen.back() == 0);
  CHECK(std::accumulate(seen.begin(), seen.end(), 0) == 15);
}

TEST_CASE_EACH_START_METHOD("map tells its progress in the thread that iterates") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::vector<std::size_t> given;
  bool within = true;
  const auto progress = [&](std::size_t taken, std::size_t fetched) {
    given.push_back(taken);
    within = within && fetched >= taken && fetched <= 10;
  };
  CHECK(collect(pool.map(square, numbers(10), MapOptions{.chunk_size = 3, .progress = progress})).size() ==
        10);
  CHECK(given.size() == 10);
  CHECK(given.back() == 10);
  CHECK(within);
}

TEST_CASE_EACH_START_METHOD(
    "map is called as a newcomer writes it: options in braces, items in braces, a constant function, and piped into views") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto ten = numbers(10);
  const std::size_t chunk = ten.size() / 3;
  CHECK(collect(pool.map(square, ten, {.chunk_size = chunk})).size() == 10);
  CHECK(collect(pool.map(add, ten, ten, {.chunk_size = chunk})) ==
        collect(pool.map(add, ten, std::views::iota(0))));
  std::string joined;
  for (const auto& each :
       pool.map(join, std::vector<std::string>{"a", "b"}, ten, std::vector{'x', 'y'}, {.buffer_size = 1}))
    joined += each;
  CHECK(joined == "a0xb1y");
  CHECK(collect(pool.map(square, {1, 2, 3})) == std::vector{1, 4, 9});
  CHECK(collect(pool.map<square>(ten, {.ordered = true})) == collect(pool.map(square, ten)));
  CHECK(collect(pool.map<add>(ten, ten)).back() == 18);
  CHECK(collect(pool.map(as_number, std::vector{true, false, true})) == std::vector{1, 0, 1});
  std::vector<int> taken;
  for (const int value : pool.map(square, std::views::iota(0, 100)) |
                             std::views::transform([](int each) { return each + 1; }) | std::views::take(3)) {
    taken.push_back(value);
  }
  CHECK(taken == std::vector{1, 2, 5});
}

TEST_CASE_EACH_START_METHOD(
    "a map that outlives its pool gives what it has, then says that the pool was shut down") {
  ResourceAudit audit;
  std::optional<ProcessPoolExecutor> pool;
  pool.emplace(entry(), ExecutorOptions{.start_method = method, .max_workers = 1});
  auto map = pool->map(square, std::views::iota(0), {.chunk_size = 1, .buffer_size = 4});
  pool.reset();
  std::vector<int> seen;
  CHECK_THROWS_CONTAINS(
      [&] {
        for (const int value : map) seen.push_back(value);
      }(),
      UsageError, "has been shut down");
  CHECK(seen.front() == 0);
  CHECK(seen.size() <= 4);
}

TEST_CASE_EACH_START_METHOD(
    "a map whose item crashes gives every result before it, then the error of that item") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::ptrdiff_t chunk : {0, 1, 7, 1000}) {
    CAPTURE(chunk);
    std::vector<int> seen;
    try {
      for (const int value : pool.map(crash_at_500, numbers(1000), MapOptions{.chunk_size = chunk}))
        seen.push_back(value);
      FAIL("no error");
    } catch (const WorkerLost& error) {
      CHECK(error.item() == 500);
      CHECK(error.exit_reason().signal == SIGSEGV);
      CHECK_CONTAINS(error.what(), "(item 500)");
    }
    CHECK(seen == numbers(500));
  }
}

TEST_CASE_EACH_START_METHOD(
    "a map that goes on loses the item that crashed and no other, and runs no item twice") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const bool ordered : {true, false}) {
    for (const std::ptrdiff_t chunk : {0, 1, 9, 1000}) {
      CAPTURE(ordered);
      CAPTURE(chunk);
      const auto runs = pool.make_counter();
      std::vector<int> given(1000);
      std::size_t expected = 0, errors = 0;
      bool in_order = true, right = true;
      for (auto& outcome : pool.map_outcomes(crash_or_throw, std::vector<Counter>(1000, runs), numbers(1000),
                                             {.chunk_size = chunk, .ordered = ordered})) {
        in_order = in_order && outcome.index() == expected++;
        ++given.at(outcome.index());
        const int value = static_cast<int>(outcome.index());
        if (outcome.has_value()) {
          right = right && outcome.error() == nullptr &&
                  outcome.value() ==
                      std::string(static_cast<std::size_t>(value % 50), 'x') + std::to_string(value);
          continue;
        }
        ++errors;
        CHECK((value == 500 || value == 700));
        CHECK_CONTAINS(what_of(outcome.error()), "(item " + std::to_string(value) + ")");
        if (value == 500)
          CHECK_THROWS_AS(outcome.value(), WorkerLost);
        else
          CHECK_THROWS_AS(outcome.value(), std::out_of_range);
      }
      CHECK(right);
      CHECK((in_order || !ordered));
      CHECK(errors == 2);
      CHECK(given == std::vector<int>(1000, 1));
      CHECK(runs.load() == 1000);
    }
  }
}

TEST_CASE_EACH_START_METHOD(
    "results of a chunk are kept when its worker dies, also where they outgrow its ring's lap") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (int round = 0; round < 6; ++round) {
    std::size_t good = 0;
    for (auto& outcome : pool.map_outcomes(fill, numbers(40), {.chunk_size = 20})) {
      if (!outcome.has_value()) {
        CHECK(outcome.index() == 30);
        continue;
      }
      ++good;
      CHECK(outcome.value() == fill(static_cast<int>(outcome.index())));
    }
    CHECK(good == 39);
  }
}

TEST_CASE_EACH_START_METHOD(
    "results of a chunk are kept when its worker dies, also where a ring has no room for them") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto runs = pool.make_counter();
  // 30 KiB, 300 KiB and 3 MiB of results before the one that crashes; numbers, and what differs in size.
  for (const std::size_t bytes : {std::size_t{1000}, std::size_t{10'000}, std::size_t{100'000}}) {
    CAPTURE(bytes);
    runs.store(0);
    std::size_t good = 0;
    for (auto& outcome : pool.map_outcomes(long_text_or_crash, std::vector<Counter>(40, runs), numbers(40),
                                           std::vector<std::size_t>(40, bytes), {.chunk_size = 40})) {
      if (!outcome.has_value()) {
        CHECK(outcome.index() == 30);
        continue;
      }
      ++good;
      CHECK(outcome.value() == std::string(bytes, static_cast<char>('a' + outcome.index() % 26)));
    }
    CHECK(good == 39);
    CHECK(runs.load() == 40);  // no item ran twice
  }
  runs.store(0);
  std::vector<int> seen;
  CHECK_THROWS_AS(
      [&] {
        for (const int value : pool.map(count_or_crash_at_15000, std::vector<Counter>(20'000, runs),
                                        numbers(20'000), {.chunk_size = 20'000}))
          seen.push_back(value);
      }(),
      WorkerLost);
  CHECK(seen == numbers(15'000));
  CHECK(runs.load() == 15'001);
}

TEST_CASE_EACH_START_METHOD(
    "a chunk whose worker dies before its first item takes no result of the chunk before it") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const DiesBeforeSecondChunk dies{pool.make_counter()};
  std::size_t lost = 0;
  for (auto& outcome : pool.map_outcomes(dies, numbers(12), {.chunk_size = 4})) {
    CAPTURE(outcome.index());
    if (!outcome.has_value()) {
      ++lost;
      CHECK(outcome.index() >= 4);
      CHECK_THROWS_AS(outcome.value(), WorkerLost);
      continue;
    }
    CHECK(outcome.value() == square(static_cast<int>(outcome.index())));
  }
  CHECK(lost <= 1);
  CHECK(dies.reads.load() > 2);
}

TEST_CASE_EACH_START_METHOD("an item is tried again as often as its map's retries allow") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::ptrdiff_t chunk : {1, 10}) {
    CAPTURE(chunk);
    const auto crashes = pool.make_counter();
    CHECK(collect(pool.map(crash_once, std::vector<Counter>(10, crashes), numbers(10),
                           {.chunk_size = chunk, .retries = 1})) == numbers(10));
    CHECK(crashes.load() == 2);
    const auto runs = pool.make_counter();
    std::vector<int> seen;
    CHECK_THROWS_CONTAINS(
        [&] {
          for (const int value : pool.map(count_and_crash_at_20, std::vector<Counter>(40, runs), numbers(40),
                                          {.chunk_size = chunk, .retries = 2, .name = "counting"}))
            seen.push_back(value);
        }(),
        WorkerLost, "'counting'");
    CHECK(seen == numbers(20));
    CHECK(runs.load() == 3);
  }
}

TEST_CASE_EACH_START_METHOD("an item over its time is that item's error, and the map goes on") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  std::vector<std::size_t> late;
  std::size_t good = 0;
  for (const auto& outcome : pool.map(hang_at_three, numbers(8),
                                      {.on_error = OnItemError::keep, .item_timeout = 3s * slowness()})) {
    if (outcome) {
      ++good;
      continue;
    }
    late.push_back(outcome.index());
    CHECK_THROWS_CONTAINS(outcome.value(), TaskTimeout, "(item 3)");
  }
  CHECK(late == std::vector<std::size_t>{3});
  CHECK(good == 7);
}

TEST_CASE_EACH_START_METHOD(
    "the braces of a call decide what a map yields, and options in a variable are told where they go") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto ten = numbers(10);
  int values = 0;
  for (const kindred::Outcome<int>& outcome :
       pool.map(fail_at_three, ten, {.chunk_size = 4, .on_error = OnItemError::keep}))
    values += outcome.value_or(1000);
  CHECK(values == 45 - 3 + 1000);
  for (const kindred::Outcome<int>& outcome : pool.map(add, ten, ten, {.on_error = OnItemError::keep}))
    CHECK(*outcome == static_cast<int>(outcome.index()) * 2);
  for (const kindred::Outcome<int>& outcome : pool.map<square>(ten, {.on_error = OnItemError::keep}))
    CHECK(outcome.has_value());
  for (const kindred::Outcome<int>& outcome : pool.map(square, {1, 2}, {.on_error = OnItemError::keep}))
    CHECK(outcome.has_value());
  const auto counter = pool.make_counter();
  for (auto& outcome : pool.map_outcomes(count, std::vector<Counter>(3, counter), ten)) outcome.value();
  CHECK(counter.load() == 3);
  MapOptions options{.on_error = OnItemError::keep};
  CHECK_THROWS_CONTAINS(pool.map(square, ten, options), UsageError, "map_outcomes");
  for (const auto& outcome : pool.map_outcomes(square, ten, options)) CHECK(outcome.has_value());
  CHECK(collect(pool.map(square, ten, {.on_error = OnItemError::stop})).size() == 10);
  CHECK_THROWS_CONTAINS(pool.map(square, ten, MapOptions{.retries = -1}), UsageError, "retries is -1");
  CHECK_THROWS_CONTAINS(pool.map(square, ten, MapOptions{.item_timeout = 0ns}), UsageError,
                        "item_timeout is 0");
}

TEST_CASE_EACH_START_METHOD(
    "each item has an outcome, whatever ends it: writing it, its thread's end, a function with a state") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (const std::ptrdiff_t chunk : {1, 3, 10}) {
    CAPTURE(chunk);
    std::vector<std::size_t> failed;
    for (auto& outcome :
         pool.map_outcomes(value_of, std::vector<Picky>{{0}, {1}, {2}, {3}}, {.chunk_size = chunk})) {
      if (outcome.has_value())
        CHECK(outcome.value() == static_cast<int>(outcome.index()));
      else
        CHECK_CONTAINS(what_of(outcome.error()), "(item 2)");
      if (!outcome.has_value()) failed.push_back(outcome.index());
    }
    CHECK(failed == std::vector<std::size_t>{2});

    failed.clear();
    for (auto& outcome : pool.map_outcomes(end_thread_at_two, numbers(5), {.chunk_size = chunk})) {
      if (!outcome.has_value()) failed.push_back(outcome.index());
    }
    CHECK(failed == std::vector<std::size_t>{2});

    failed.clear();
    for (auto& outcome : pool.map_outcomes(Scale{3, "m"}, numbers(12), {.chunk_size = chunk})) {
      if (outcome.has_value())
        CHECK(outcome.value() == std::to_string(outcome.index() * 3) + "m");
      else
        failed.push_back(outcome.index());
    }
    CHECK(failed == std::vector<std::size_t>{9});
  }
}
