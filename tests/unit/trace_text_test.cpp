#include "watch/trace_text.hpp"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;
namespace json = boost::json;

namespace {

constexpr std::uint64_t begin = 1'000'000;

TraceText text_of_a_pool() {
  return TraceText{{.pid = 77,
                    .program = "/a/\"program\"",
                    .begin_ticks = begin,
                    .ticks_a_nanosecond = 2,
                    .name_of_code = [](CodeReference code) {
                      return code == 0 ? std::string{} : "code " + std::to_string(code);
                    }}};
}
json::array events_of(TraceText& text, std::uint64_t lost = 0) {
  text.put_end(begin + 2'000'000, lost);
  return json::parse(std::string{text.text().view()}).as_array();
}
std::vector<json::object> named(const json::array& events, std::string_view name) {
  std::vector<json::object> found;
  for (const auto& event : events)
    if (event.at("name").as_string() == name) found.push_back(event.as_object());
  return found;
}

}  // namespace

TEST_CASE("a number is the same whatever number was written before it") {
  std::vector<std::uint64_t> numbers{std::numeric_limits<std::uint64_t>::max()};
  for (std::uint64_t power = 1; power <= 1'000'000'000'000'000'000; power *= 10)
    for (const std::uint64_t near : {power - 1, power, power + 1, power + power / 2}) numbers.push_back(near);
  LeadingDigits digits;
  for (const auto before : numbers)
    for (const auto number : numbers) {
      char text[LeadingDigits::room];
      digits.write(text, before);
      REQUIRE(std::string{text, digits.write(text, number)} == std::to_string(number));
    }
}

TEST_CASE("runs that follow each other have their own times, numbers and names") {
  auto text = text_of_a_pool();
  const TaskNameEntry names[]{{.given = "even"}, {.given = "odd"}};
  // A step of 3,333.5 us: each of the digits that are kept changes now and then.
  for (std::uint64_t i = 0; i < 100; ++i)
    text.put({.worker = static_cast<std::int32_t>(i % 3),
              .name = &names[i % 2],
              .task_id = 9'990 + i,
              .submitted = begin + i * 1'000,
              .begun = begin + i * 6'667'000,
              .ended = begin + i * 6'667'000 + 2 * i});
  std::uint64_t i = 0;
  for (const auto& event : events_of(text)) {
    if (!event.as_object().contains("flow_in")) continue;
    CHECK(std::string_view{event.at("name").as_string()} == names[i % 2].given);
    CHECK(event.at("tid").to_number<std::uint64_t>() == i % 3 + 1);
    CHECK(event.at("ts").to_number<double>() == doctest::Approx(static_cast<double>(i) * 3333.5));
    CHECK(event.at("dur").to_number<double>() == doctest::Approx(static_cast<double>(i) / 1e3));
    CHECK(event.at("args").at("task").to_number<std::uint64_t>() == 9'990 + i);
    CHECK(event.at("args").at("queued_us").to_number<double>() ==
          doctest::Approx(static_cast<double>(i) * 3333.0));
    ++i;
  }
  CHECK(i == 100);
}

TEST_CASE("a run is its submission on the pool's track, a slice on the worker's, and an arrow between them") {
  auto text = text_of_a_pool();
  const TaskNameEntry name{.given = "sum \"it\"\n"};
  text.put({.worker = 3,
            .name = &name,
            .task_id = 12,
            .submitted = begin + 200,
            .begun = begin + 3000,
            .ended = begin + 9001});
  const auto events = events_of(text);
  const auto both = named(events, "sum \"it\"\n");
  REQUIRE(both.size() == 2);
  CHECK(both[0].at("tid") == 0);
  CHECK(both[0].at("ts") == 0.1);
  CHECK(both[0].at("flow_out") == true);
  CHECK(both[1].at("tid") == 4);
  CHECK(both[1].at("ts") == 1.5);
  CHECK(both[1].at("dur") == 3.0);
  CHECK(both[1].at("flow_in") == true);
  CHECK(both[1].at("bind_id") == both[0].at("bind_id"));
  CHECK(both[1].at("args") == json::value{{"task", 12}, {"queued_us", 1.4}});
  const auto tracks = named(events, "thread_name");
  REQUIRE(tracks.size() == 2);
  CHECK(tracks[1].at("args") == json::value{{"name", "worker 3"}});
}

TEST_CASE("each attempt has an arrow of its own, and no two tasks share one") {
  auto text = text_of_a_pool();
  const TaskNameEntry name{.given = {}, .code = 5};
  for (const std::uint64_t task : std::initializer_list<std::uint64_t>{1, 10, 100000, 1000000})
    for (const std::uint16_t attempt : std::initializer_list<std::uint16_t>{0, 1, 10, 65535})
      text.put({.attempt = attempt,
                .worker = 0,
                .name = &name,
                .task_id = task,
                .submitted = begin,
                .begun = begin});
  std::vector<std::string> ids;
  for (const auto& event : named(events_of(text), "code 5"))
    if (event.contains("flow_in")) ids.emplace_back(event.at("bind_id").as_string());
  REQUIRE(ids.size() == 16);
  std::sort(ids.begin(), ids.end());
  CHECK(std::adjacent_find(ids.begin(), ids.end()) == ids.end());
  for (const auto& id : ids) CHECK(id.size() <= 16);  // 64 bits in hexadecimal
}

TEST_CASE("a second attempt says so, and so does a run that ended without a value") {
  auto text = text_of_a_pool();
  const TaskNameEntry name{.given = "again"};
  text.put({.outcome = TraceEvent::Outcome::failure, .attempt = 1, .worker = 0, .name = &name, .task_id = 1});
  text.put({.attempt = 2, .worker = 0, .name = &name, .task_id = 1});
  std::vector<json::value> args;
  for (const auto& event : named(events_of(text), "again"))
    if (event.at("cat") == "task") args.push_back(event.at("args"));
  REQUIRE(args.size() == 2);
  CHECK(args[0].at("outcome") == "failure");
  CHECK_FALSE(args[0].as_object().contains("attempt"));
  CHECK(args[1].at("attempt") == 2);
  CHECK_FALSE(args[1].as_object().contains("outcome"));
}

TEST_CASE(
    "of many short runs a bounded number has arrows; long ones and failed ones have theirs all the same") {
  auto text = text_of_a_pool();
  const TaskNameEntry name{.given = "short"}, long_name{.given = "long"}, failed_name{.given = "failed"};
  const auto put = [&](const TaskNameEntry& of, std::uint64_t ticks, TraceEvent::Outcome outcome) {
    text.put({.outcome = outcome,
              .attempt = 1,
              .worker = 0,
              .name = &of,
              .task_id = 1,
              .submitted = begin,
              .begun = begin,
              .ended = begin + ticks});
  };
  for (std::uint64_t i = 0; i < TraceText::max_arrows + 5; ++i)
    put(name, 1'999'999, TraceEvent::Outcome::value);
  put(long_name, 2'000'000, TraceEvent::Outcome::value);
  put(failed_name, 1, TraceEvent::Outcome::failure);
  text.allow_arrows(2);
  for (int i = 0; i < 3; ++i) put(name, 1, TraceEvent::Outcome::value);
  const auto events = events_of(text);
  const auto arrows_to = [&](std::string_view which) {
    return std::ranges::count_if(named(events, which),
                                 [](const auto& event) { return event.contains("flow_in"); });
  };
  CHECK(arrows_to("short") == TraceText::max_arrows + 2);
  CHECK(named(events, "short").size() == 2 * (TraceText::max_arrows + 2) + 6);
  CHECK(arrows_to("long") == 1);
  CHECK(arrows_to("failed") == 1);
  CHECK(named(events, "end of the trace").at(0).at("args").at("runs_without_arrow") == 6);
}

TEST_CASE("whatever times and numbers a worker tells, the line is whole") {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  const TaskNameEntry name{.given = std::string(5000, '\x01')};
  const TaskNameEntry nameless{};
  for (const std::uint64_t begun : {std::uint64_t{0}, begin - 1, most / 2, most})
    for (const std::uint64_t ended : {std::uint64_t{0}, begin - 1, most / 2, most}) {
      auto text = text_of_a_pool();
      for (const auto* of : {&name, &nameless})
        text.put({.outcome = TraceEvent::Outcome::failure,
                  .attempt = 65535,
                  .worker = 4095,
                  .name = of,
                  .task_id = most,
                  .submitted = most / 2,
                  .begun = begun,
                  .ended = ended});
      const auto runs = named(events_of(text), "(unnamed)");
      REQUIRE(runs.size() == 2);
      for (const auto& run : runs) CHECK(run.at("ts").as_double() >= 0);
      CHECK(runs[1].at("dur").as_double() >= 0);
    }
}

TEST_CASE("a task that a callback submitted has an arrow from the run before it, where that is still known") {
  auto text = text_of_a_pool();
  const TaskNameEntry name{.given = "first"};
  text.put(
      {.worker = 1, .name = &name, .task_id = 8, .submitted = begin, .begun = begin, .ended = begin + 400});
  text.put({.kind = TraceEvent::Kind::caused, .task_id = 9, .submitted = 8, .begun = begin + 600});
  text.put({.kind = TraceEvent::Kind::caused, .task_id = 10, .submitted = 7, .begun = begin + 600});
  const auto arrow = named(events_of(text), "after");
  REQUIRE(arrow.size() == 2);
  CHECK(arrow[0].at("ph") == "s");
  CHECK(arrow[0].at("tid") == 2);
  CHECK(arrow[0].at("ts") == 0.2);
  CHECK(arrow[1].at("ph") == "f");
  CHECK(arrow[1].at("tid") == 0);
  CHECK(arrow[1].at("id") == arrow[0].at("id"));
}

TEST_CASE(
    "a record is a mark on its worker's track, cut between characters, and the end counts what was lost") {
  auto text = text_of_a_pool();
  LogRecord record;
  record.worker = 0;
  record.task_id = 3;
  record.logger = "main";
  std::string message(399, 'x');
  message += "\xc3\xa4 and more";
  record.message = message;
  text.put(record);
  const auto events = events_of(text, 17);
  CHECK(named(events, std::string(399, 'x')).size() == 1);
  CHECK(named(events, "end of the trace").at(0).at("args") ==
        json::value{{"lost_events", 17}, {"runs_without_arrow", 0}});
}
