// A progress bar and a log on one terminal: progress MODE, where MODE is
//   hand    a bar by hand, with a line of the log in its middle
//   map     a map whose workers log a line an item; one item throws
//   two     two bars at once
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include <kindred/kindred.hpp>

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

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stderr_color(),
                         {.level = kindred::Level::info, .pattern = "%v", .color = kindred::Color::never});
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "hand") by_hand(pool);
  if (mode == "map") in_a_map(pool);
  if (mode == "two") two_bars(pool);
}
