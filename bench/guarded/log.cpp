// What bench/guard counts for a record: --count records logged by the main thread, in bursts of 1,000 that
// the collector is waited for, into a file sink on /dev/null. The main thread's instructions are the log
// call's, those of all other threads the collector's.
#include <condition_variable>
#include <mutex>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1000);
  constexpr std::size_t burst = 1000;
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t arrived = 0;
  kindred::ProcessPoolExecutor pool{
      entry, {.start_method = kindred::StartMethod::fork, .max_workers = 1, .spin = false}};
  pool.logger().add_sink(kindred::sinks::file("/dev/null"));
  pool.logger().add_sink([&](const kindred::LogRecord&) {
    const std::lock_guard lock{mutex};
    if (++arrived % burst == 0) changed.notify_one();
  });
  const std::string text = "customer 4711";
  for (std::size_t done = 0; done < count; done += burst) {
    for (std::size_t index = 0; index < burst; ++index)
      kindred::log_info("{} ordered {} items for {} euro", text, index, 4.25);
    std::unique_lock lock{mutex};
    changed.wait(lock, [&] { return arrived >= done + burst; });
  }
  bench::leave();
}
