#pragma once

// Records for the tests of sinks: a plain one, hostile ones, random ones, and what differs between two.

#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kindred/internal/record_reader.hpp"
#include "kindred/log_record.hpp"

namespace kindred::test {

inline LogRecord sample_record() {
  LogRecord record;
  record.time = std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now());
  record.message = "radius 2";
  record.worker = 0;
  record.pid = 4711;
  record.tid = 4712;
  record.task_id = 41;
  record.task_name = "area";
  record.attempt = 1;
  record.sequence = 9;
  record.fields = {{"user", std::int64_t{7}}, {"path", std::string{"a b"}}, {"ok", true}};
  return record;
}

inline const std::vector<std::string>& hostile_strings() {
  static const std::vector<std::string> strings = [] {
    std::vector<std::string> all{"",
                                 " ",
                                 "\n",
                                 "\r\n",
                                 "a\nb",
                                 "\t",
                                 std::string(1, '\0'),
                                 std::string("a\0b", 3),
                                 "\x1b[2J\x1b[H",
                                 "\x1b]0;title\x07",
                                 "\x7f",
                                 "\u0085",
                                 "\u009b31m",
                                 "\u202e\u202dabc\u202c",
                                 "\u2066x\u2069",
                                 "\u2028",
                                 "\ufeff",
                                 "\xff",
                                 "\xc3",
                                 "\xc3(",
                                 "\xed\xa0\x80",
                                 "\xf4\x90\x80\x80",
                                 "\xc0\xaf",
                                 "\\",
                                 "\\n",
                                 "\\x41",
                                 "\\u202e",
                                 "\\\\",
                                 "%s%n%x",
                                 "{}",
                                 "{0}",
                                 " {}",
                                 " {a=1}",
                                 "{a=1}",
                                 "x {a=\"b",
                                 "}",
                                 "{",
                                 "\"",
                                 "\"quoted\"",
                                 "a=b",
                                 "=",
                                 "#",
                                 "name#5",
                                 "[info]",
                                 "] [info] [w0] forged",
                                 "[2026-07-26 14:03:11.482913+02:00] [info] [parent] forged",
                                 "\n[2026-07-26 14:03:11.482913+00:00] [critical] [parent] forged",
                                 "<stdout>",
                                 "!late",
                                 "w0",
                                 "parent",
                                 "true",
                                 "false",
                                 "nan",
                                 "inf",
                                 "-inf",
                                 "5",
                                 "-5",
                                 "1.5",
                                 "1e5",
                                 "0x10",
                                 "null",
                                 "{\"record\":{}}",
                                 "漢字",
                                 "🙂",
                                 "ärger",
                                 "𝔘",
                                 "a\xf0\x9f\x99",
                                 "c:\\temp\\new",
                                 "\"\\",
                                 "\xff\"\\\n"};
    all.emplace_back(100'000, 'x');
    all.emplace_back(5000, '\n');
    all.emplace_back(5000, '\xfe');
    return all;
  }();
  return strings;
}

/// Every hostile string in every place that a string can have.
inline std::vector<LogRecord> hostile_records() {
  std::vector<LogRecord> records;
  for (const auto& text : hostile_strings()) {
    auto add = [&](auto change) {
      auto record = sample_record();
      change(record);
      records.push_back(std::move(record));
    };
    add([&](LogRecord& record) { record.message = text; });
    add([&](LogRecord& record) {
      record.message = text;
      record.fields.clear();
    });
    add([&](LogRecord& record) { record.logger = text; });
    add([&](LogRecord& record) { record.task_name = text; });
    add([&](LogRecord& record) { record.fields = {{text, std::int64_t{1}}}; });
    add([&](LogRecord& record) { record.fields = {{"key", text}, {"last", true}}; });
    add([&](LogRecord& record) {
      record.message = record.logger = record.task_name = text;
      record.fields = {{text, text}, {text, text}};
    });
  }
  return records;
}

inline std::string random_text(std::mt19937& random) {
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  std::string text;
  const unsigned pieces = below(12);
  for (unsigned i = 0; i < pieces; ++i) {
    switch (below(4)) {
      case 0: text += hostile_strings()[below(static_cast<unsigned>(hostile_strings().size() - 3))]; break;
      case 1: text += static_cast<char>(below(256)); break;
      default:
        for (unsigned k = below(20); k > 0; --k) text += static_cast<char>('a' + below(26));
    }
  }
  return text;
}

inline LogRecord random_record(std::mt19937& random) {
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  LogRecord record;
  record.time = decltype(record.time){std::chrono::nanoseconds{
      static_cast<std::int64_t>((std::uint64_t{random()} << 29U) ^ random()) * (below(2) == 0 ? 1 : -1)}};
  record.level = static_cast<Level>(below(6));
  record.logger = random_text(random);
  record.message = random_text(random);
  if (below(2) != 0)
    record.source = {kindred::internal::intern("/src/a b.cpp"), below(1000),
                     kindred::internal::intern("void f(int)")};
  record.worker = static_cast<int>(below(5)) - 1;
  if (record.worker >= 0) record.incarnation = below(3);
  record.pid = below(1U << 22U);
  record.tid = static_cast<std::uint32_t>(random());
  if (below(2) != 0) {
    record.task_id = (std::uint64_t{random()} << 32U) | random();
    record.task_name = random_text(random);
    record.attempt = below(4);
  }
  record.sequence = random();
  record.origin = static_cast<Origin>(below(5));
  record.late = below(4) == 0;
  for (unsigned i = below(4); i > 0; --i) {
    Field field{random_text(random), {}};
    switch (below(6)) {
      case 0: field.value = below(2) == 0; break;
      case 1: field.value = static_cast<std::int64_t>((std::uint64_t{random()} << 32U) | random()); break;
      case 2: field.value = (std::uint64_t{1} << 63U) | random(); break;
      case 3: {
        const std::uint64_t bits = (std::uint64_t{random()} << 32U) | random();
        double number = 0;
        std::memcpy(&number, &bits, sizeof number);
        field.value = number;
        break;
      }
      case 4: field.value = static_cast<double>(below(10)); break;
      default: field.value = random_text(random);
    }
    record.fields.push_back(std::move(field));
  }
  return record;
}

/// Takes away what the default text line does not carry.
inline void cut_to_default_line(LogRecord& record) {
  record.time = std::chrono::floor<std::chrono::microseconds>(record.time);
  record.source = {};
  record.pid = record.tid = 0;
  record.sequence = 0;
  if (record.worker < 0) record.incarnation = 0;
  if (record.task_id == 0 && record.task_name.empty()) record.attempt = 0;
}

/// Returns the first member in which the records differ, "" where they are the same (a NaN is the same as a
/// NaN).
inline std::string difference(const LogRecord& a, const LogRecord& b) {
  if (a.time != b.time) return "time";
  if (a.level != b.level) return "level";
  if (a.level_name != b.level_name) return "level_name";
  if (a.logger != b.logger) return "logger";
  if (a.message != b.message) return "message";
  if (a.source.file != b.source.file || a.source.line != b.source.line ||
      a.source.function != b.source.function)
    return "source";
  if (a.worker != b.worker) return "worker";
  if (a.incarnation != b.incarnation) return "incarnation";
  if (a.pid != b.pid) return "pid";
  if (a.tid != b.tid) return "tid";
  if (a.task_id != b.task_id) return "task_id";
  if (a.task_name != b.task_name) return "task_name";
  if (a.attempt != b.attempt) return "attempt";
  if (a.sequence != b.sequence) return "sequence";
  if (a.origin != b.origin) return "origin";
  if (a.late != b.late) return "late";
  if (a.fields.size() != b.fields.size()) return "fields";
  for (std::size_t i = 0; i < a.fields.size(); ++i) {
    if (a.fields[i].key != b.fields[i].key) return "field key " + std::to_string(i);
    const auto* const x = std::get_if<double>(&a.fields[i].value);
    const auto* const y = std::get_if<double>(&b.fields[i].value);
    if (x != nullptr && y != nullptr && std::isnan(*x) && std::isnan(*y)) continue;
    if (a.fields[i].value != b.fields[i].value) return "field value " + std::to_string(i);
  }
  return "";
}

}  // namespace kindred::test
