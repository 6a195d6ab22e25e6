#include <kindred/kindred.hpp>

#include <cstdio>
#include <vector>

double area(double radius) {
  kindred::log_info("radius {}", radius);
  return 3.14159 * radius * radius;
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stderr_color());
  std::vector<double> radii{1.0, 2.0, 3.0};
  double sum = 0;
  for (const double value : pool.map(area, radii)) sum += value;
  auto one_more = pool.submit(area, 4.0);
  std::printf("%f\n", sum + one_more.get());
}
