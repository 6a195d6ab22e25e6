// The machine's limit for a log call in a worker process: rdtsc and a copy of the arguments into a ring,
// while the parent takes them out. --workers processes log at once; the figure is the mean of their medians.
#include <unistd.h>

#include <array>
#include <atomic>
#include <memory>

#include "floors/lane.hpp"
#include "floors/shared_block.hpp"
#include "support/log_bursts.hpp"

namespace {

struct Producer {
  bench::Lane lane;
  double p50 = 0;
  double p99 = 0;
  std::atomic<bool> done{false};
};

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto bursts = options.number("count", 500);
  const auto workers = options.number("workers", 1);
  std::vector<std::unique_ptr<bench::SharedBlock<Producer>>> producers;
  std::vector<bench::Child> children;
  for (std::size_t index = 0; index < workers; ++index) {
    producers.push_back(std::make_unique<bench::SharedBlock<Producer>>());
    auto& producer = **producers.back();
    children.emplace_back([&producer, bursts] {
      producer.lane.touch();
      auto samples =
          bench::time_bursts(bursts, [&producer](const std::string& text, std::int64_t number, double real) {
            while (!producer.lane.try_log(kindred::internal::ticks(), 1, text, number, real)) usleep(10);
          });
      producer.p50 = samples.percentile(50);
      producer.p99 = samples.percentile(99);
      producer.done.store(true, std::memory_order_release);
    });
  }
  std::array<char, 256> copy{};
  bool all_done = false;
  while (!all_done) {
    all_done = true;
    for (auto& producer : producers) {
      if (!(*producer)->done.load(std::memory_order_acquire)) all_done = false;
      (*producer)->lane.drain(
          [&](const bench::Lane::Head&, std::string_view text) { text.copy(copy.data(), copy.size()); });
    }
    usleep(200);
  }
  double p50 = 0;
  double p99 = 0;
  for (auto& producer : producers) {
    p50 += (*producer)->p50 / static_cast<double>(workers);
    p99 += (*producer)->p99 / static_cast<double>(workers);
  }
  bench::report(p50, "ns", {{"p99", p99}});
}
