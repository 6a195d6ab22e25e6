#include <spdlog/spdlog.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <vector>

double area(double radius) {
  spdlog::info("radius {}", radius);
  return 3.14159 * radius * radius;
}

int main() {
  tbb::task_group group;
  std::vector<double> radii{1.0, 2.0, 3.0};
  std::vector<double> areas(radii.size());
  for (std::size_t index = 0; index < radii.size(); ++index)
    group.run([&, index] { areas[index] = area(radii[index]); });
  group.wait();
  spdlog::info("{}", areas[0] + areas[1] + areas[2]);
}
