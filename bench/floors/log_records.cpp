// The machine's limit for records end to end: --workers processes put --count records each into their rings,
// this process takes them out, formats a line with time, level, worker and message, and writes 256 KiB at a
// time.
#include <fcntl.h>
#include <fmt/compile.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <ctime>
#include <iterator>
#include <memory>

#include "floors/lane.hpp"
#include "floors/shared_block.hpp"
#include "kindred/internal/clock.hpp"
#include "support/bench.hpp"
#include "support/log_file.hpp"

namespace {

/// The date and time up to the second is formatted once a second, as any fast logger does.
class Stamp {
 public:
  void append(fmt::memory_buffer& to, std::uint64_t ns) {
    const auto second = ns / 1'000'000'000;
    if (second != second_) {
      second_ = second;
      const auto time = static_cast<std::time_t>(second);
      std::tm parts{};
      localtime_r(&time, &parts);
      std::strftime(text_, sizeof text_, "%Y-%m-%d %H:%M:%S", &parts);
    }
    fmt::format_to(std::back_inserter(to), FMT_COMPILE("[{}.{:06}] "), static_cast<const char*>(text_),
                   ns % 1'000'000'000 / 1000);
  }

 private:
  std::uint64_t second_ = 0;
  char text_[32] = {};
};

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 200'000);
  const auto workers = options.number("workers", 2);
  const bench::LogFile file;
  const int fd = open(file.path().c_str(), O_WRONLY | O_APPEND);
  std::vector<std::unique_ptr<bench::SharedBlock<bench::Lane>>> lanes;
  std::vector<bench::Child> children;
  Stamp stamp;
  fmt::memory_buffer lines;
  const double base = static_cast<double>(std::time(nullptr)) * 1e9;
  const auto base_ticks = kindred::internal::ticks();
  const double begin = bench::now_ns();
  for (std::size_t index = 0; index < workers; ++index) {
    lanes.push_back(std::make_unique<bench::SharedBlock<bench::Lane>>());
    auto& lane = **lanes.back();
    children.emplace_back([&lane, count] {
      const std::string text = "customer 4711";
      for (std::size_t done = 0; done < count; ++done) {
        while (!lane.try_log(kindred::internal::ticks(), 1, text, static_cast<std::int64_t>(done),
                             0.25 * static_cast<double>(done)))
          sched_yield();
      }
    });
  }
  const auto write_out = [&] {
    if (write(fd, lines.data(), lines.size()) != static_cast<ssize_t>(lines.size()))
      bench::fail("write failed");
    lines.clear();
  };
  std::size_t taken = 0;
  while (taken < count * workers) {
    std::size_t now = 0;
    for (std::size_t index = 0; index < workers; ++index) {
      now += (*lanes[index])->drain([&](const bench::Lane::Head& head, std::string_view text) {
        stamp.append(lines,
                     static_cast<std::uint64_t>(base + static_cast<double>(head.ticks - base_ticks) / 2.6));
        fmt::format_to(std::back_inserter(lines), FMT_COMPILE("[info] [w{} #{}] " BENCH_RECORD_FORMAT "\n"),
                       index, head.site, text, head.number, head.real);
        if (lines.size() > (256U << 10U)) write_out();
      });
    }
    taken += now;
    if (now == 0) sched_yield();
  }
  write_out();
  const double took = bench::now_ns() - begin;
  close(fd);
  bench::report_records(file, count * workers, {took});
}
