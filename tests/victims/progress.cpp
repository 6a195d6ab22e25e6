// A progress bar and a log on one terminal: progress MODE, where MODE is
//   hand    a bar by hand, with a line of the log in its middle
//   map     a map whose workers log a line an item; one item throws
//   two     two bars at once
//   crash   a task that ends its worker while a bar is shown, in a program without a sink
//   console the same with the console sink as it is
#include <csignal>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <kindred/kindred.hpp>

int crash_in_a_library(int number) {
  kindred::log_warn(
      "number {} is looked at by a library whose ways are not known, and may be too large for it", number);
  std::raise(SIGSEGV);
  return number;
}

namespace {

int log_item(int item) {
  kindred::log_info("item {}", item);
  if (item == 3) throw std::runtime_error{"three"};
  return item;
}

void by_hand(kindred::ProcessPoolExecutor& pool) {
  kindred::ProgressBar bar{std::cerr, 4, "words"};
  bar.update(1);
  pool.logger().info("a line in the middle");
  (void)pool.logger().flush();
  bar.update(2, 1);
  bar.update(4, 1);
}

void in_a_map(kindred::ProcessPoolExecutor& pool) {
  std::vector<int> items(20);
  std::iota(items.begin(), items.end(), 0);
  kindred::ProgressBar bar{std::cerr, items.size(), "items"};
  for (const auto& outcome : pool.map_outcomes(log_item, items, {.chunk_size = 1, .progress = bar})) {
    (void)outcome;
    (void)pool.logger().flush();
  }
}

void two_bars(kindred::ProcessPoolExecutor& pool) {
  kindred::ProgressBar outer{std::cerr, 2, "folders"};
  outer.update(1);
  {
    kindred::ProgressBar inner{std::cerr, 2, "files"};
    inner.update(1);
    pool.logger().info("a line below both");
    (void)pool.logger().flush();
    inner.update(2);
  }
  outer.update(2);
}

void crash(kindred::ProcessPoolExecutor& pool) {
  kindred::ProgressBar bar{std::cerr, 2, "numbers"};
  bar.update(1);
  pool.submit(crash_in_a_library, 7).wait();
  (void)pool.logger().flush();
  bar.update(2, 1);
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "console") pool.logger().add_sink(kindred::sinks::stderr_color());
  if (mode == "crash" || mode == "console") return crash(pool), 0;
  pool.logger().add_sink(kindred::sinks::stderr_color(),
                         {.level = kindred::Level::info, .pattern = "%v", .color = kindred::Color::never});
  if (mode == "hand") by_hand(pool);
  if (mode == "map") in_a_map(pool);
  if (mode == "two") two_bars(pool);
}
