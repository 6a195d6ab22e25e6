// A task may have a pool of its own: a worker is a process like any other. What the inner workers say is
// handed up, record by record, into the outer log. How deep pools may nest is limited, so that a slip does
// not fill the machine with processes.
//
// expect: said: 2 squared
// expect: said: 10 squared
// expect: 1 + 4 + 9 + ... + 100 = 385
// expect: refused: task
// expect: a pool in a worker of a pool: this one would be at depth 3
#include <numeric>
#include <vector>

#include <kindred/kindred.hpp>

int square(int number) {
  kindred::log_info("{} squared", number);
  return number * number;
}

int sum_of_squares(kindred::Worker& worker, int from, int to) {
  kindred::ProcessPoolExecutor pool{worker.entry(), {.max_workers = 2}};  // a worker has passed the gate
  pool.logger().add_sink([](const kindred::LogRecord& record) {
    if (record.origin == kindred::Origin::log)
      kindred::log(record.level, "inner worker {} said: {}", record.worker, record.message);
  });
  std::vector<int> numbers(static_cast<std::size_t>(to - from));
  std::iota(numbers.begin(), numbers.end(), from);
  int sum = 0;
  for (const int each : pool.map(square, numbers, {.chunk_size = 1})) sum += each;
  return sum;
}

int too_deep(kindred::Worker& worker) {
  kindred::ProcessPoolExecutor pool{worker.entry(), {.max_workers = 1}};
  return pool
      .submit([] {
        return kindred::ProcessPoolExecutor{kindred::this_worker().entry(), {.max_depth = 2}}
            .submit(square, 1)
            .get();
      })
      .get();
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stdout_color());

  auto low = pool.submit(sum_of_squares, 1, 6), high = pool.submit(sum_of_squares, 6, 11);
  pool.logger().info("1 + 4 + 9 + ... + 100 = {}", low.get() + high.get());
  try {
    pool.submit(too_deep).get();
  } catch (const kindred::TaskError& error) {
    pool.logger().warn("refused: {}", error.original_what());
  }
}
