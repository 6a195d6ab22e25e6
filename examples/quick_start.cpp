// The README's first program: tasks, one log, and a crash that costs one future.
//
// expect: area#1] radius 2
// expect: [parent] area 12.56636
// expect: it was killed by SIGABRT
// expect: [parent] area 28.27
#include <cstdlib>
#include <vector>

#include <kindred/kindred.hpp>

double area(double radius) {
  kindred::log_info("radius {}", radius);  // said in a worker, and heard in the pool's one log
  if (radius < 0) std::abort();            // stands for a bug in a library
  return 3.14159 * radius * radius;
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};  // a worker that is started anew comes this far, and no further
  kindred::ProcessPoolExecutor pool{entry, {.start_method = kindred::StartMethod::spawn, .max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stdout_color());

  kindred::Future<double> result = pool.submit(area, 2.0);
  pool.logger().info("area {}", result.get());

  try {
    pool.submit(area, -1.0).get();
  } catch (const kindred::WorkerLost& lost) {
    pool.logger().error("it {}", to_string(lost.exit_reason()));
  }
  for (double each : pool.map(area, std::vector{1.0, 2.0, 3.0})) pool.logger().info("area {:.2f}", each);
}
