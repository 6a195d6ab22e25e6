// Records to a file, end to end: --workers tasks log --count records each, from --threads threads in all;
// until the last one is in the file. Each line has time, level, worker and task, as the default pattern
// writes them.
#include <thread>

#include "support/log_file.hpp"
#include "support/pool_options.hpp"

namespace {

void nothing() {}

void log_all(std::size_t count) {
  const std::string text = "customer 4711";
  for (std::size_t done = 0; done < count; ++done)
    kindred::log_info(BENCH_RECORD_FORMAT, text, done, 0.25 * static_cast<double>(done));
}

void log_from(std::size_t threads, std::size_t count) {
  std::vector<std::jthread> others;
  for (std::size_t index = 1; index < threads; ++index) others.emplace_back(log_all, count);
  log_all(count);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 100'000);
  const auto workers = options.number("workers", 2);
  const auto threads = options.number("threads", workers) / workers;
  const bench::LogFile file;
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options)};
  pool.logger().add_sink(kindred::sinks::file(file.path()));
  std::vector<kindred::Future<void>> futures;
  pool.submit(nothing).get();
  const double begin = bench::now_ns();
  for (std::size_t index = 0; index < workers; ++index)
    futures.push_back(pool.submit(log_from, threads, count));
  for (auto& future : futures) future.get();
  pool.logger().flush();
  bench::report_records(file, count * threads * workers, bench::now_ns() - begin);
}
