// Shared objects and arrays with whole pools: passed to tasks and initializers of every start method, and
// held by workers that die.
#include <algorithm>
#include <csignal>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int add_under_lock(Mutex mutex, SharedArray<int> cell, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const std::scoped_lock guard{mutex};
    cell.mutable_span()[0] = cell[0] + 1;
  }
  return rounds;
}

struct Given {
  Counter counter;
  Event event;
  Channel<std::string> channel;
};
Given given;  // what the initializer leaves for the tasks of its worker

void keep(Counter counter, Event event, Channel<std::string> channel) { given = {counter, event, channel}; }
void use_what_was_kept(int number) {
  given.event.wait();
  ++given.counter;
  given.channel.send("task " + std::to_string(number));
}

void die_with(Mutex mutex, Semaphore semaphore, Event ready) {
  mutex.lock();
  semaphore.acquire();
  ready.set();
  ::raise(SIGKILL);
}

void arrive(Barrier barrier) { barrier.arrive_and_wait(); }
void come_and_die(Barrier, Event ready) {
  ready.wait();
  ::raise(SIGKILL);
}
void tell_and_arrive(Barrier barrier, Event ready) {
  ready.set();
  barrier.arrive_and_wait();
}

long sum(const SharedArray<long>& array) { return std::accumulate(array.begin(), array.end(), 0L); }
long sum_of_first(const std::vector<SharedArray<int>>& arrays) {
  long sum = 0;
  for (const auto& array : arrays) sum += array[0];
  return sum;
}
std::vector<SharedArray<int>> same_arrays(std::vector<SharedArray<int>> arrays) { return arrays; }
SharedArray<long> squares(std::size_t size) {
  auto made = make_shared_array<long>(size);
  const auto cells = made.mutable_span();
  for (std::size_t i = 0; i < size; ++i) cells[i] = static_cast<long>(i * i);
  return made;
}
void add_to_each(SharedArray<long> array, std::size_t from, std::size_t to, long amount) {
  for (std::size_t i = from; i < to; ++i) array[i] += amount;
}
SharedArray<long> back(SharedArray<long> array) { return array; }
bool writable_in_worker(const SharedArray<long>& array) { return array.writable(); }
Counter counted(Counter counter) {
  ++counter;
  return counter;
}
void count(const Counter& counter) { counter.fetch_add(1); }

void fill(Channel<int> channel, int from, int to) {
  for (int i = from; i < to; ++i) channel.send(i);
}
long drain(Channel<int> channel) {
  long total = 0;
  while (const auto value = channel.receive()) total += *value;
  return total;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a Mutex made by the executor excludes the tasks of its workers and the parent") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto mutex = pool.make_mutex();
  const auto cell = pool.make_array<int>(1, ArrayAccess::all_write);
  std::vector<Future<int>> futures;
  for (int i = 0; i < 4; ++i) futures.push_back(pool.submit(add_under_lock, mutex, cell, 2000));
  add_under_lock(mutex, cell, 2000);
  for (auto& future : futures) CHECK(future.get() == 2000);
  CHECK(cell[0] == 5 * 2000);
}

TEST_CASE_EACH_START_METHOD("shared objects reach every worker through the initializer") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto counter = pool.make_counter();
  const auto event = pool.make_event();
  const auto channel = pool.make_channel<std::string>(8);
  pool.set_initializer({keep, counter, event, channel});
  std::vector<Future<void>> futures;
  for (int i = 0; i < 20; ++i) futures.push_back(pool.submit(use_what_was_kept, i));
  event.set();
  for (int i = 0; i < 20; ++i) CHECK_CONTAINS(channel.receive().value(), "task ");
  for (auto& future : futures) future.get();
  CHECK(counter.load() == 20);
}

TEST_CASE_EACH_START_METHOD("what a killed worker held is given back, and the next owner learns of it") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto mutex = pool.make_mutex();
  const auto semaphore = pool.make_semaphore(1);
  const auto ready = pool.make_event();
  auto dying = pool.submit(die_with, mutex, semaphore, ready);
  ready.wait();
  mutex.lock();
  CHECK(mutex.abandoned());
  mutex.make_consistent();
  mutex.unlock();
  semaphore.acquire();
  CHECK(semaphore.abandoned());
  semaphore.release();
  CHECK_THROWS_AS(dying.get(), WorkerLost);
  pool.submit(add_under_lock, mutex, pool.make_array<int>(1, ArrayAccess::all_write), 10).get();
}

TEST_CASE_EACH_START_METHOD("a worker that dies with a Barrier does not leave the others waiting") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto barrier = pool.make_barrier(2);
  const auto ready = pool.make_event();
  auto waits = pool.submit(tell_and_arrive, barrier, ready);
  auto dies = pool.submit(come_and_die, barrier, ready);
  CHECK_THROWS_AS(dies.get(), WorkerLost);
  CHECK_THROWS_CONTAINS(waits.get(), std::exception, "ended while it had the barrier");
  barrier.reset();
  auto one = pool.submit(arrive, barrier);
  barrier.arrive_and_wait();
  one.get();
}

TEST_CASE_EACH_START_METHOD(
    "an array is written in place, through an index or a loop, by the parent and by workers") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  auto array = pool.make_array<long>(1000, ArrayAccess::all_write);
  for (std::size_t i = 0; i < array.size(); ++i) array[i] = static_cast<long>(i);
  auto low = pool.submit(add_to_each, array, std::size_t{0}, std::size_t{500}, 1L);
  auto high = pool.submit(add_to_each, array, std::size_t{500}, std::size_t{1000}, 2L);
  low.get();
  high.get();
  CHECK(array[0] == 1);
  CHECK(array[499] == 500);
  CHECK(array[999] == 1001);
  CHECK(array.front() == 1);
  array.back() = 5;
  CHECK(std::as_const(array).back() == 5);
  auto counter = pool.make_counter(7);
  const std::int64_t seen = counter;
  CHECK(seen == 7);
  CHECK(counter == 7);
}

TEST_CASE_EACH_START_METHOD(
    "a worker that sleeps between two calls keeps the array mapped, and lets go of it when it stays idle") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .spin = false}};
  const auto array = pool.make_array<long>(1000);
  CHECK(pool.submit(sum, array).get() == 0);
  const auto worker = static_cast<pid_t>(pool.worker_pids().at(0));
  const auto is_mapped = [folder = "/proc/" + std::to_string(worker)] {
    return contains(read_file(folder + "/maps"), "memfd:kindred-array");
  };
  const auto sleeps = [worker] {
    return std::ranges::any_of(descendants(::getpid()), [worker](const ProcessInfo& process) {
      return process.pid == worker && process.state == 'S';
    });
  };
  // On a busy machine it may have slept for long before this process comes to look.
  bool kept = false;
  for (int i = 0; i < 100 && !kept; ++i) {
    CHECK(pool.submit(sum, array).get() == 0);
    while (!sleeps()) std::this_thread::yield();
    kept = is_mapped();
  }
  CHECK(kept);
  while (is_mapped()) std::this_thread::yield();
  CHECK(pool.submit(sum, array).get() == 0);
}

TEST_CASE_EACH_START_METHOD(
    "arrays pass both ways without a copy, are sealed for receivers, and go when nobody has them") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  {
    auto array = pool.make_array<long>(1'000'000);
    std::iota(array.mutable_span().begin(), array.mutable_span().end(), 0L);
    CHECK(pool.submit(sum, array).get() == 499'999'500'000L);
    CHECK_FALSE(pool.submit(writable_in_worker, array).get());
    CHECK(pool.submit(back, array).get() == array);
    const auto made = pool.submit(squares, std::size_t{1000}).get();
    CHECK(made.size() == 1000);
    CHECK(made[999] == 999 * 999);
    CHECK_FALSE(made.writable());
    CHECK(pool.submit(sum, made).get() == 332'833'500);
    std::vector<Future<long>> futures;
    for (int i = 0; i < 300; ++i) futures.push_back(pool.submit(sum, made));
    for (auto& future : futures) CHECK(future.get() == 332'833'500);
    // A task that writes all the same is stopped by the kernel, and nothing is written.
    auto stopped = pool.submit(add_to_each, array, std::size_t{0}, std::size_t{1}, 7L);
    CHECK_THROWS_AS(stopped.get(), WorkerLost);
    CHECK(array[0] == 0);
  }
  SharedArray<long> kept = pool.submit(squares, std::size_t{10}).get();
  pool.shutdown();
  CHECK(kept[9] == 81);
}

TEST_CASE_EACH_START_METHOD("handles come back as results and are the same objects") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto counter = pool.make_counter(1);
  CHECK(pool.submit(counted, counter).get() == counter);
  CHECK(counter.load() == 2);
  std::vector<Future<void>> futures;
  for (int i = 0; i < 500; ++i) futures.push_back(pool.submit(count, counter));
  for (auto& future : futures) future.get();
  CHECK(counter.load() == 502);
}

TEST_CASE_EACH_START_METHOD("a call and a result carry hundreds of shared objects") {
  ResourceAudit audit;
  constexpr std::size_t many = 700;  // more than a socket holds messages
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::vector<SharedArray<int>> arrays;
  long all = 0;
  for (std::size_t i = 0; i < many; ++i) {
    arrays.push_back(pool.make_array<int>(1));
    arrays.back().mutable_span()[0] = static_cast<int>(i);
    all += static_cast<long>(i);
  }
  auto sum = pool.submit(sum_of_first, arrays);
  REQUIRE(sum.wait_for(20s));
  CHECK(sum.get() == all);
  auto returned = pool.submit(same_arrays, arrays);
  REQUIRE(returned.wait_for(20s));
  CHECK(returned.get() == arrays);
  // The same ones again and again are sent once each.
  std::vector<SharedArray<int>> twelve;
  for (std::size_t i = 0; i < 6000; ++i) twelve.push_back(arrays[i % 12]);
  auto repeated = pool.submit(sum_of_first, twelve);
  REQUIRE(repeated.wait_for(20s));
  CHECK(repeated.get() == 500 * 66);
  for (std::size_t i = many; i < 1025; ++i) arrays.push_back(pool.make_array<int>(1));
  CHECK_THROWS_CONTAINS(pool.submit(sum_of_first, arrays).get(), UsageError, "more than 1024 shared objects");
  CHECK(pool.submit(add, 1, 2).get() == 3);
}

TEST_CASE_EACH_START_METHOD(
    "a worker that has no descriptor left for what a call names fails that call alone") {
  ProcessPoolExecutor pool{
      entry(), {.start_method = method, .max_workers = 1, .worker = {.rlimits = {{RLIMIT_NOFILE, 64}}}}};
  std::vector<SharedArray<int>> arrays;
  for (int i = 0; i < 200; ++i) arrays.push_back(pool.make_array<int>(1));
  auto future = pool.submit(sum_of_first, arrays);
  REQUIRE(future.wait_for(20s));
  CHECK_THROWS_CONTAINS(future.get(), std::exception, "Too many open files");
  arrays.resize(3);
  auto next = pool.submit(sum_of_first, arrays);
  REQUIRE(next.wait_for(20s));
  CHECK(next.get() == 0);
  CHECK(pool.stats().lost == 0);
}

TEST_CASE_EACH_START_METHOD("a Channel carries between tasks and the parent") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto channel = pool.make_channel<int>(16);
  auto receiver = pool.submit(drain, channel);
  auto sender = pool.submit(fill, channel, 0, 5000);
  fill(channel, 5000, 10'000);
  sender.get();
  channel.close();
  CHECK(receiver.get() == 49'995'000);
}

TEST_CASE("a handle made by one pool is refused by another, before anything is sent") {
  ProcessPoolExecutor mine{entry(), {.start_method = StartMethod::fork, .max_workers = 1}};
  ProcessPoolExecutor other{entry(), {.start_method = StartMethod::spawn, .max_workers = 1}};
  const auto counter = mine.make_counter();
  std::string text;
  try {
    other.submit(count, counter).get();
  } catch (const UsageError& error) {
    text = error.what();
  }
  CHECK_CONTAINS(text, "this Counter belongs to context");
  CHECK_CONTAINS(text, "(fork, of pid");
  CHECK_CONTAINS(text, "(spawn, of pid");
  CHECK_CONTAINS(text, "make it with the executor that is to use it");
  mine.submit(count, counter).get();
  CHECK(counter.load() == 1);
  CHECK(other.stats().workers == 0);
}

TEST_CASE_EACH_START_METHOD(
    "what belonged to calls that were cancelled does not stop up the way to a worker") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto array = pool.make_array<int>(10);
  array.mutable_span()[3] = 7;
  const auto fourth = [](const SharedArray<int>& numbers) { return numbers[3]; };
  const auto begun = pool.make_event(), go = pool.make_event();
  auto running = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  // Handed ahead, with the memory that it names, and taken back: the worker does not come to read that.
  for (int i = 0; i < 3000; ++i) CHECK(pool.submit(fourth, array).cancel());
  go.set();
  CHECK(running.get() == 7);
  auto last = pool.submit(fourth, array);
  REQUIRE(last.wait_for(20s));
  CHECK(last.get() == 7);
}
