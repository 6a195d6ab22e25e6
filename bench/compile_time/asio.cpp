#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#include <vector>

double area(double radius) {
  spdlog::info("radius {}", radius);
  return 3.14159 * radius * radius;
}

int main() {
  boost::asio::thread_pool pool{2};
  std::vector<double> radii{1.0, 2.0, 3.0};
  double sum = 0;
  for (const double radius : radii)
    sum += boost::asio::post(pool, boost::asio::use_future([radius] { return area(radius); })).get();
  spdlog::info("{}", sum);
}
