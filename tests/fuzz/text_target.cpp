// Text that is anything: patterns, escapes, and lines that claim to be a log's.
#include <cstdlib>
#include <string>

#include "fuzz.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/record_reader.hpp"

using namespace kindred;
using namespace kindred::internal;
using kindred::fuzz::Bytes;
using kindred::fuzz::bytes_of;
using kindred::fuzz::text_of;

namespace {

LogRecord a_record(Bytes& bytes) {
  LogRecord record;
  record.time = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>{
      std::chrono::nanoseconds{bytes.value<std::int64_t>() / 2}};  // 1823 to 2116
  record.level = static_cast<Level>(bytes.value<std::uint8_t>() % 6);
  record.worker = bytes.value<std::uint8_t>() % 8 - 1;
  record.task_id = bytes.value<std::uint16_t>();
  record.task_name = text_of(bytes.take(bytes.value<std::uint8_t>() % 32));
  static std::string logger;
  logger = text_of(bytes.take(bytes.value<std::uint8_t>() % 32));
  record.logger = logger;
  record.message = text_of(bytes.rest());
  return record;
}

void check_line(std::string_view line) {
  for (const char c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      __builtin_trap();  // one record, one line, no raw control byte
  }
}

}  // namespace

// u8 bytes of the pattern, pattern, a record
KINDRED_FUZZ_TARGET(pattern) {
  Bytes bytes{input};
  const std::string pattern{text_of(bytes.take(bytes.value<std::uint8_t>()))};
  const LogRecord record = a_record(bytes);
  TextBuffer line;
  bool literal_controls = false;
  for (const char c : pattern)
    literal_controls = literal_controls || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  try {
    PatternFormatter formatter{pattern};
    formatter.append(record, line);
    if (!literal_controls) check_line(line.view());
    const auto reader = make_text_reader(pattern);
    LogRecord back;
    (void)reader->read(line.view(), back);
  } catch (const UsageError&) {  // a pattern that means nothing
  }
  // The default line carries name, task and message exactly.
  line.clear();
  PatternFormatter standard{""};
  standard.append(record, line);
  check_line(line.view());
  LogRecord back;
  if (!make_text_reader("")->read(line.view(), back)) __builtin_trap();
  if (back.message != record.message) __builtin_trap();
  line.clear();
  JsonFormatter json;
  json.append(record, line);
  check_line(line.view());
  LogRecord third;
  if (!make_json_reader()->read(line.view(), third) || third.message != record.message ||
      third.task_name != record.task_name)
    __builtin_trap();
}

KINDRED_FUZZ_SEEDS(pattern) {
  const auto with = [&](std::string_view pattern) {
    std::string text(1, static_cast<char>(pattern.size()));
    text += pattern;
    text += std::string(
        "\x01\x02\x03\x04\x05\x06\x07\x08\x02\x01\x05\x00\x04"
        "area"
        "\x03"
        "net"
        "a message {a=1}\n\x1b[31m",
        45);
    seed("pattern" + std::to_string(pattern.size()), bytes_of(text));
  };
  with("");
  with(default_pattern);
  with("%+ [%n] %-8l|%=20v|%5!t %% %o %E");
  with("%Y%m%d %T.%e %W %v");
}

KINDRED_FUZZ_TARGET(escape) {
  const std::string text{text_of(input)};
  TextBuffer out;
  for (const auto where : {EscapeIn::message, EscapeIn::quotes, EscapeIn::field_quotes}) {
    out.clear();
    append_escaped(out, text, where);
    check_line(out.view());
    std::string back;
    if (!append_unescaped(back, out.view()) || back != text) __builtin_trap();
    if (where == EscapeIn::message && needs_escape(text) != (out.view() != text)) __builtin_trap();
  }
  std::string ignored;
  (void)append_unescaped(ignored, text);
  out.clear();
  (void)append_json_escaped(out, text);
  check_line(out.view());
  out.clear();
  append_token(out, text);
  check_line(out.view());
}

KINDRED_FUZZ_SEEDS(escape) {
  seed("hostile", bytes_of("a\\b\n\r\t\x1b[31m\x7f\xff\xc3\xa4\xe2\x80\xae\"{ \xed\xa0\x80"));
  seed("escaped", bytes_of("\\x00\\n\\\\\\u202e\\\"\\xff"));
}

// u8: 0 text, 1 JSON, 2 text with a pattern (u8 bytes, pattern); then the line
KINDRED_FUZZ_TARGET(line) {
  Bytes bytes{input};
  const auto which = bytes.value<std::uint8_t>() % 3;
  LogRecord record;
  bool read = false;
  if (which == 1) {
    const std::string text{text_of(bytes.rest())};
    read = make_json_reader()->read(text, record);
  } else {
    const std::string pattern{which == 2 ? text_of(bytes.take(bytes.value<std::uint8_t>() % 64))
                                         : std::string_view{}};
    const std::string text{text_of(bytes.rest())};
    try {
      read = make_text_reader(pattern)->read(text, record);
    } catch (const UsageError&) {}
    std::string_view left = text;
    Field field;
    while (!left.empty() && take_field(left, field)) {}
  }
  if (!read) return;
  // What was read can be written, in both forms, and read again as the same.
  TextBuffer out;
  JsonFormatter{}.append(record, out);
  check_line(out.view());
  LogRecord again;
  if (!make_json_reader()->read(out.view(), again) || again.message != record.message) __builtin_trap();
  out.clear();
  PatternFormatter{""}.append(record, out);
  check_line(out.view());
  LogRecord third;
  if (!make_text_reader("")->read(out.view(), third) || third.message != record.message) __builtin_trap();
}

KINDRED_FUZZ_SEEDS(line) {
  const auto text = [&](std::string_view name, char which, std::string_view line) {
    seed(name, bytes_of(std::string(1, which) + std::string{line}));
  };
  text(
      "text", 0,
      "[2026-07-26 14:03:11.482913+02:00] [info] [w0.1 area#41/2 net !late] radius 2 {user=7 name=\"a \\\"b\" x=1.5 y=true}");
  text("parent", 0, "[2026-07-26 14:03:11.482913+02:00] [critical] [parent <lifecycle>] worker 1 died\\n");
  text(
      "json", 1,
      R"({"text": "radius 2", "record": {"elapsed": {"repr": "0:00:00", "seconds": 0}, "exception": null, "extra": {"user": 7}, "file": {"name": "main.cpp", "path": "/a/main.cpp"}, "function": "area", "level": {"icon": "", "name": "INFO", "no": 20}, "line": 7, "message": "radius 2", "module": "main", "name": "net", "process": {"id": 1, "name": "w0"}, "thread": {"id": 1, "name": "x"}, "time": {"repr": "2026-07-26 14:03:11.482913+02:00", "timestamp": 1785067391.48}}})");
  LogRecord record;
  record.message = "m \xff\n";
  record.task_name = "area";
  record.task_id = 41;
  record.worker = 3;
  TextBuffer out;
  JsonFormatter{}.append(record, out);
  text("own_json", 1, out.view());
  text("pattern", 2, "\x10[%l] %n: %v     [info] net: text");
}
