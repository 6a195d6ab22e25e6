// The way of a record from its bytes straight into a line, against the way over a whole `LogRecord`: the same
// bytes.

#include <memory>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "kindred/internal/ecs_formatter.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/line_format.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_encoder.hpp"
#include "record/delivery.hpp"
#include "record/site.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

using namespace kindred;
using namespace kindred::internal;
using kindred::test::hostile_strings;
using kindred::test::random_record;
using kindred::test::random_text;

namespace {

using Random = std::mt19937;

unsigned below(Random& random, unsigned limit) { return static_cast<unsigned>(random() % limit); }

/// A text as it may be cut anywhere: also within a character.
std::string cut_text(Random& random) {
  static const std::string script = "aé漢🙂\u202e\xff\xc3(\x1b[0m\n\\\"{}";
  const auto from = below(random, static_cast<unsigned>(script.size()));
  return script.substr(from, below(random, 9));
}

std::string any_text(Random& random) {
  switch (below(random, 4)) {
    case 0: return random_text(random);
    case 1: return cut_text(random);
    case 2: return std::string(below(random, 40), 'x');
    default: return "customer 4711";
  }
}

/// A place that logs, and how its arguments are made.
struct Place {
  std::string format;
  std::string types;
  std::unique_ptr<Site> site;

  explicit Place(Random& random) {
    const unsigned arguments = below(random, 5);
    for (unsigned i = 0; i < arguments; ++i) {
      add_text(random);
      constexpr ArgType all[] = {ArgType::boolean, ArgType::character, ArgType::int32,  ArgType::uint32,
                                 ArgType::int64,   ArgType::uint64,    ArgType::real32, ArgType::real64,
                                 ArgType::string,  ArgType::string};
      const ArgType type = all[below(random, 10)];
      types += static_cast<char>(type);
      const bool is_number = type == ArgType::int32 || type == ArgType::uint64 || type == ArgType::real64;
      format += below(random, 4) != 0                         ? "{}"
                : is_number && below(random, 2) == 0          ? "{:+}"
                : type == ArgType::string && below(random, 2) ? "{:.3}"
                                                              : "{:>12}";
    }
    if (below(random, 4) == 0)
      types += static_cast<char>(static_cast<std::uint8_t>(ArgType::int64) | arg_is_field);
    add_text(random);
    const bool custom = below(random, 6) == 0;
    site = std::make_unique<Site>(SiteFacts{.format = format,
                                            .file = below(random, 2) == 0 ? "/src/a b.cpp" : "main.cpp",
                                            .function = below(random, 5) == 0 ? "f\xff" : "void f(int)",
                                            .types = types,
                                            .level_name = custom ? "audit" : "",
                                            .line = below(random, 100),
                                            .level = static_cast<Level>(below(random, 6))});
  }
  void add_text(Random& random) {
    for (const char c : any_text(random)) {
      format += c;
      if (c == '{' || c == '}') format += c;
    }
  }
  [[nodiscard]] std::vector<std::byte> arguments(Random& random) const {
    std::vector<std::byte> bytes;
    const auto put = [&](const auto& stored) {
      const std::size_t begin = bytes.size();
      bytes.resize(begin + stored_bytes(stored));
      store(bytes.data() + begin, stored);
    };
    for (const char code : types) {
      const std::uint64_t bits = (std::uint64_t{random()} << 32U | random()) >> below(random, 64);
      switch (static_cast<ArgType>(code)) {
        case ArgType::boolean: put(bits % 2 == 0); break;
        case ArgType::character: put(static_cast<char>(bits)); break;
        case ArgType::int32: put(static_cast<std::int32_t>(bits)); break;
        case ArgType::uint32: put(static_cast<std::uint32_t>(bits)); break;
        case ArgType::int64: put(static_cast<std::int64_t>(bits)); break;
        case ArgType::uint64: put(bits); break;
        case ArgType::real32: put(static_cast<float>(bits % 1000) / 8); break;
        case ArgType::real64:
          put(static_cast<double>(bits % 100'000) / (below(random, 2) == 0 ? 100 : 7));
          break;
        case ArgType::string: {
          const std::string text = any_text(random);
          put(std::string_view{text});
          break;
        }
        default: {
          const KeyValue<std::int64_t> field{"items", 7};
          put(as_stored(field));
        }
      }
    }
    return bytes;
  }
};

/// One record both ways.
struct Both {
  Both(Random& random, const Place& place, const LogRecord& base, std::uint64_t facts_id)
      : facts{base}, bytes{place.arguments(random)} {
    const Site& site = *place.site;
    facts.level = site.level();
    facts.level_name = site.level_name();
    facts.source = site.source();
    facts.time =
        decltype(facts.time){std::chrono::nanoseconds{1'790'000'000'000'000'000 + random() % 3'000'000'000}};
    facts.sequence = random();
    facts.late = below(random, 8) == 0;
    facts.message.clear();
    REQUIRE(site.plan().decode(bytes, arguments, facts.fields));
    whole = facts;
    TextBuffer message;
    site.plan().append(message, arguments);
    whole.message = message.view();
    delivery = std::make_unique<Delivery>(facts, facts_id, site, arguments, scratch);
  }
  LogRecord facts;
  std::vector<std::byte> bytes;
  Arguments arguments;
  TextBuffer scratch;
  LogRecord whole;
  std::unique_ptr<Delivery> delivery;
};

/// Random records of some threads and places, as they come in a log.
template <class Check>
void for_random_records(unsigned seed, int count, Check&& check) {
  Random random{seed};
  std::vector<Place> places;
  for (int i = 0; i < 40; ++i) places.emplace_back(random);
  std::vector<LogRecord> threads;
  for (int i = 0; i < 6; ++i) threads.push_back(random_record(random));
  for (int i = 0; i < count; ++i) {
    const auto thread = below(random, static_cast<unsigned>(threads.size()));
    Both both{random, places[below(random, static_cast<unsigned>(places.size()))], threads[thread],
              256 * (std::uint64_t{thread} + 1)};
    INFO("record ", i);
    check(both);
  }
}

template <class Formatter>
void same_lines(Formatter straight, Formatter over_record, int count = 4000) {
  for_random_records(7, count, [&](Both& both) {
    TextBuffer got;
    TextBuffer expected;
    straight.append(*both.delivery, got);
    over_record.append(both.whole, expected);
    REQUIRE(got.view() == expected.view());
  });
}

}  // namespace

TEST_CASE("a message that goes straight into a line is escaped as the whole message would be") {
  for_random_records(1, 20'000, [](const Both& both) {
    TextBuffer got;
    TextBuffer expected;
    both.delivery->append_message(got);
    append_escaped(expected, both.whole.message);
    REQUIRE(got.view() == expected.view());
    got.clear();
    expected.clear();
    const bool all_utf8 = both.delivery->append_json_message(got);
    REQUIRE(append_json_escaped(expected, both.whole.message) == all_utf8);
    REQUIRE(got.view() == expected.view());
  });
}

TEST_CASE("each hostile text is escaped the same as an argument, as a part of a format, and as a message") {
  for (const std::string& text : hostile_strings()) {
    std::string format;
    for (const char c : text) format += c == '{' || c == '}' ? std::string(2, c) : std::string(1, c);
    const char types[] = {static_cast<char>(ArgType::string), 0};
    const Site site{SiteFacts{.format = format.size() < 60'000 ? format + "{}" : "{}",
                              .file = {},
                              .function = {},
                              .types = types,
                              .level_name = {},
                              .line = 1,
                              .level = Level::info}};
    std::vector<std::byte> bytes(stored_bytes(std::string_view{text}));
    store(bytes.data(), std::string_view{text});
    Arguments arguments;
    std::vector<Field> fields;
    REQUIRE(site.plan().decode(bytes, arguments, fields));
    TextBuffer message;
    TextBuffer got;
    TextBuffer expected;
    site.plan().append(message, arguments);
    site.plan().append_escaped(got, arguments);
    append_escaped(expected, message.view());
    CHECK(got.view() == expected.view());
  }
}

TEST_CASE("what must be escaped is found wherever it stands in a text of any length") {
  for (std::size_t length = 1; length <= 70; ++length) {
    for (std::size_t at = 0; at < length; ++at) {
      for (const char c : std::string_view{"\0\x1f\x20\x7e\x7f\\\"{\n\x80\xff", 11}) {
        std::string text(length, 'a');
        text[at] = c;
        for (const auto where : {EscapeIn::message, EscapeIn::quotes, EscapeIn::field_quotes}) {
          TextBuffer got;
          TextBuffer expected;
          append_escaped(got, text, where);
          for (const char& each : text) append_escaped(expected, {&each, 1}, where);
          REQUIRE(got.view() == expected.view());
        }
        TextBuffer got;
        TextBuffer expected;
        append_json_escaped(got, text);
        for (const char& each : text) append_json_escaped(expected, {&each, 1});
        REQUIRE(got.view() == expected.view());
      }
    }
  }
}

TEST_CASE("a character of UTF-8 that two arguments make together is one character in the line") {
  const char types[] = {static_cast<char>(ArgType::string), static_cast<char>(ArgType::string), 0};
  const Site site{SiteFacts{.format = "{}{}",
                            .file = {},
                            .function = {},
                            .types = types,
                            .level_name = {},
                            .line = 1,
                            .level = Level::info}};
  const std::string_view halves[] = {"\xc3", "\xa9"};
  std::vector<std::byte> bytes(stored_bytes(halves[0]) + stored_bytes(halves[1]));
  store(store(bytes.data(), halves[0]), halves[1]);
  Arguments arguments;
  std::vector<Field> fields;
  REQUIRE(site.plan().decode(bytes, arguments, fields));
  TextBuffer line;
  site.plan().append_escaped(line, arguments);
  CHECK(line.view() == "é");
}

TEST_CASE("arguments that end early, or are of no type, are refused wherever they end") {
  Random random{3};
  for (int i = 0; i < 300; ++i) {
    const Place place{random};
    const auto bytes = place.arguments(random);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      Arguments arguments;
      std::vector<Field> fields;
      // In memory of its own, so that a sanitizer sees a look behind it.
      const std::vector<std::byte> cut{bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)};
      REQUIRE_FALSE(place.site->plan().decode(cut, arguments, fields));
    }
  }
}

TEST_CASE("every pattern makes the same line straight from a record's bytes") {
  for (const char* const pattern :
       {"", "%v", "%+", "[%H:%M:%S.%e] [%l] %v%V", "%F %f %v", "%v %W", "[%=12l] %-20v|%n", "%@ %! %s:%# %v",
        "%u %i %v", "%5!v %W %N", "%E.%F %P %t %J#%j/%q %Q %K %k %w %L %v", "%{items} %v%V", "%g %W %3e %v",
        "%^%l%$ %v", "%Y-%m-%d"}) {
    INFO("pattern ", pattern);
    same_lines(PatternFormatter{pattern}, PatternFormatter{pattern}, 1500);
  }
  const LevelColors colors;
  same_lines(PatternFormatter{"", &colors}, PatternFormatter{"", &colors});
}

TEST_CASE("JSON is the same straight from a record's bytes") {
  same_lines(JsonFormatter{}, JsonFormatter{});
  same_lines(JsonFormatter{"%W %v%V", "spawn"}, JsonFormatter{"%W %v%V", "spawn"});
  same_lines(EcsFormatter{}, EcsFormatter{});
  same_lines(EcsFormatter{"%v%V", "fork"}, EcsFormatter{"%v%V", "fork"});
}

TEST_CASE("a record that was made whole on its way makes the same line") {
  PatternFormatter early{""};
  PatternFormatter late{""};
  for_random_records(11, 2000, [&](Both& both) {
    TextBuffer before;
    TextBuffer after;
    early.append(*both.delivery, before);
    REQUIRE(test::difference(both.delivery->whole(), both.whole).empty());
    late.append(*both.delivery, after);
    REQUIRE(before.view() == after.view());
  });
}

TEST_CASE("sinks that share their lines make each line once, and write the same") {
  struct Counting final : LineFormatter {
    explicit Counting(int& its_calls) : calls{its_calls} {}
    void append(Delivery& delivery, TextBuffer& out) override {
      ++calls;
      out.append(delivery.whole().message);
    }
    int& calls;
  };
  int calls = 0;
  LineFormat one{std::make_unique<Counting>(calls), "a key"};
  LineFormat same{std::make_unique<Counting>(calls), "a key"};
  LineFormat other{std::make_unique<Counting>(calls), "another key"};
  LineFormat unnamed{std::make_unique<Counting>(calls)};
  for (LineFormat* const format : {&same, &other, &unnamed}) format->share(one);
  const LogRecord record = test::sample_record();
  TextBuffer lines;
  for (const std::uint64_t number : {1U, 2U}) {
    Delivery delivery{record};
    delivery.number = number;
    for (LineFormat* const format : {&one, &same, &other, &unnamed}) format->append(delivery, lines);
  }
  CHECK(calls == 6);  // for two records: one shared line, and two of the others
  CHECK(lines.size() == 8 * record.message.size());
  Delivery alone{record};  // belongs to no round of sinks: never taken for another
  one.append(alone, lines);
  one.append(alone, lines);
  CHECK(calls == 8);
}
