// The machine's limit for records end to end: --workers processes put --count records each into their rings,
// this process takes them out, writes a line of each with time, level, worker and message into a buffer, and
// the buffer into the file, 256 KiB at a time. The line is put together by hand, as one who knows this
// message would do it: what a general formatter takes is not the machine's.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <ctime>
#include <memory>

#include "floors/lane.hpp"
#include "floors/shared_block.hpp"
#include "kindred/internal/clock.hpp"
#include "support/bench.hpp"
#include "support/log_file.hpp"

namespace {

/// Lines in a buffer, of which the file gets 256 KiB at a time.
class Lines {
 public:
  explicit Lines(int fd) : fd_{fd} {}

  void text(std::string_view text) noexcept {
    std::memcpy(end_, text.data(), text.size());
    end_ += text.size();
  }
  void number(std::int64_t number) noexcept { end_ = std::to_chars(end_, end_ + 20, number).ptr; }
  /// Two digits at most behind the point, as the messages of the row have them.
  void real(double real) noexcept {
    const auto hundredths = std::llround(real * 100);
    number(hundredths / 100);
    if (const auto rest = hundredths % 100; rest != 0) {
      *end_++ = '.';
      *end_++ = static_cast<char>('0' + rest / 10);
      if (rest % 10 != 0) *end_++ = static_cast<char>('0' + rest % 10);
    }
  }
  /// The date and time up to the second is formatted once a second, as any fast logger does.
  void time(std::uint64_t ns) {
    if (const auto second = ns / 1'000'000'000; second != second_) {
      second_ = second;
      const auto time = static_cast<std::time_t>(second);
      std::tm parts{};
      localtime_r(&time, &parts);
      stamp_size_ = std::strftime(stamp_.data(), stamp_.size(), "[%Y-%m-%d %H:%M:%S.", &parts);
    }
    text({stamp_.data(), stamp_size_});
    auto micros = static_cast<std::uint32_t>(ns % 1'000'000'000 / 1000);
    for (std::size_t digit = 6; digit-- > 0; micros /= 10) end_[digit] = static_cast<char>('0' + micros % 10);
    end_ += 6;
  }
  void end_line() {
    *end_++ = '\n';
    if (end_ - buffer_.data() > static_cast<std::ptrdiff_t>(most)) write_out();
  }
  void write_out() {
    const auto size = end_ - buffer_.data();
    if (write(fd_, buffer_.data(), static_cast<std::size_t>(size)) != size) bench::fail("write failed");
    end_ = buffer_.data();
  }

 private:
  static constexpr std::size_t most = 256U << 10U;
  static constexpr std::size_t longest_line = 512;

  int fd_;
  std::uint64_t second_ = 0;
  std::array<char, 32> stamp_{};
  std::size_t stamp_size_ = 0;
  std::array<char, most + longest_line> buffer_{};
  char* end_ = buffer_.data();
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
  const auto lines = std::make_unique<Lines>(fd);
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
  std::size_t taken = 0;
  while (taken < count * workers) {
    std::size_t now = 0;
    for (std::size_t index = 0; index < workers; ++index) {
      now += (*lanes[index])->drain([&](const bench::Lane::Head& head, std::string_view text) {
        lines->time(static_cast<std::uint64_t>(base + static_cast<double>(head.ticks - base_ticks) / 2.6));
        lines->text("] [info] [w");
        lines->number(static_cast<std::int64_t>(index));
        lines->text(" #1] ");
        lines->text(text);
        lines->text(" ordered ");
        lines->number(head.number);
        lines->text(" items for ");
        lines->real(head.real);
        lines->text(" euro");
        lines->end_line();
      });
    }
    taken += now;
    if (now == 0) sched_yield();
  }
  lines->write_out();
  const double took = bench::now_ns() - begin;
  close(fd);
  bench::report_records(file, count * workers, {took});
}
