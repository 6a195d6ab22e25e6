// Levels: the seven, the program's own, and what environment variables say.

#include "kindred/error.hpp"
#include "kindred/level.hpp"
#include "kindred/log_options.hpp"
#include "kindred/log_record.hpp"
#include "record/level_table.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;

TEST_CASE("a level is read as it is written, in any case, and by spdlog's other names") {
  for (const auto level :
       {Level::trace, Level::debug, Level::info, Level::warn, Level::error, Level::critical, Level::off}) {
    CHECK(parse_level(to_string(level)) == level);
  }
  CHECK(parse_level("WARNING") == Level::warn);
  CHECK(parse_level("Err") == Level::error);
  CHECK_THROWS_CONTAINS(parse_level("verbose"), UsageError,
                        "'verbose' is no level. The levels are trace, debug");
}

TEST_CASE("a custom level counts as the highest standard level that is not above it") {
  const auto audit = define_level("test-audit", 35, "bold magenta");
  CHECK(audit.base() == Level::warn);
  CHECK(audit.number() == 35);
  CHECK(audit.color() == "bold magenta");
  CHECK(LevelCode{audit}.base() == Level::warn);
  CHECK(define_level("test-success", 25).base() == Level::info);
  CHECK(define_level("test-lowest", 0).base() == Level::trace);
  CHECK(define_level("test-highest", 59).base() == Level::critical);
  CHECK(find_level("test-audit") == audit);
  CHECK(!find_level("test-unknown"));
}

TEST_CASE("a level is defined twice only in the same words") {
  const auto first = define_level("test-twice", 22, "green");
  CHECK(define_level("test-twice", 22, "green") == first);
  CHECK_THROWS_CONTAINS(define_level("test-twice", 23, "green"), UsageError, "was defined with number 22");
  CHECK_THROWS_CONTAINS(define_level("", 22), UsageError, "needs a name");
  CHECK_THROWS_CONTAINS(define_level("Warn", 22), UsageError, "exists already");
  CHECK_THROWS_CONTAINS(define_level("test-far", 60), UsageError, "from 0 to 59");
}

TEST_CASE("levels by logger name: the longest name that fits counts") {
  const auto settings = parse_level_settings("V", "warn, net=debug ,net.http=off,=error");
  CHECK(settings.level == Level::error);
  CHECK(settings.level_of("db") == Level::error);
  CHECK(settings.level_of("network") == Level::error);
  CHECK(settings.level_of("net") == Level::debug);
  CHECK(settings.level_of("net.tcp") == Level::debug);
  CHECK(settings.level_of("net.http") == Level::off);
  CHECK(settings.level_of("net.http.server") == Level::off);
  CHECK_THROWS_CONTAINS(parse_level_settings("KINDRED_LOG_LEVEL", "info,net=loud"), UsageError,
                        "KINDRED_LOG_LEVEL holds 'net=loud'");
}

TEST_CASE("an option of the log that is out of range is named with its value and its range") {
  const auto refused = [](auto&& change, const char* text) {
    LogOptions options;
    change(options);
    CHECK_THROWS_CONTAINS(options.validate(), UsageError, text);
  };
  CHECK_NOTHROW(LogOptions{}.validate());
  refused([](LogOptions& o) { o.lane_bytes = 100'000; },
          "LogOptions::lane_bytes is 100000; it must be a power of two");
  refused([](LogOptions& o) { o.thread_lane_bytes = 8192; }, "thread_lane_bytes is 8192");
  refused([](LogOptions& o) { o.thread_lanes = 0; }, "thread_lanes is 0; it must be from 1 to 48");
  refused([](LogOptions& o) { o.thread_lanes = 49; }, "thread_lanes is 49");
  refused([](LogOptions& o) { o.keep_bytes = 1; }, "keep_bytes is 1");
  refused([](LogOptions& o) { o.site_bytes = 5000; }, "site_bytes is 5000");
  refused([](LogOptions& o) { o.block_limit = std::chrono::milliseconds{-1}; }, "block_limit is -1 ms");
  refused([](LogOptions& o) { o.hold_limit = std::chrono::hours{25}; }, "hold_limit is");
  refused([](LogOptions& o) { o.sink_failures = 0; }, "sink_failures is 0");
  refused([](LogOptions& o) { o.flight_bytes = 0; }, "flight_bytes is 0");
  refused([](LogOptions& o) { o.when_full = static_cast<WhenFull>(9); }, "when_full is 9");
  refused([](LogOptions& o) { o.level = static_cast<Level>(9); }, "level is 9");
}
