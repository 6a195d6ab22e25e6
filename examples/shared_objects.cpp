// What processes share: a counter, an array that nobody copies, a channel, and a mutex whose owner dies. (A
// semaphore is in seed_story, a barrier in preload, an event in timeouts_and_cancel.) All are made by the
// executor, so on its context, and cross as arguments.
//
// expect: the mutex was abandoned: true
// expect: repaired by worker
// expect: 1000 additions
// expect: sum of 1000000 numbers: 499999500000
// expect: consumed 55
#include <csignal>
#include <mutex>
#include <numeric>
#include <vector>

#include <kindred/kindred.hpp>

void add(const kindred::Counter& counter, int times) {
  for (int i = 0; i < times; ++i) ++counter;
}

long sum(const kindred::SharedArray<long>& numbers, std::size_t from, std::size_t to) {
  const auto part =
      numbers.span().subspan(from, to - from);  // read in place: eight megabytes that no task has copied
  return std::accumulate(part.begin(), part.end(), 0L);
}

void produce(const kindred::Channel<int>& channel, int count) {
  for (int i = 1; i <= count; ++i) channel.send(i);
  channel.close();
}
int consume(const kindred::Channel<int>& channel) {
  int received = 0;
  while (const auto number = channel.receive()) received += *number;  // nothing: closed, and empty
  return received;
}

void die_holding(const kindred::Mutex& mutex) {
  const std::scoped_lock lock{mutex};
  std::raise(SIGKILL);
}
bool repair(const kindred::Mutex& mutex, kindred::SharedArray<int> account) {
  const std::scoped_lock lock{mutex};  // as std::mutex, across processes
  const bool abandoned = mutex.abandoned();
  if (abandoned) {
    account.mutable_span()[0] = 0;  // what it protects may be half changed: make it whole, and say so
    mutex.make_consistent();
    kindred::log_info("repaired by worker {}", kindred::this_worker().index());
  }
  return abandoned;
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stdout_color(), {.level = kindred::Level::info});

  const auto counter = pool.make_counter();
  std::vector<kindred::Future<void>> adding;
  for (int i = 0; i < 10; ++i) adding.push_back(pool.submit(add, counter, 100));
  (void)kindred::wait(adding);
  pool.logger().info("{} additions", counter.load());

  auto numbers = pool.make_array<long>(1'000'000);
  std::iota(numbers.begin(), numbers.end(), 0L);
  auto low = pool.submit(sum, numbers, 0, 500'000), high = pool.submit(sum, numbers, 500'000, 1'000'000);
  pool.logger().info("sum of {} numbers: {}", numbers.size(), low.get() + high.get());

  const auto channel = pool.make_channel<int>(4);
  auto consumed = pool.submit(consume, channel);
  pool.submit(produce, channel, 10).get();
  pool.logger().info("consumed {}", consumed.get());

  const auto mutex = pool.make_mutex();
  const auto account = pool.make_array<int>(1, kindred::ArrayAccess::all_write);
  (void)pool.submit(die_holding, mutex).exception();
  pool.logger().info("the mutex was abandoned: {}", pool.submit(repair, mutex, account).get());
}
