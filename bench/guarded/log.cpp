// What bench/guard counts for a record: --count records logged by the main thread, in bursts of 1,000 that
// the collector is waited for, into sinks on /dev/null. The main thread's instructions are the log call's,
// those of all other threads the collector's. --sinks: `counted` (the default) is a file, and a callback that
// counts whole records, which are what the main thread waits for; the others are sinks of lines alone, waited
// for by a flush: `file`, `json`, and `five` files of one pattern.
#include <condition_variable>
#include <mutex>

#include "guarded/stand_in.hpp"
#include "support/pool_options.hpp"

namespace {

constexpr std::size_t burst = 1000;

class Counted {
 public:
  void count() {
    const std::lock_guard lock{mutex_};
    if (++arrived_ % burst == 0) changed_.notify_one();
  }
  void wait_for(std::size_t records) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return arrived_ >= records; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t arrived_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1000);
  const std::string sinks = options.text("sinks", "counted");
  Counted counted;
  kindred::ProcessPoolExecutor pool{
      entry, {.start_method = kindred::StartMethod::fork, .max_workers = 1, .spin = false}};
  if (sinks == "json")
    pool.logger().add_sink(kindred::sinks::json("/dev/null"));
  else
    for (int i = 0; i < (sinks == "five" ? 5 : 1); ++i)
      pool.logger().add_sink(kindred::sinks::file("/dev/null"));
  if (sinks == "counted") pool.logger().add_sink([&](const kindred::LogRecord&) { counted.count(); });
  const std::string text = "customer 4711";
  for (std::size_t done = 0; done < count; done += burst) {
    for (std::size_t index = 0; index < burst; ++index)
      kindred::log_info("{} ordered {} items for {} euro", text, index, 4.25);
    if (sinks == "counted")
      counted.wait_for(done + burst);
    else
      pool.logger().flush();
  }
  bench::leave();
}
