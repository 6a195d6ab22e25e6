// How much programs and tasks disturb each other.
//   --row behind    --shorts short tasks submitted behind a long one, two workers: until the last short one
//   is done
//   --row results   round trips through one worker while the other one floods the log (--flood 1) or only
//   works (--flood 0)
//   --row records   the same, from a log call to its sink
//   --count rounds --iterations of a short task --long_iterations
#include <atomic>
#include <mutex>
#include <thread>

#include "support/pool_options.hpp"

namespace {

std::uint64_t run(std::uint64_t iterations) { return bench::work(iterations); }
std::size_t echo(std::size_t number) { return number; }

void disturb(kindred::Worker& worker, bool flood) {
  for (std::uint64_t done = 0; !worker.stop_requested(); ++done) {
    if (flood)
      kindred::log_info("flood {} of {}", done, bench::work(20));
    else
      (void)bench::work(100);
  }
}

void probe(std::size_t number) { kindred::log_info("probe {}", number); }

void behind(kindred::ProcessPoolExecutor& pool, const bench::Options& options) {
  const auto count = options.number("count", 20);
  const auto shorts = options.number("shorts", 100);
  const std::uint64_t short_iterations = options.number("iterations", 6'000);
  const std::uint64_t long_iterations = options.number("long_iterations", 12'000'000);
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count; ++done) {
    std::vector<kindred::Future<std::uint64_t>> futures;
    for (int index = 0; index < 8; ++index) futures.push_back(pool.submit(run, std::uint64_t{100}));
    const double begin = bench::now_ns();
    auto lengthy = pool.submit(run, long_iterations);
    for (std::size_t index = 0; index < shorts; ++index)
      futures.push_back(pool.submit(run, short_iterations));
    for (auto& future : futures) future.wait();
    samples.add(bench::now_ns() - begin);
    lengthy.wait();
  }
  samples.report("ms", 1e-6);
}

void results(kindred::ProcessPoolExecutor& pool, const bench::Options& options) {
  const auto count = options.number("count", 1000);
  pool.logger().add_sink([](const kindred::LogRecord&) {});
  auto disturbance = pool.submit(disturb, options.number("flood", 1) != 0);
  while (!disturbance.running()) std::this_thread::yield();
  bench::Samples samples{count};
  for (std::size_t done = 0; done < count + 10; ++done) {
    const double begin = bench::now_ns();
    if (pool.submit(echo, done).get() != done) bench::fail("a wrong result");
    if (done >= 10) samples.add(bench::now_ns() - begin);
  }
  (void)disturbance.cancel(kindred::Running::ask);
  disturbance.wait();
  samples.report("us", 1e-3);
}

void records(kindred::ProcessPoolExecutor& pool, const bench::Options& options) {
  const auto count = options.number("count", 300);
  std::mutex mutex;
  bench::Samples samples{count};
  std::atomic<std::size_t> arrived{0};
  pool.logger().add_sink([&](const kindred::LogRecord& record) {
    if (!record.message.starts_with("probe")) return;
    const std::chrono::nanoseconds took = std::chrono::system_clock::now() - record.time;
    const std::lock_guard lock{mutex};
    samples.add(static_cast<double>(took.count()));
    arrived.fetch_add(1);
  });
  auto disturbance = pool.submit(disturb, options.number("flood", 1) != 0);
  while (!disturbance.running()) std::this_thread::yield();
  for (std::size_t done = 0; done < count; ++done) {
    pool.submit(probe, done).get();
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  (void)disturbance.cancel(kindred::Running::ask);
  disturbance.wait();
  pool.logger().flush();
  if (arrived != count) bench::fail("records were lost");
  const std::lock_guard lock{mutex};
  samples.report("us", 1e-3);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  const auto row = options.text("row", "behind");
  if (row == "behind")
    behind(pool, options);
  else if (row == "results")
    results(pool, options);
  else if (row == "records")
    records(pool, options);
  else
    bench::fail("--row behind|results|records");
}
