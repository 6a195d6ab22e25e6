// The log as a range, and what narrows it.
#include <ranges>
#include <vector>

#include "kindred/internal/sink.hpp"
#include "kindred/log_range.hpp"
#include "kindred/read_log.hpp"
#include "kindred/sinks.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

namespace test = kindred::test;
using namespace kindred;

namespace {

std::vector<LogRecord> some_records() {
  std::vector<LogRecord> records;
  for (int i = 0; i < 12; ++i) {
    auto record = test::sample_record();
    record.time = decltype(record.time){std::chrono::seconds{i}};
    record.level = static_cast<Level>(i % 6);
    record.worker = i % 3 - 1;
    record.task_id = static_cast<std::uint64_t>(i % 4);
    record.message = std::to_string(i);
    records.push_back(record);
  }
  return records;
}

template <class Range>
std::string told(Range&& range) {
  std::string text;
  for (const auto& record : range) text += record.message + " ";
  return text;
}

}  // namespace

static_assert(std::ranges::input_range<LogFile>);
static_assert(
    std::ranges::input_range<decltype(std::declval<std::vector<LogRecord>&>() | at_least(Level::warn))>);
static_assert(LogRange<LogFile> && LogRange<const std::vector<LogRecord>&> && !LogRange<std::vector<int>&>);

TEST_CASE("a range of records is narrowed by level, task, worker, time, text, and all of them") {
  auto records = some_records();
  const auto& constant = records;
  CHECK(told(records | at_least(Level::error)) == "4 5 10 11 ");
  CHECK(told(constant | of_task(3)) == "3 7 11 ");
  CHECK(told(records | of_worker(-1)) == "0 3 6 9 ");
  CHECK(told(records | since(std::chrono::system_clock::time_point{std::chrono::seconds{9}})) == "9 10 11 ");
  CHECK(told(records | until(std::chrono::system_clock::time_point{std::chrono::seconds{2}})) == "0 1 ");
  CHECK(told(records | containing("1") | at_least(Level::warn)) == "10 11 ");
  CHECK(told(records | of_task(3) | of_worker(0) | at_least(Level::debug)) == "7 ");
  CHECK(told(some_records() | of_task(1)) == "1 5 9 ");
  CHECK(told(records | at_least(Level::off)).empty());
  const auto both = at_least(Level::warn) | of_worker(0);
  CHECK(told(records | both) == "4 10 ");
  CHECK(told(records | matching([](const LogRecord& record) { return record.message == "8"; })) == "8 ");
}

TEST_CASE("what is narrowed can be changed in place, and goes on in std::views") {
  auto records = some_records();
  for (auto& record : records | of_task(2)) record.message = "x";
  CHECK(told(records) == "0 1 x 3 4 5 x 7 8 9 x 11 ");
  std::string text;
  for (const auto& message :
       records | at_least(Level::error) | std::views::transform([](const LogRecord& record) {
         return record.message;
       }) | std::views::take(2))
    text += message;
  CHECK(text == "45");
}

TEST_CASE("a file is narrowed while it is read") {
  const test::TemporaryFolder folder;
  for (const bool json : {false, true}) {
    const auto path = folder / "log";
    {
      const auto sink = (json ? sinks::json(path, {.truncate = true}) : sinks::file(path)).make({});
      for (const auto& record : some_records()) sink->write(record);
    }
    CHECK(told(read_log(path) | of_worker(1) | at_least(Level::warn)) == "5 11 ");
    auto file = read_log(path);
    auto narrowed = file | at_least(Level::warn);
    CHECK(narrowed.begin()->message == "3");
  }
}
