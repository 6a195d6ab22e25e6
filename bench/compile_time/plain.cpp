#include <cstdio>
#include <functional>
#include <string>
#include <vector>

double area(double radius) {
  std::printf("radius %f\n", radius);
  return 3.14159 * radius * radius;
}

int main() {
  std::vector<double> radii{1.0, 2.0, 3.0};
  const std::function<double(double)> function = area;
  double sum = 0;
  for (const double radius : radii) sum += function(radius);
  std::printf("%s\n", std::to_string(sum).c_str());
}
