// Whatever the public log calls accept, the drain reads: in the parent and in a worker.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/record_encoder.hpp"
#include "unit/log_support.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

using Random = std::mt19937_64;

/// A type that only fmt knows how to write.
struct Point {
  int x, y;
};

}  // namespace

template <>
struct fmt::formatter<Point> : fmt::formatter<int> {
  auto format(const Point& point, fmt::format_context& context) const {
    return fmt::format_to(context.out(), "({}, {})", point.x, point.y);
  }
};

namespace {

/// Sizes at which something changes: short copies, lanes of 16 KiB, pieces, keys of 64 KiB.
std::string random_text(Random& random) {
  static constexpr std::size_t sizes[] = {0,   1,    7,    8,    31,   32,     33,
                                          255, 1000, 2047, 2048, 4095, 15'000, 70'000};
  std::size_t size = sizes[random() % std::size(sizes)];
  if (size > 8) size += random() % 9;
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// The kinds of arguments, by number.
template <unsigned Kind>
auto make(Random& random) {
  if constexpr (Kind == 0)
    return (random() & 1U) != 0;
  else if constexpr (Kind == 1)
    return static_cast<char>(random());
  else if constexpr (Kind == 2)
    return static_cast<int>(random());
  else if constexpr (Kind == 3)
    return static_cast<std::uint16_t>(random());
  else if constexpr (Kind == 4)
    return static_cast<std::int64_t>(random());
  else if constexpr (Kind == 5)
    return std::uint64_t{random()};
  else if constexpr (Kind == 6)
    return static_cast<float>(static_cast<std::int64_t>(random())) / 1024;
  else if constexpr (Kind == 7)
    return static_cast<double>(random()) * 1e-7;
  else if constexpr (Kind == 8)
    return random_text(random);
  else if constexpr (Kind == 9)
    return "a literal";
  else
    return Point{static_cast<int>(random() % 100), -7};
}
constexpr unsigned kinds = 11;

constexpr std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30U)) * 0xbf58'476d'1ce4'e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d0'49bb'1331'11ebU;
  return x ^ (x >> 31U);
}
/// The argument at a place of a shape: its kind, and whether it is a key-value.
struct Slot {
  unsigned kind;
  bool field;
};
constexpr std::size_t count_of(unsigned shape) { return mixed(shape * 77 + 5) % 7; }
constexpr Slot slot_of(unsigned shape, std::size_t place) {
  const auto bits = mixed(shape * 1000 + place + 1);
  return {static_cast<unsigned>(bits % kinds), (bits >> 20U) % 3 == 0};
}
constexpr std::size_t plain_of(unsigned shape) {
  std::size_t plain = 0;
  for (std::size_t i = 0; i < count_of(shape); ++i) plain += slot_of(shape, i).field ? 0U : 1U;
  return plain;
}
constexpr std::array<std::string_view, 8> in_order = {"none",
                                                      "{}",
                                                      "{} {}",
                                                      "{} {} {}",
                                                      "{}{}{}{}",
                                                      "{} {} {} {} {}",
                                                      "{} {} {} {} {} {}",
                                                      "{} {} {} {} {} {} {}"};
constexpr std::array<std::string_view, 8> turned = {"{{}}",
                                                    "<{0}>",
                                                    "{1} {0}",
                                                    "{2}{1}{0}{2}",
                                                    "{3} {2} {1} {0}",
                                                    "{4} {3} {2} {1} {0}",
                                                    "{5} {4} {3} {2} {1} {0}",
                                                    "{6} {5} {4} {3} {2} {1} {0}"};

struct Expected {
  std::string message;
  std::vector<Field> fields;
};

void set(std::vector<Field>& fields, std::string_view key, FieldValue value) {
  for (auto& field : fields) {
    if (field.key == key) {
      field.value = std::move(value);
      return;
    }
  }
  fields.push_back({std::string{key}, std::move(value)});
}

template <bool IsField, class T>
auto as_argument(std::string_view key, const T& value) {
  if constexpr (IsField)
    return kv(key, value);
  else
    return std::cref(value);
}
template <class T>
const T& plain(const std::reference_wrapper<const T>& value) {
  return value.get();
}
template <class T>
const KeyValue<T>& plain(const KeyValue<T>& value) {
  return value;
}
template <class T>
auto for_fmt(const std::reference_wrapper<const T>& value) {
  return std::tuple<const T&>{value.get()};
}
template <class T>
auto for_fmt(const KeyValue<T>&) {
  return std::tuple<>{};
}
template <class T>
void add_field(std::vector<Field>&, const std::reference_wrapper<const T>&) {}
template <class T>
void add_field(std::vector<Field>& fields, const KeyValue<T>& field) {
  set(fields, field.key, kindred::internal::to_field_value(field.value));
}

/// One call of a shape, with random values. Returns what its record must hold.
template <unsigned Shape, std::size_t... Place>
Expected call(Random& random, std::index_sequence<Place...>) {
  [[maybe_unused]] const auto values = std::tuple{make<slot_of(Shape, Place).kind>(random)...};
  static constexpr std::string_view keys[] = {"a", "b", "a key", "a", "", "f", "g"};
  const std::array<std::string, 7> long_key{Shape % 16 == 3 ? std::string(70'000, 'k') : std::string{}};
  [[maybe_unused]] const auto key = [&](std::size_t place) {
    return place == 0 && !long_key[0].empty() ? std::string_view{long_key[0]} : keys[place];
  };
  const auto arguments =
      std::tuple{as_argument<slot_of(Shape, Place).field>(key(Place), std::get<Place>(values))...};
  Expected expected;
  const auto& formats = Shape % 2 == 0 ? in_order : turned;
  std::apply(
      [&](const auto&... plain_values) {
        expected.message = fmt::vformat(formats[plain_of(Shape)], fmt::make_format_args(plain_values...));
      },
      std::tuple_cat(for_fmt(std::get<Place>(arguments))...));
  (add_field(expected.fields, std::get<Place>(arguments)), ...);
  for (auto& field : expected.fields) field.key.resize(std::min<std::size_t>(field.key.size(), 0xffff));
  if constexpr (Shape % 2 == 0)
    log_info(in_order[plain_of(Shape)], plain(std::get<Place>(arguments))...);
  else if constexpr (Shape % 4 == 1)
    log_info(turned[plain_of(Shape)], plain(std::get<Place>(arguments))...);
  else
    log_info(fmt::runtime(turned[plain_of(Shape)]), plain(std::get<Place>(arguments))...);
  return expected;
}

constexpr unsigned shapes = 160;
using Caller = Expected (*)(Random&);
template <unsigned... Shape>
constexpr auto callers_of(std::integer_sequence<unsigned, Shape...>) {
  return std::array<Caller, sizeof...(Shape)>{
      [](Random& random) { return call<Shape>(random, std::make_index_sequence<count_of(Shape)>{}); }...};
}
constexpr auto callers = callers_of(std::make_integer_sequence<unsigned, shapes>{});

std::vector<Expected> call_all(std::uint64_t seed) {
  std::vector<Expected> expected;
  Random random{seed};
  for (int round = 0; round < 2; ++round) {
    for (const Caller caller : callers) expected.push_back(caller(random));
  }
  return expected;
}

void compare(const std::vector<LogRecord>& records, const std::vector<Expected>& expected) {
  REQUIRE(records.size() == expected.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    CAPTURE(i);
    REQUIRE((records[i].message == expected[i].message));
    REQUIRE(records[i].fields.size() == expected[i].fields.size());
    for (std::size_t f = 0; f < expected[i].fields.size(); ++f) {
      REQUIRE((records[i].fields[f].key == expected[i].fields[f].key));
      REQUIRE((records[i].fields[f].value == expected[i].fields[f].value));
    }
  }
}

std::uint64_t test_seed() {
  const char* const text = std::getenv("KINDRED_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : kindred::internal::ticks();
}

/// Logs at any value that a `Level` can have, and returns how many of the records must come.
int log_at_every_level() {
  int enabled = 0;
  for (int value = 0; value < 256; ++value) {
    const auto level = static_cast<Level>(value);
    log(level, "level {}", value);
    Logger{"named"}.log(level, "level {}", value);
    log_from_signal(level, "raw");
    log_exception(level, std::make_exception_ptr(std::runtime_error{"thrown"}));
    if (level >= Level::info && level < Level::off) enabled += 4;
  }
  return enabled;
}

}  // namespace

TEST_CASE("a key-value may stand anywhere among the arguments of a log call") {
  TestLog log{{.level = Level::info}};
  const auto each = [] {
    log_info("login of {}", kv("user", 7), "ada");
    log_info("login of {} from {}", 1, kv("user", 7), "host");
    Logger{"auth"}.warn("login of {}", kv("user", 7), 2);
    log_info("{1} then {0}", kv("user", 7), 3, kv("b", "x"), std::string_view{"y"});
    log_info("login of {:{}}", kv("user", 7), 4, 5);
  };
  const std::vector<std::string> expected{"login of ada", "login of 1 from host", "login of 2", "y then 3",
                                          "login of     4"};
  each();
  LogProcess worker{log, 0, each};
  worker.end();
  const auto records = log.records();
  std::vector<std::string> of[2];
  for (const auto& record : records) {
    if (record.origin != Origin::log) continue;
    of[record.worker + 1].push_back(record.message);
    REQUIRE(!record.fields.empty());
    CHECK(record.fields[0].key == "user");
    CHECK((record.fields[0].value == FieldValue{std::int64_t{7}}));
  }
  CHECK(of[0] == expected);
  CHECK(of[1] == expected);
  CHECK(log.logger.stats().corrupt_sources == 0);
}

TEST_CASE("whatever the log calls accept, the drain reads, in the parent and in a worker") {
  const std::uint64_t seed = test_seed();
  CAPTURE(seed);
  TestLog log{{.level = Level::info, .lane_bytes = 16 * 1024}};
  const auto expected = call_all(seed);
  auto records = log.records();
  compare(records, expected);
  LogProcess worker{log, 0, [&] { static_cast<void>(call_all(seed)); }};
  worker.end();
  records = log.records();
  records.erase(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(expected.size()));
  compare(records, expected);
  const auto stats = log.logger.stats();
  CHECK(stats.corrupt_sources == 0);
  CHECK(stats.dropped == 0);
  CHECK(stats.committed == stats.delivered);
}

TEST_CASE("a record of any value of Level is logged or not, and never harms its process's log") {
  TestLog log{{.level = Level::info}};
  const int expected = log_at_every_level();
  LogProcess worker{log, 0, [] { static_cast<void>(log_at_every_level()); }};
  worker.end();
  log_info("last");
  static_cast<void>(log.records());
  const auto stats = log.logger.stats();
  CHECK(stats.corrupt_sources == 0);
  CHECK(static_cast<int>(log.seen().size()) == 2 * expected + 1);
}

TEST_CASE("arguments that are too long together are cut, and their record arrives") {
  TestLog log{{.level = Level::info, .block_limit = std::chrono::seconds{30}}};
  const std::string most(kindred::internal::longest_text - 10, 'x');
  log_info("{}|{}", most, most, kv("field", most));
  log_info("last");
  const auto records = log.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].message.size() <= kindred::internal::longest_text);
  CHECK(records[0].message.starts_with("xxx"));
  REQUIRE(records[0].fields.size() == 1);
  CHECK(records[1].message == "last");
  CHECK(log.logger.stats().corrupt_sources == 0);
}

TEST_CASE("a record of the parent that cannot be read is lost alone, told and counted, and the log goes on") {
  using namespace kindred::internal;
  TestLog log{{.level = Level::info}};
  log_info("before");
  constexpr CallSite site{"{} {}", std::source_location::current(), false};
  static constexpr char types[] = {static_cast<char>(ArgType::string), static_cast<char>(ArgType::int64), 0};
  const std::array<std::byte, 6> nonsense{std::byte{200}};  // a text of 200 bytes that are not there
  LogFront* const front = process_log.front.load();
  for (int i = 0; i < 3; ++i) {
    const LaneUse use{*front};
    write_encoded({front, nullptr}, use.lane(), Level::info, site, {types, 2}, nonsense);
  }
  log_info("after");
  auto texts = log.messages();
  REQUIRE(texts.size() >= 3);
  CHECK(texts.front() == "before");
  CHECK(
      texts[1] ==
      "1 record of the parent could not be read (a record's arguments are not what its site says), and is lost here");
  CHECK(std::count(texts.begin(), texts.end(), "after") == 1);
  const auto stats = log.logger.stats();
  CHECK(stats.unreadable == 3);
  CHECK(stats.corrupt_sources == 0);
  CHECK(stats.committed == stats.delivered + stats.unreadable);
}

TEST_CASE("a wild write into the parent's own lane costs what is in it, not the parent's log") {
  using namespace kindred::internal;
  for (const WhenFull when_full : {WhenFull::block, WhenFull::drop_oldest}) {
    TestLog log{{.level = Level::info, .when_full = when_full}};
    Gate held, go;
    log.logger.on_record([&](LogRecord& record) {
      if (record.message != "hold") return;
      held.open();
      go.pass();
    });
    log_info("hold");
    held.pass();
    LaneState* const lane = thread_lane.lane;
    std::byte* const at = lane->ring.place(lane->ring.head());
    log_info("smashed");
    log_info("lost with it");
    std::memset(at, 0xff, sizeof(std::uint32_t));
    go.open();
    CHECK(log.logger.flush());
    log_info("after");
    const Logger named = Logger{"net"}.with({{"a", 1}});
    named.info("named");
    const auto records = log.records();
    REQUIRE(records.size() == 4);
    CHECK(records[1].level == Level::error);
    CHECK_CONTAINS(records[1].message, "could not be read");
    CHECK(records[2].message == "after");
    CHECK(records[3].logger == "net");
    CHECK(log.logger.stats().corrupt_sources == 0);
    CHECK(log.logger.stats().unreadable == 1);
  }
}

TEST_CASE("a character array without a NUL is read to its end, and a path as a field is not quoted") {
  TestLog log{{.level = Level::info}};
  struct {
    char name[4] = {'a', 'b', 'c', 'd'};
    char behind[4] = "xyz";
  } packed;
  const std::filesystem::path path{"/srv/a b"};
  log_info("<{}> <{}>", packed.name, packed.behind, kv("name", packed.name), kv("path", path));
  log_info("<{:>6}> {}", packed.name, Point{1, 2}, kv("name", packed.name));  // formatted by the caller
  const LogScope scope{{"path", path}, {"name", packed.name}};
  log_info("in a scope");
  const auto records = log.records();
  REQUIRE(records.size() == 3);
  CHECK(records[0].message == "<abcd> <xyz>");
  CHECK(records[1].message == "<  abcd> (1, 2)");
  const auto text = [](const Field& field) { return std::get<std::string>(field.value); };
  CHECK(text(records[0].fields.at(0)) == "abcd");
  CHECK(text(records[0].fields.at(1)) == "/srv/a b");
  CHECK(text(records[1].fields.at(0)) == "abcd");
  CHECK(text(records[2].fields.at(0)) == "/srv/a b");
  CHECK(text(records[2].fields.at(1)) == "abcd");
}
