// A log call in a task, in bursts; --workers of them log at once into one file. The figure is the mean of
// their medians.
//   --count bursts --workers N --door kindred|spdlog     kindred's own call, or spdlog's, which the bridge
//   leads into the same log
#include <spdlog/spdlog.h>

#include "support/log_bursts.hpp"
#include "support/log_file.hpp"
#include "support/pool_options.hpp"

namespace {

std::pair<double, double> log_bursts(std::size_t bursts, bool by_spdlog, const kindred::Barrier& barrier) {
  (void)barrier.arrive_and_wait();
  auto samples =
      by_spdlog ? bench::time_bursts(bursts,
                                     [](const std::string& text, std::int64_t number, double real) {
                                       spdlog::info(BENCH_RECORD_FORMAT, text, number, real);
                                     })
                : bench::time_bursts(bursts, [](const std::string& text, std::int64_t number, double real) {
                    kindred::log_info(BENCH_RECORD_FORMAT, text, number, real);
                  });
  return {samples.percentile(50), samples.percentile(99)};
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto bursts = options.number("count", 500);
  const auto workers = options.number("workers", 1);
  const bool by_spdlog = options.text("door", "kindred") == "spdlog";
  const bench::LogFile file;
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options, workers)};
  pool.logger().add_sink(kindred::sinks::file(file.path()));
  auto barrier = pool.make_barrier(static_cast<std::ptrdiff_t>(workers));
  std::vector<kindred::Future<std::pair<double, double>>> futures;
  for (std::size_t index = 0; index < workers; ++index)
    futures.push_back(pool.submit(log_bursts, bursts, by_spdlog, barrier));
  double p50 = 0;
  double p99 = 0;
  for (auto& future : futures) {
    const auto figures = future.get();
    p50 += figures.first / static_cast<double>(workers);
    p99 += figures.second / static_cast<double>(workers);
  }
  pool.logger().flush();
  const auto expected = workers * (bursts + bursts / 10 + 1) * bench::burst;
  if (const auto lines = file.count(bench::record_word, bench::record_end); lines.whole != expected)
    bench::fail("records were lost");
  bench::report(p50, "ns", {{"p99", p99}});
}
