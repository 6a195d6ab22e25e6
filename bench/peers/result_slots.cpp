// Thread pools at their fastest: a slot for each result instead of a future. Compiled once for each library,
// in the rows `tasks` and `round_trip`.
//   oneTBB       `task_group::run` and `wait`; the calling thread is one of the workers
//   moodycamel   a BlockingConcurrentQueue of calls, a token for each thread, calls taken 16 at once; the
//                caller waits for each slot
#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "support/bench.hpp"
#include "support/processor_time.hpp"

#if defined(BENCH_SLOTS_TBB)
#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>
#else
#include <concurrentqueue/blockingconcurrentqueue.h>
#endif

namespace {

#if defined(BENCH_SLOTS_TBB)
/// A slot is a number: that it is written is known only when the whole group is done.
class Pool {
 public:
  explicit Pool(std::size_t workers)
      : allowed_{tbb::global_control::max_allowed_parallelism, workers},
        arena_{static_cast<int>(workers), 1} {}

  /// Does the work of `iterations` for each slot, and returns when all slots are written.
  void run(std::vector<std::uint64_t>& slots, std::uint64_t iterations) {
    arena_.execute([&] {
      tbb::task_group group;
      for (auto& slot : slots) group.run([&slot, iterations] { slot = bench::work(iterations); });
      group.wait();
    });
  }

 private:
  tbb::global_control allowed_;
  tbb::task_arena arena_;
};
#else
struct Slot {
  std::uint64_t value = 0;
  std::atomic<bool> done{false};
};

class Pool {
 public:
  explicit Pool(std::size_t workers) {
    for (std::size_t index = 0; index < workers; ++index) threads_.emplace_back([this] { serve(); });
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (std::size_t index = 0; index < threads_.size(); ++index) calls_.enqueue({0, nullptr});
    for (auto& thread : threads_) thread.join();
  }

  void run(std::vector<std::uint64_t>& results, std::uint64_t iterations) {
    Slot* const slots = new_slots(results.size());
    const moodycamel::ProducerToken token{calls_};
    for (std::size_t index = 0; index < results.size(); ++index)
      calls_.enqueue(token, {iterations, &slots[index]});
    for (std::size_t index = 0; index < results.size(); ++index) {
      slots[index].done.wait(false, std::memory_order_acquire);
      results[index] = slots[index].value;
    }
  }

 private:
  struct Call {
    std::uint64_t iterations = 0;
    Slot* slot = nullptr;  // none: the thread ends
  };

  /// They live as long as the pool: a thread may notify of a slot after the caller has seen it written.
  Slot* new_slots(std::size_t count) {
    const std::lock_guard lock{mutex_};
    return slots_.emplace_back(std::make_unique<Slot[]>(count)).get();
  }

  void serve() {
    moodycamel::ConsumerToken token{calls_};
    std::array<Call, 16> taken;
    while (true) {
      const std::size_t count = calls_.wait_dequeue_bulk(token, taken.begin(), taken.size());
      std::size_t ends = 0;
      for (std::size_t index = 0; index < count; ++index) {
        Slot* const slot = taken[index].slot;
        if (slot == nullptr) {
          ++ends;
          continue;
        }
        slot->value = bench::work(taken[index].iterations);
        slot->done.store(true, std::memory_order_release);
        slot->done.notify_one();
      }
      if (ends == 0) continue;
      for (; ends > 1; --ends) calls_.enqueue({0, nullptr});  // those of the other threads
      return;
    }
  }

  moodycamel::BlockingConcurrentQueue<Call> calls_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Slot[]>> slots_;
  std::vector<std::thread> threads_;
};
#endif

/// A pool's whole life; returns how long `count` tasks took.
double run_tasks(const bench::Options& options, std::size_t count) {
  const auto submitters = options.number("submitters", 1);
  const std::uint64_t iterations = options.number("iterations", 0);
  const auto expected = bench::work(iterations);
  Pool pool{options.number("workers", 2)};
  const auto run = [&](std::size_t all) {
    std::vector<std::uint64_t> results(all);
    pool.run(results, iterations);
    for (const auto result : results) {
      if (result != expected) bench::fail("a wrong result");
    }
  };
  bench::in_threads(submitters, bench::warm_up_of(count), run);
  const double begin = bench::now_ns();
  bench::in_threads(submitters, count, run);
  return bench::now_ns() - begin;
}

void round_trips(const bench::Options& options) {
  const auto count = options.number("count", 2000);
  Pool pool{options.number("workers", 2)};
  const auto expected = bench::work(0);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + bench::warm_up_of(count); ++done) {
    std::vector<std::uint64_t> results(1);
    const double begin = bench::now_ns();
    pool.run(results, 0);
    if (done >= bench::warm_up_of(count)) samples.add(bench::now_ns() - begin);
    if (results[0] != expected) bench::fail("a wrong result");
  }
  samples.report("us", 1e-3);
}

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto row = options.text("row", "tasks");
  if (row == "round_trip") {
    round_trips(options);
  } else if (row == "tasks") {
    const auto count = options.number("count", 100'000);
    const double processor = bench::processor_ns();
    const double took = run_tasks(options, count);
    bench::report_tasks(count, took, bench::processor_ns() - processor);
  } else {
    bench::fail("no row " + row);
  }
}
