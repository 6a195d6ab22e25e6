// How arguments become a record and a record becomes a message again.

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include "kindred/internal/call_site.hpp"
#include "kindred/internal/record_encoder.hpp"
#include "record/fields.hpp"
#include "record/site.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;

namespace {

template <class... Args>
std::vector<std::byte> encode(const Args&... stored) {
  std::vector<std::byte> bytes((stored_bytes(stored) + ... + std::size_t{0}));
  std::byte* end = bytes.data();
  ((end = store(end, stored)), ...);
  REQUIRE(end == bytes.data() + bytes.size());
  return bytes;
}

struct Made {
  std::string message;
  std::vector<Field> fields;
};

template <class... Args>
Made make(std::string_view format, const Args&... stored) {
  const Site site{SiteFacts{.format = format,
                            .file = "f.cpp",
                            .function = "f",
                            .types = StoredTypes<Args...>::view(),
                            .level_name = {},
                            .line = 1,
                            .level = Level::info}};
  Made made;
  TextBuffer text;
  REQUIRE(site.format(encode(stored...), text, made.fields));
  made.message = text.view();
  return made;
}

/// The collector's message must be what fmt makes of the same arguments.
template <class... Args>
void same_as_fmt(std::string_view format, const Args&... args) {
  INFO("format ", std::string{format});
  CHECK(make(format, as_stored(args)...).message == fmt::vformat(format, fmt::make_format_args(args...)));
}

}  // namespace

TEST_CASE("a message is what fmt makes of the same format and arguments") {
  const std::string text = "customer 4711";
  same_as_fmt("plain");
  same_as_fmt("");
  same_as_fmt("{{}} {{x}}");
  same_as_fmt("{} ordered {} items for {} euro", text, 17, 4.25);
  same_as_fmt("{1} before {0}, and {1} again", 1, text);
  same_as_fmt("{0}{0}{0}", text);
  same_as_fmt("only the second: {1}", 5, 6);
  same_as_fmt("{:>10}|{:<10}|{:^10}|", text.substr(0, 3), 17, true);
  same_as_fmt("{:#x} {:#o} {:#b} {:X}", 255, 8U, 5, 0xdeadbeefcafeU);
  same_as_fmt("{:08.3f} {:e} {:g} {:a}", 3.14159, 1e100, 1e-5, 1.5);
  same_as_fmt("{:+} {: } {:-}", 1, 2, 3);
  same_as_fmt("{:*^20}", text);
  same_as_fmt("{:.3}", text);
  same_as_fmt("{} {} {}", true, 'c', false);
  same_as_fmt("{:d} {:c} {:d}", 'a', 98, true);
  same_as_fmt("{} {}", std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::uint64_t>::max());
  same_as_fmt("{} {}", std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::uint32_t>::max());
  same_as_fmt("{} {} {} {}", static_cast<signed char>(-5), static_cast<unsigned char>(5),
              static_cast<short>(-300), static_cast<unsigned short>(300));
  same_as_fmt("{} {} {}", 1.0, 0.1F, -0.0);
  same_as_fmt("{} {} {}", std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
              std::numeric_limits<double>::max());
  same_as_fmt("{} {}", std::numeric_limits<double>::denorm_min(), std::numeric_limits<float>::max());
  same_as_fmt("{}", "literal");
  same_as_fmt("{} {}", static_cast<const void*>(nullptr), reinterpret_cast<const void*>(0xabcdefUL));
  same_as_fmt("{:p}", reinterpret_cast<const void*>(0xabcdefUL));
  same_as_fmt("{}", std::string("embedded\0nul", 12));
  same_as_fmt("{}", std::string(100'000, 'x'));
}

TEST_CASE("a million random doubles are printed as fmt prints them") {
  std::mt19937_64 random{3};
  const Site site{SiteFacts{.format = "{}",
                            .file = {},
                            .function = {},
                            .types = StoredTypes<double>::view(),
                            .level_name = {},
                            .line = 1,
                            .level = Level::info}};
  TextBuffer text;
  std::vector<Field> fields;
  const int count = test::long_run() ? 1'000'000 : 50'000;
  for (int i = 0; i < count; ++i) {
    double value;
    const std::uint64_t bits = random();
    std::memcpy(&value, &bits, sizeof value);
    text.clear();
    REQUIRE(site.format(encode(value), text, fields));
    REQUIRE(text.view() == fmt::format("{}", value));
  }
}

TEST_CASE("whole numbers of every length are printed as fmt prints them") {
  const auto check = [](std::uint64_t number) {
    TextBuffer text;
    text.append_number(number);
    text.push_back(' ');
    text.append_number(static_cast<std::int64_t>(number));
    REQUIRE(text.view() == fmt::format("{} {}", number, static_cast<std::int64_t>(number)));
  };
  for (std::uint64_t number = 0; number < 20'000; ++number) check(number);
  for (std::uint64_t power = 1;; power *= 10) {
    for (const std::uint64_t number : {power - 1, power, power + 1, ~power}) check(number);
    if (power > ~std::uint64_t{0} / 10) break;
  }
}

TEST_CASE("texts of every length from 0 to 100 are copied whole") {
  for (std::size_t length = 0; length <= 100; ++length) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) text += static_cast<char>('!' + i % 90);
    CHECK(make("<{}>", std::string_view{text}).message == "<" + text + ">");
  }
}

TEST_CASE("key-values become fields of their own type and take no part in the message") {
  const int id = 42;
  const std::string name = "ada";
  const auto made = make("login of {}", as_stored(name), as_stored(kv("id", id)), as_stored(kv("ok", true)),
                         as_stored(kv("name", name)), as_stored(kv("share", 0.5)),
                         as_stored(kv("big", std::uint64_t{1} << 63U)), as_stored(kv("letter", 'x')));
  CHECK(made.message == "login of ada");
  REQUIRE(made.fields.size() == 6);
  CHECK(made.fields[0].key == "id");
  CHECK(std::get<std::int64_t>(made.fields[0].value) == 42);
  CHECK(std::get<bool>(made.fields[1].value));
  CHECK(std::get<std::string>(made.fields[2].value) == "ada");
  CHECK(std::get<double>(made.fields[3].value) == 0.5);
  CHECK(std::get<std::uint64_t>(made.fields[4].value) == std::uint64_t{1} << 63U);
  CHECK(std::get<std::string>(made.fields[5].value) == "x");
}

TEST_CASE("fields come back as they were sent, and an inner one hides an outer one of its name") {
  std::vector<Field> outer{{"a", std::int64_t{-1}}, {"b", true}, {"c", std::string{"x\ny"}}};
  std::vector<Field> inner{{"b", 2.5}, {"d", std::uint64_t{7}}};
  std::vector<std::byte> first;
  std::vector<std::byte> second;
  encode_fields(first, outer, 1000);
  encode_fields(second, inner, 1000);
  std::vector<Field> fields;
  REQUIRE(decode_fields(first, fields));
  REQUIRE(decode_fields(second, fields));
  REQUIRE(fields.size() == 4);
  CHECK(std::get<std::int64_t>(fields[0].value) == -1);
  CHECK(std::get<double>(fields[1].value) == 2.5);
  CHECK(std::get<std::string>(fields[2].value) == "x\ny");
  CHECK(std::get<std::uint64_t>(fields[3].value) == 7);
}

TEST_CASE("fields that are too much for their room are cut or left out, never broken") {
  std::vector<Field> many;
  for (int i = 0; i < 500; ++i) many.push_back({"key" + std::to_string(i), std::string(300, 'v')});
  for (const std::size_t room : {64U, 100U, 1000U, 5000U, 1'000'000U}) {
    std::vector<std::byte> bytes;
    encode_fields(bytes, many, room);
    CHECK(bytes.size() <= room);
    std::vector<Field> fields;
    CHECK(decode_fields(bytes, fields));
    CHECK(fields.size() <= 256);
  }
}

TEST_CASE(
    "formats that need their arguments as they are at the call are known as such when they are compiled") {
  static_assert(needs_the_caller("{:{}}"));
  static_assert(needs_the_caller("{:.{}f}"));
  static_assert(needs_the_caller("{:p}"));
  static_assert(!needs_the_caller("{} {:>8} {{ {{}} p"));
}

TEST_CASE("the same site is the same object, and survives a turn through its bytes") {
  std::vector<std::byte> bytes;
  const SiteFacts facts{.format = "a {} b",
                        .file = "/src/x.cpp",
                        .function = "void f()",
                        .types = {"\x03", 1},
                        .level_name = "audit",
                        .line = 77,
                        .level = Level::warn};
  encode_site(bytes, facts);
  CHECK(bytes.size() % 8 == 0);
  SiteTable table;
  const Site* const site = table.intern(bytes);
  REQUIRE(site != nullptr);
  CHECK(table.intern(facts) == site);
  CHECK(site->source().file == "/src/x.cpp");
  CHECK(site->source().line == 77);
  CHECK(site->source().function == "void f()");
  CHECK(site->level() == Level::warn);
  CHECK(site->level_name() == "audit");
}

TEST_CASE("where the places of a log are too many to be kept, a record has none, and is read all the same") {
  const auto outcome = kindred::test::run_forked([] {
    SiteTable table;
    const std::string long_name(1024, 'n');
    const std::string long_format(60 * 1024, 'f');
    for (int i = 0; i < 1'200; ++i) {
      const Site* const site = table.intern(SiteFacts{.format = long_format + std::to_string(i),
                                                      .file = long_name,
                                                      .function = long_name,
                                                      .types = {},
                                                      .level_name = {},
                                                      .line = 5,
                                                      .level = Level::warn});
      if (site == nullptr) ::_exit(3);
    }
    const std::string types(1, static_cast<char>(ArgType::message));
    for (int i = 0; i < 20'000; ++i) {
      const Site* const site = table.intern(SiteFacts{.format = {},
                                                      .file = long_name + std::to_string(i),
                                                      .function = {},
                                                      .types = types,
                                                      .level_name = {},
                                                      .line = 5,
                                                      .level = Level::warn});
      if (site == nullptr || site->level() != Level::warn) ::_exit(4);
      if (i > 10'000 && site->source().line != 0) ::_exit(5);
    }
    // Another log has a table of its own.
    SiteTable other;
    const Site* const site = other.intern(SiteFacts{
        .format = {}, .file = "a.cpp", .function = "f", .types = types, .level_name = {}, .line = 7});
    if (site == nullptr || site->source().line != 7 || site->source().file != "a.cpp") ::_exit(6);
  });
  INFO(kindred::test::to_string(outcome));
  CHECK(outcome.code == 0);
}

TEST_CASE("the places of a log end with it, but for the names that its records carry") {
  const auto outcome = kindred::test::run_forked([] {
    LogRecord record;
    const auto before = ::mallinfo2().uordblks;
    std::size_t during = 0;
    {
      SiteTable table;
      const std::string long_format(1024, 'f');
      const std::string types(1, static_cast<char>(ArgType::message));
      for (std::uint32_t line = 1; line <= 40'000; ++line) {
        const Site* const site = table.intern(SiteFacts{.format = long_format,
                                                        .file = "/src/generated.cpp",
                                                        .function = "void generated()",
                                                        .types = types,
                                                        .level_name = {},
                                                        .line = line});
        if (site == nullptr || site->source().line != line) ::_exit(3);
        record.source = site->source();
      }
      during = ::mallinfo2().uordblks;
    }
    if (during == before) ::_exit(77);
    if (during - before < 20'000'000) ::_exit(4);
    if (::mallinfo2().uordblks - before > 100'000) ::_exit(5);
    if (record.source.file != "/src/generated.cpp" || record.source.function != "void generated()")
      ::_exit(6);
  });
  if (outcome.code == 77) KINDRED_SKIP("a sanitizer's allocator does not count as the C library's does");
  INFO(kindred::test::to_string(outcome));
  CHECK(outcome.code == 0);
}

TEST_CASE("a log that names places without end takes the names of no other log, nor do many such logs") {
  const auto outcome = kindred::test::run_forked([] {
    const std::string types(1, static_cast<char>(ArgType::message));
    const auto place = [&](SiteTable& table, const std::string& file) {
      const Site* const site = table.intern(SiteFacts{
          .format = {}, .file = file, .function = "f", .types = types, .level_name = {}, .line = 7});
      if (site == nullptr) ::_exit(3);
      return site->source().line;
    };
    // Of twelve logs each takes what it may, under other names than the one before.
    for (int log = 0; log < 12; ++log) {
      SiteTable greedy;
      const std::string long_name = std::to_string(log) + std::string(900, 'n');
      for (int i = 0; i < 5'000; ++i) (void)place(greedy, long_name + std::to_string(i));
      for (int i = 0; i < 100; ++i)
        (void)place(greedy, std::to_string(100 * log + i));  // shorter ones fill it up
      if (place(greedy, "one more.cpp") != 0) ::_exit(4);
    }
    SiteTable other;
    if (place(other, "one more.cpp") != 7) ::_exit(5);
  });
  INFO(kindred::test::to_string(outcome));
  CHECK(outcome.code == 0);
}

TEST_CASE("a site or a record that lies about itself is refused, and read within its bounds") {
  std::vector<std::byte> good;
  encode_site(good, {.format = "{} {:>5} {}",
                     .file = "f",
                     .function = "g",
                     .types = {"\x09\x03\x89", 3},
                     .level_name = {},
                     .line = 1,
                     .level = Level::info});
  std::mt19937 random{9};
  std::size_t refused = 0;
  for (int i = 0; i < 5'000; ++i) {
    std::vector<std::byte> bad = good;
    for (unsigned flips = 1 + random() % 4; flips > 0; --flips)
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    if (random() % 4 == 0) bad.resize(random() % bad.size());
    SiteTable table;
    const Site* const site = table.intern(bad);
    if (site == nullptr) {
      ++refused;
      continue;
    }
    std::vector<std::byte> arguments(random() % 64);
    for (auto& byte : arguments) byte = static_cast<std::byte>(random() % 16);
    TextBuffer text;
    std::vector<Field> fields;
    static_cast<void>(site->format(arguments, text, fields));
    REQUIRE(text.size() < 1'000'000);
  }
  CHECK(refused > 100);
}

TEST_CASE("a format from elsewhere cannot ask for a message of a gigabyte") {
  const auto made = make("{:1000000000}", std::int32_t{1});
  CHECK(made.message == "{:1000000000}");
}
