#include <cstdio>
#include <future>
#include <vector>

double area(double radius) {
  std::printf("radius %f\n", radius);
  return 3.14159 * radius * radius;
}

int main() {
  std::vector<double> radii{1.0, 2.0, 3.0};
  std::vector<std::future<double>> areas;
  for (const double radius : radii) areas.push_back(std::async(std::launch::async, area, radius));
  double sum = 0;
  for (auto& value : areas) sum += value.get();
  std::printf("%f\n", sum);
}
