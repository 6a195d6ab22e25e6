// Text sinks: escapes, patterns, colours; and the way back.
#include <chrono>
#include <cmath>
#include <limits>
#include <random>

#include "kindred/error.hpp"
#include "kindred/internal/color.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

namespace test = kindred::test;
using namespace kindred;
using namespace kindred::internal;

namespace {

std::string escaped(std::string_view text, EscapeIn where = EscapeIn::message) {
  TextBuffer out;
  append_escaped(out, text, where);
  return std::string{out.view()};
}

std::string line_of(const LogRecord& record, std::string_view pattern = {},
                    const LevelColors* colors = nullptr) {
  PatternFormatter formatter{pattern, colors};
  TextBuffer out;
  formatter.append(record, out);
  return std::string{out.view()};
}

std::string json_of(const LogRecord& record) {
  JsonFormatter formatter;
  TextBuffer out;
  formatter.append(record, out);
  return std::string{out.view()};
}

/// Is there anything that acts on a terminal, ends a line, or is no UTF-8? Written apart from the escaper,
/// byte by byte.
bool is_harmless(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return false;
    if (byte < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (byte < 0xc2 || byte > 0xf4 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0U) != 0x80U) return false;
    for (const std::string_view bad :
         {"\u202e", "\u202a", "\u2066", "\u2069", "\u200e", "\u200f", "\u2028", "\u2029", "\u061c", "\ufeff"})
      if (text.substr(i).starts_with(bad)) return false;
    if (byte == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0) return false;
    i += length;
  }
  return true;
}

}  // namespace

TEST_CASE("what is harmless is copied, what is not is shown by name") {
  CHECK(escaped("radius 2, ärger, 漢字, 🙂") == "radius 2, ärger, 漢字, 🙂");
  CHECK(escaped("a\nb\rc\td\\e") == "a\\nb\\rc\\td\\\\e");
  CHECK(escaped(std::string_view{"\0\x1b[2J\x7f", 6}) == "\\x00\\x1b[2J\\x7f");
  CHECK(escaped("\u0085\u202eevil\u2069\u2028\ufeff") == "\\u0085\\u202eevil\\u2069\\u2028\\ufeff");
  CHECK(escaped("\xff\xc3(\xed\xa0\x80\xf8") == "\\xff\\xc3(\\xed\\xa0\\x80\\xf8");
  CHECK(escaped("say \"{hi}\"") == "say \"{hi}\"");
  CHECK(escaped("say \"{hi}\"", EscapeIn::field_quotes) == "say \\\"\\x7bhi}\\\"");
}

TEST_CASE("every byte, wherever it stands in a word, is escaped and had back") {
  for (int byte = 0; byte < 256; ++byte) {
    for (std::size_t at = 0; at < 20; ++at) {
      std::string text(20, 'a');
      text[at] = static_cast<char>(byte);
      for (const auto where : {EscapeIn::message, EscapeIn::quotes, EscapeIn::field_quotes}) {
        const auto shown = escaped(text, where);
        std::string back;
        REQUIRE(is_harmless(shown));
        REQUIRE(append_unescaped(back, shown));
        REQUIRE(back == text);
      }
    }
  }
}

TEST_CASE("random bytes and random characters come back from every form of escape") {
  std::mt19937 random{20260726};
  for (int round = 0; round < 20000; ++round) {
    const auto text = test::random_text(random);
    CAPTURE(round);
    const auto shown = escaped(text);
    std::string back;
    REQUIRE(is_harmless(shown));
    REQUIRE(append_unescaped(back, shown));
    REQUIRE(back == text);
  }
}

TEST_CASE("text that no sink wrote is not unescaped") {
  for (const std::string_view text : {"\\", "\\q", "\\x1", "\\xg0", "\\u12", "\\u0041", "\\ud800", "a\\"}) {
    std::string out;
    CAPTURE(text);
    CHECK_FALSE(append_unescaped(out, text));
  }
}

TEST_CASE("the default pattern shows time, level, worker, task, message and fields") {
  auto record = test::sample_record();
  record.time = decltype(record.time){std::chrono::nanoseconds{1'785'074'591'482'913'742}};
  const auto line = line_of(record);
  CHECK_CONTAINS(line, ".482913");
  CHECK_CONTAINS(line, "] [info] [w0 area#41] radius 2 {user=7 path=\"a b\" ok=true}");
  CHECK(line_of(record, "%e %f %F %E") == "482 482913 482913742 1785074591");
}

TEST_CASE("a pattern has spdlog's flags, padding and cutting, and ours") {
  auto record = test::sample_record();
  record.source = {"/src/main.cpp", 42, "area"};
  record.logger = "geo";
  CHECK(line_of(record, "%v|%l|%L|%n|%P|%t") == "radius 2|info|I|geo|4711|4712");
  CHECK(line_of(record, "%8l|%-8l|%=8l|%2!l|") == "    info|info    |  info  |in|");
  CHECK(line_of(record, "%s|%g|%#|%!|%@") == "main.cpp|/src/main.cpp|42|area|/src/main.cpp:42");
  CHECK(line_of(record, "%w %k %j %J %q %Q %K %%") == "0 0 41 area 1 9 log %");
  CHECK(line_of(record, "%{user}|%{path}|%{none}|%V") == "7|\"a b\"|| {user=7 path=\"a b\" ok=true}");
  record.worker = -1;
  record.task_id = 0;
  record.task_name.clear();
  record.logger = "net";
  record.late = true;
  record.origin = Origin::stderr;
  CHECK(line_of(record, "%W|%w|%N") == "parent net <stderr> !late|parent|late");
}

TEST_CASE("a pattern that means nothing is refused with its text and the flag") {
  CHECK_THROWS_CONTAINS(PatternFormatter{"%v %G"}, UsageError, "'%G'");
  CHECK_THROWS_CONTAINS(PatternFormatter{"%v %"}, UsageError, "ends in the middle");
  CHECK_THROWS_CONTAINS(PatternFormatter{"%{user"}, UsageError, "without its }");
  CHECK_THROWS_CONTAINS(PatternFormatter{"a\nb"}, UsageError, "control character");
}

TEST_CASE("time parts follow the second, also backwards") {
  PatternFormatter formatter{"%Y-%m-%d %H:%M:%S.%e %z"};
  auto record = test::sample_record();
  std::string last;
  for (const std::int64_t second : {0, 59, 60, 86399, 86400, 1, -1, 1'785'074'591}) {
    record.time = decltype(record.time){std::chrono::seconds{second}};
    TextBuffer out;
    formatter.append(record, out);
    PatternFormatter fresh{"%Y-%m-%d %H:%M:%S.%e %z"};
    TextBuffer expected;
    fresh.append(record, expected);
    CHECK(out.view() == expected.view());
    CHECK(out.view() != last);
    last = out.view();
  }
}

TEST_CASE("only our own colours are control bytes, and only where they are wanted") {
  auto record = test::sample_record();
  record.message = "\x1b[31mred";
  CHECK(is_harmless(line_of(record)));
  const LevelColors colors{{{"info", "bold bright red on blue"}}};
  const auto line = line_of(record, {}, &colors);
  CHECK_CONTAINS(line, "[\x1b[1;91;44minfo\x1b[0m]");
  CHECK_CONTAINS(line, "\\x1b[31mred");
  CHECK_THROWS_CONTAINS(color_sequence("pink"), UsageError, "'pink'");
}

TEST_CASE("a reader gives back what the default line carries, whatever the strings hold") {
  const auto reader = make_text_reader({});
  for (auto record : test::hostile_records()) {
    const auto line = line_of(record);
    CAPTURE(line);
    REQUIRE(is_harmless(line));
    LogRecord back;
    REQUIRE(reader->read(line, back));
    test::cut_to_default_line(record);
    CHECK(test::difference(record, back) == "");
  }
}

TEST_CASE("coloured lines are read as plain ones") {
  const auto record = test::sample_record();
  const LevelColors colors;
  LogRecord back;
  REQUIRE(make_text_reader({})->read(line_of(record, {}, &colors), back));
  CHECK(back.message == record.message);
}

TEST_CASE("a message that ends like fields is not taken for them") {
  const auto reader = make_text_reader({});
  for (const std::string_view message : {"{a=1}", "x {a=1}", " {a=1}", " {}", "{}", "{\"a\": {\"b\": 1}}",
                                         "a } b {", " {", "}", "x {a=\"}", ""}) {
    for (const bool with_fields : {false, true}) {
      auto record = test::sample_record();
      record.message = message;
      if (!with_fields) record.fields.clear();
      LogRecord back;
      CAPTURE(line_of(record));
      REQUIRE(reader->read(line_of(record), back));
      CHECK(back.message == message);
      CHECK(back.fields.size() == record.fields.size());
    }
  }
}

TEST_CASE("random records come back from text and from JSON") {
  std::mt19937 random{7};
  const auto text = make_text_reader({});
  const auto all = make_text_reader("%Y-%m-%d %T.%F%z %l %n %P %t %w %k %j %J %q %Q %K [%N] [%@] %v%V");
  const auto json = make_json_reader();
  for (int round = 0; round < 3000; ++round) {
    auto record = test::random_record(random);
    LogRecord back;
    REQUIRE(json->read(json_of(record), back));
    CHECK(test::difference(record, back) == "");
    back = {};
    const auto line = line_of(record, "%Y-%m-%d %T.%F%z %l %n %P %t %w %k %j %J %q %Q %K [%N] [%@] %v%V");
    CAPTURE(line);
    REQUIRE(all->read(line, back));
    auto expected = record;
    expected.source.function = {};
    if (expected.source.file.empty()) expected.source.line = 0;
    CHECK(test::difference(expected, back) == "");
    back = {};
    REQUIRE(text->read(line_of(record), back));
    test::cut_to_default_line(record);
    CHECK(test::difference(record, back) == "");
  }
}

TEST_CASE("patterns whose lines cannot be taken apart are refused by the reader") {
  CHECK_THROWS_CONTAINS(make_text_reader("%n%t %v"), UsageError, "%n touches");
  CHECK_THROWS_CONTAINS(make_text_reader("%v [%n]"), UsageError, "may follow the message");
  CHECK_THROWS_CONTAINS(make_text_reader("%W %v"), UsageError, "%W must be followed");
  CHECK_NOTHROW(static_cast<void>(make_text_reader("[%H:%M:%S] %8l %^%-20n%$ %v")));
  LogRecord back;
  REQUIRE(make_text_reader("[%H:%M:%S] %8l %^%-20n%$| %v")
              ->read("[01:02:03]     warn geo                 | hello there", back));
  CHECK(back.level == Level::warn);
  CHECK(back.logger == "geo");
  CHECK(back.message == "hello there");
}

TEST_CASE("a line that is no record is refused by both readers") {
  const auto text = make_text_reader({});
  const auto json = make_json_reader();
  const auto good = line_of(test::sample_record());
  const auto object = json_of(test::sample_record());
  for (std::size_t size = 0; size < object.size(); ++size) {
    LogRecord back;
    CHECK_FALSE(json->read(object.substr(0, size), back));
  }
  for (const auto& line : {std::string{"Traceback"}, good.substr(0, 30),
                           std::string{"[2026-13-01 00:00:00.000000+00:00] [info] [w0] x"},
                           std::string{"[2026-01-01 00:00:00.000000+00:00] [info] [q] x"},
                           std::string{"[2026-01-01 00:00:00.000000+00:00] [info] [w0] \\q"}}) {
    LogRecord back;
    CAPTURE(line);
    CHECK_FALSE(text->read(line, back));
    CHECK_FALSE(json->read(line, back));
  }
  for (const auto* line : {"{}", "{\"record\":{}}", "[]", "1", "{\"record\":{\"message\":\"x\"}}"}) {
    LogRecord back;
    CHECK_FALSE(json->read(line, back));
  }
  LogRecord back;
  CHECK(json->read(object, back));
}

TEST_CASE("JSON has Loguru's keys, typed values, and ours") {
  auto record = test::sample_record();
  record.source = {"/src/main.cpp", 42, "area"};
  record.logger = "geo";
  record.time = decltype(record.time){std::chrono::nanoseconds{1'785'074'591'482'913'742}};
  const auto line = json_of(record);
  for (const auto* part :
       {"\"text\":\"radius 2\"", "\"message\":\"radius 2\"", "\"timestamp\":1785074591.482913742",
        "\"level\":{\"name\":\"info\",\"no\":20}", "\"name\":\"geo\"",
        "\"file\":{\"name\":\"main.cpp\",\"path\":\"/src/main.cpp\"},\"line\":42,\"function\":\"area\"",
        "\"process\":{\"id\":4711}", "\"thread\":{\"id\":4712}", "\"worker\":0",
        "\"task\":{\"id\":41,\"name\":\"area\",\"attempt\":1}", "\"sequence\":9",
        "\"extra\":{\"user\":7,\"path\":\"a b\",\"ok\":true}"})
    CHECK_CONTAINS(line, part);
  CHECK_FALSE(test::contains(line, "exact"));
  JsonFormatter with_method{"%l: %v", "spawn"};
  TextBuffer out;
  with_method.append(record, out);
  CHECK_CONTAINS(std::string{out.view()}, "\"text\":\"info: radius 2\"");
  CHECK_CONTAINS(std::string{out.view()}, "\"start_method\":\"spawn\"");
}

TEST_CASE("what JSON cannot carry is replaced, and kept exactly beside it") {
  auto record = test::sample_record();
  record.message = "bad \xff byte";
  record.fields = {{"x", std::numeric_limits<double>::quiet_NaN()},
                   {"y", std::int64_t{1}},
                   {"y", std::string{"two"}},
                   {"k\xfe", 0.5}};
  const auto line = json_of(record);
  CHECK_CONTAINS(line, "\"message\":\"bad \\ufffd byte\"");
  CHECK_CONTAINS(line, "\"extra\":{\"x\":\"NaN\",\"y\":\"two\",\"k\\ufffd\":0.5}");
  CHECK_CONTAINS(line, "\"exact\":{\"message\":\"bad \\\\xff byte\"");
  LogRecord back;
  REQUIRE(make_json_reader()->read(line, back));
  CHECK(test::difference(record, back) == "");
}

TEST_CASE("a file that Loguru serialized is read") {
  constexpr std::string_view line =
      R"({"text": "2026-07-26 14:03:11.482 | SUCCESS | m:f:3 - hello\n", "record": {"elapsed": {"repr": "0:00:00.010000", "seconds": 0.01}, "exception": null, "extra": {"user": 7, "deep": {"a": [1, 2]}}, "file": {"name": "m.py", "path": "/m.py"}, "function": "f", "level": {"icon": "x", "name": "WARNING", "no": 30}, "line": 3, "message": "hello", "module": "m", "name": "m", "process": {"id": 12, "name": "MainProcess"}, "thread": {"id": 140, "name": "MainThread"}, "time": {"repr": "2026-07-26 14:03:11.482913+02:00", "timestamp": 1785067391.482913}}})";
  LogRecord record;
  REQUIRE(make_json_reader()->read(line, record));
  CHECK(record.message == "hello");
  CHECK(record.level == Level::warn);
  CHECK(record.level_name.empty());
  CHECK(record.source.line == 3);
  CHECK(record.time.time_since_epoch().count() == 1'785'067'391'482'913'000);
  REQUIRE(record.fields.size() == 1);
  CHECK(record.fields[0].key == "user");
}

TEST_CASE("a custom level keeps its name, number and colour") {
  const auto audit = define_level("sink_audit", 35, "bold magenta");
  auto record = test::sample_record();
  record.level = audit.base();
  record.level_name = "sink_audit";
  const LevelColors colors;
  CHECK_CONTAINS(line_of(record, "%^%l%$", &colors), "\x1b[1;35msink_audit");
  CHECK_CONTAINS(json_of(record), "\"level\":{\"name\":\"sink_audit\",\"no\":35}");
  for (const auto& [line, reader] : {std::pair{line_of(record), make_text_reader({}).release()},
                                     std::pair{json_of(record), make_json_reader().release()}}) {
    const std::unique_ptr<RecordReader> owner{reader};
    LogRecord back;
    REQUIRE(owner->read(line, back));
    CHECK(back.level == Level::warn);
    CHECK(back.level_name == "sink_audit");
  }
}
