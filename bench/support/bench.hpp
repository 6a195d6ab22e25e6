#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

/// What every measured program shares: options as `--name value`, the clock, percentiles, and the one JSON
/// line that it prints.
namespace bench {

/// The command line, `--name value` pairs only. A name that is asked for and absent has the default that the
/// program gives.
class Options {
 public:
  Options(int argc, char** argv) : words_(argv + 1, argv + argc) {}

  [[nodiscard]] std::string text(std::string_view name, std::string_view otherwise) const {
    for (std::size_t at = 0; at + 1 < words_.size(); ++at) {
      if (words_[at].starts_with("--") && words_[at].substr(2) == name) return std::string{words_[at + 1]};
    }
    return std::string{otherwise};
  }
  [[nodiscard]] std::size_t number(std::string_view name, std::size_t otherwise) const {
    const auto word = text(name, "");
    return word.empty() ? otherwise : static_cast<std::size_t>(std::strtod(word.c_str(), nullptr));
  }

 private:
  std::vector<std::string_view> words_;
};

[[nodiscard]] inline double now_ns() noexcept {
  return static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                 std::chrono::steady_clock::now().time_since_epoch())
                                 .count());
}

/// A named figure beside the main one: {"p99", 12.5}.
using Extra = std::pair<std::string_view, double>;

/// Prints the program's result. A program prints exactly one.
inline void report(double value, std::string_view unit, const std::vector<Extra>& extras = {}) {
  std::printf("{\"value\": %.6g, \"unit\": \"%.*s\"", value, static_cast<int>(unit.size()), unit.data());
  for (const auto& [name, figure] : extras) {
    std::printf(", \"%.*s\": %.6g", static_cast<int>(name.size()), name.data(), figure);
  }
  std::puts("}");
  std::fflush(stdout);
}

/// How many tasks the rows of tasks run before their clock starts.
[[nodiscard]] inline std::size_t warm_up_of(std::size_t count) noexcept { return count / 10 + 1; }

/// Prints how many of `count` tasks were done a second, and the processor time of one: that of the pool's
/// whole life by all tasks, those of the warm-up, too.
inline void report_tasks(std::size_t count, double took_ns, double processor_ns) {
  report(static_cast<double>(count) / took_ns * 1e9, "tasks/s",
         {{"cpu_us", processor_ns * 1e-3 / static_cast<double>(count + warm_up_of(count))}});
}

/// Ends the program because it would measure something wrong.
[[noreturn]] inline void fail(std::string_view why) {
  std::fprintf(stderr, "%.*s\n", static_cast<int>(why.size()), why.data());
  std::exit(1);
}

/// Durations, to be read as percentiles.
class Samples {
 public:
  /// `step`: of the clock that the samples were taken with, where it is not small against them.
  explicit Samples(std::size_t expected, double step = 0) : step_{step} { values_.reserve(expected); }
  void add(double value) { values_.push_back(value); }
  [[nodiscard]] double percentile(double percent) {
    if (values_.empty()) fail("no samples");
    const auto rank =
        static_cast<std::size_t>(percent / 100.0 * static_cast<double>(values_.size() - 1) + 0.5);
    std::nth_element(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(rank), values_.end());
    const double value = values_[rank];
    if (step_ == 0) return value;
    // Samples within one step of the clock are one value to it. The percentile of such a group lies as deep
    // in the step as the rank lies in the group (as in Python's statistics.median_grouped), or it would jump
    // by a step where a hundredth of the samples moves.
    double below = 0;
    double within = 0;
    for (const double sample : values_) {
      if (sample < value - step_ / 2)
        ++below;
      else if (sample < value + step_ / 2)
        ++within;
    }
    return value - step_ / 2 +
           step_ * (percent / 100.0 * static_cast<double>(values_.size()) - below) / within;
  }
  [[nodiscard]] double mean() const {
    return std::accumulate(values_.begin(), values_.end(), 0.0) / static_cast<double>(values_.size());
  }
  void report(std::string_view unit, double scale = 1.0) {
    bench::report(percentile(50) * scale, unit,
                  {{"p99", percentile(99) * scale},
                   {"p99.9", percentile(99.9) * scale},
                   {"mean", mean() * scale},
                   {"samples", static_cast<double>(values_.size())}});
  }

 private:
  std::vector<double> values_;
  double step_;
};

/// Work that takes as many cycles wherever it runs: a chain of dependent shifts. A task that spun until a
/// time had passed would count the time in which it was preempted as work done, and make an oversubscribed
/// pool look better than the machine.
[[nodiscard]] inline std::uint64_t work(std::uint64_t iterations) noexcept {
  std::uint64_t state = 88172645463325252ULL + iterations;
  for (std::uint64_t done = 0; done < iterations; ++done) {
    state ^= state << 13U;
    state ^= state >> 7U;
    state ^= state << 17U;
  }
  return state;
}

/// Calls `run(count of each)` in several threads at once, this one among them.
template <class Run>
void in_threads(std::size_t threads, std::size_t count, Run&& run) {
  std::vector<std::thread> others;
  for (std::size_t index = 1; index < threads; ++index) others.emplace_back([&] { run(count / threads); });
  run(count - (threads - 1) * (count / threads));
  for (auto& other : others) other.join();
}

/// The silence between two round trips "after 1 to 3 ms": a different one each time, so that no timer falls
/// in step with it.
[[nodiscard]] inline std::chrono::microseconds silence(std::size_t round) noexcept {
  return std::chrono::microseconds{1000 + (round * 7919U) % 2000U};
}

/// Prints that the program is set up, with the pids of its workers and how many of something it has made, and
/// waits until the driver has looked at it and says so with a line on standard input.
inline void hold(const std::vector<long>& workers, std::size_t count = 0) {
  std::printf("{\"ready\": [");
  for (std::size_t at = 0; at < workers.size(); ++at) std::printf("%s%ld", at == 0 ? "" : ", ", workers[at]);
  std::printf("], \"count\": %zu}\n", count);
  std::fflush(stdout);
  while (true) {
    const int letter = std::getchar();
    if (letter == '\n' || letter == EOF) return;
  }
}

}  // namespace bench
