// Many tasks: every result right, every record once, and memory that is known in advance.
#include <cstdint>
#include <string>
#include <vector>

#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int log_and_double(int value) {
  log_info("task {}", value);
  return 2 * value;
}

std::size_t resident_bytes() {
  const auto text = read_file("/proc/self/statm");
  return std::stoul(text.substr(text.find(' ') + 1)) * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "100,000 tasks that log once each: every result is right, and every record is there once") {
  ResourceAudit audit;
  constexpr int tasks = 100'000;
  std::vector<std::uint8_t> seen(tasks, 0);
  int strange = 0;
  {
    // A collector that is given no CPU for a second would cost records by the usual limit.
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .log = {.block_limit = 1h}}};
    pool.logger().add_sink([&](const LogRecord& record) {
      if (record.origin != Origin::log) return;
      const auto value =
          record.message.starts_with("task ") ? std::stoul(record.message.substr(5)) : SIZE_MAX;
      if (value < seen.size() && record.task_id != 0 && record.worker >= 0)
        ++seen[value];
      else
        ++strange;
    });
    std::vector<Future<int>> futures;
    futures.reserve(tasks);
    for (int i = 0; i < tasks; ++i) futures.push_back(pool.submit(log_and_double, i));
    int wrong = 0;
    for (int i = 0; i < tasks; ++i) wrong += futures[static_cast<std::size_t>(i)].get() == 2 * i ? 0 : 1;
    CHECK(wrong == 0);
    CHECK(pool.logger().flush());
    const auto stats = pool.stats();
    CHECK(stats.done == tasks);
    CHECK(stats.log.committed == tasks);
    CHECK(stats.log.delivered == tasks);
    CHECK(stats.log.dropped + stats.log.torn == 0);
  }
  int missing = 0, twice = 0;
  for (const auto count : seen) {
    missing += count == 0 ? 1 : 0;
    twice += count > 1 ? 1 : 0;
  }
  CHECK(missing == 0);
  CHECK(twice == 0);
  CHECK(strange == 0);
}

TEST_CASE("a million pending tasks take some 200 bytes each with their futures, and run without a stall") {
  ResourceAudit audit;
  constexpr int tasks = 1'000'000;
  ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::forkserver, .max_workers = 1}};
  const auto begun = pool.make_event(), go = pool.make_event();
  auto first = pool.submit(begin_and_wait, begun, go);
  begun.wait();
  std::vector<Future<int>> futures(tasks);
  const auto before = resident_bytes();
  for (int i = 0; i < tasks; ++i) futures[static_cast<std::size_t>(i)] = pool.submit(number, i);
  const auto after = resident_bytes();
  const auto bytes_each = (after - before) / tasks;
  MESSAGE("bytes per pending task: ", bytes_each);
  CHECK(pool.stats().pending == tasks);
  if (slowness() == 1) CHECK(bytes_each < 256);
  go.set();
  int wrong = 0;
  for (int i = 0; i < tasks; ++i) {
    wrong += futures[static_cast<std::size_t>(i)].get() == i ? 0 : 1;
    futures[static_cast<std::size_t>(i)] = {};
  }
  CHECK(wrong == 0);
  CHECK(first.get() == 7);
  CHECK(pool.stats().pending == 0);
  CHECK(pool.stats().restarts == 0);
}
