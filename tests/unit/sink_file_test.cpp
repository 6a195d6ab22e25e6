// Log files: rotation by each trigger, retention, packing, what a crash leaves, logrotate, attacks, full
// disks.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/internal/archive.hpp"
#include "kindred/internal/file_sink.hpp"
#include "kindred/internal/packed_file.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/rotation.hpp"
#include "kindred/read_log.hpp"
#include "kindred/sinks.hpp"
#include "support/file_size_limit.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

namespace test = kindred::test;
namespace fs = std::filesystem;
using namespace kindred;
using namespace kindred::internal;
using namespace std::chrono_literals;

namespace {

/// What the sinks' clock says: also to the thread that packs and removes files.
std::atomic<FileTime> test_time{};
FileTime test_clock() { return test_time; }
void pass_time(FileTime::duration passed) { test_time = test_time.load() + passed; }

LineFormat text_lines() {
  auto formatter = std::make_shared<PatternFormatter>("");
  return [formatter](const LogRecord& record, TextBuffer& out) { formatter->append(record, out); };
}

LogRecord numbered(std::uint64_t number, FileTime time = test_clock()) {
  LogRecord record = test::sample_record();
  record.time = time;
  record.task_id = number + 1;
  record.message = "record " + std::to_string(number);
  return record;
}

std::vector<std::string> messages_in(const std::string& path, bool rotated = false) {
  std::vector<std::string> messages;
  auto file = read_log(path, {.rotated = rotated});
  for (const auto& record : file) messages.push_back(record.message);
  CHECK(file.bad_lines() == 0);
  return messages;
}

std::vector<std::string> numbered_messages(std::uint64_t from, std::uint64_t to) {
  std::vector<std::string> messages;
  for (; from < to; ++from) messages.push_back("record " + std::to_string(from));
  return messages;
}

std::size_t rotated_count(const std::string& path) { return Archive::list(path).size(); }

/// A moment of local time, in a zone with daylight saving that needs no zone files.
class CentralEurope {
 public:
  CentralEurope() {
    if (const char* const zone = std::getenv("TZ"))
      before_ = zone;
    else
      none_ = true;
    ::setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    ::tzset();
  }
  ~CentralEurope() {
    if (none_)
      ::unsetenv("TZ");
    else
      ::setenv("TZ", before_.c_str(), 1);
    ::tzset();
  }
  static FileTime at(int year, int month, int day, int hour = 0, int minute = 0, int second = 0) {
    std::tm time{};
    time.tm_year = year - 1900;
    time.tm_mon = month - 1;
    time.tm_mday = day;
    time.tm_hour = hour;
    time.tm_min = minute;
    time.tm_sec = second;
    time.tm_isdst = -1;
    return FileTime{std::chrono::seconds{std::mktime(&time)}};
  }

 private:
  std::string before_;
  bool none_ = false;
};

/// What is written to standard error meanwhile.
class CapturedErrors {
 public:
  explicit CapturedErrors(const std::string& path) : path_{path}, before_{::dup(2)} {
    std::fflush(stderr);
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(file, 2);
    ::close(file);
  }
  ~CapturedErrors() {
    ::dup2(before_, 2);
    ::close(before_);
  }
  [[nodiscard]] std::string text() const { return test::read_file(path_); }

 private:
  std::string path_;
  int before_;
};

}  // namespace

TEST_CASE("sizes, times, intervals and weekdays are understood, and nothing else") {
  using Kind = RotateWhen::Kind;
  CHECK(RotateWhen{"100 MB"}.bytes() == 100'000'000);
  CHECK(RotateWhen{"0.5 GiB"}.bytes() == 536'870'912);
  CHECK(RotateWhen{"10kB"}.bytes() == 10'000);
  CHECK(RotateWhen{"1e6 B"}.bytes() == 1'000'000);
  CHECK(RotateWhen{"00:00"}.kind() == Kind::time_of_day);
  CHECK(RotateWhen{"18:30:15"}.seconds() == 66'615);
  CHECK(RotateWhen{"1 week"}.seconds() == 604'800);
  CHECK(RotateWhen{"1 h 30 min"}.seconds() == 5'400);
  CHECK(RotateWhen{"2 hours, 5 s"}.seconds() == 7'205);
  CHECK(RotateWhen{90min}.seconds() == 5'400);
  CHECK(RotateWhen{"sunday at 12:00"}.weekday() == 0);
  CHECK(RotateWhen{"Monday"}.kind() == Kind::weekday);
  CHECK(RotateWhen{"monthly"}.kind() == Kind::month);
  for (const auto* text : {"", "100", "MB", "25:00", "1:2:3:4", "12:60", "1 fortnight", "someday", "-5 MB",
                           "0 s", "inf B", "nan B", "100 mb", "1e30 GB", "monday at noon"}) {
    CAPTURE(text);
    CHECK_THROWS_CONTAINS(RotateWhen{text}, UsageError, "Examples: \"100 MB\"");
  }
  CHECK(RetainLimit{"10"}.kind() == RetainLimit::Kind::count);
  CHECK(RetainLimit{5}.amount() == 5);
  CHECK(RetainLimit{"2 GB"}.kind() == RetainLimit::Kind::bytes);
  CHECK(RetainLimit{24h}.amount() == 86'400);
  CHECK_THROWS_CONTAINS(RetainLimit{"plenty"}, UsageError, "'plenty'");
  CHECK_THROWS_CONTAINS(RetainLimit{-1}, UsageError, "negative");
  CHECK_THROWS_CONTAINS(RotateWhen{0s}, UsageError, "too short");
}

TEST_CASE("the next turn of a clock trigger follows calendar and daylight saving") {
  const CentralEurope zone;
  const auto at = [](auto... parts) { return CentralEurope::at(parts...); };
  CHECK(next_turn("00:00", at(2026, 7, 26, 14, 3)) == at(2026, 7, 27));
  CHECK(next_turn("00:00", at(2026, 7, 26)) == at(2026, 7, 27));
  CHECK(next_turn("18:30", at(2026, 7, 26, 14, 3)) == at(2026, 7, 26, 18, 30));
  // 29 March 2026: 2:00 is 3:00; the day has 23 hours. 25 October: 25 hours.
  CHECK(next_turn("00:00", at(2026, 3, 29)) - at(2026, 3, 29) == 23h);
  CHECK(next_turn("00:00", at(2026, 10, 25)) - at(2026, 10, 25) == 25h);
  CHECK(next_turn("02:30", at(2026, 3, 28, 12)) > at(2026, 3, 29, 1, 59));
  CHECK(next_turn("02:30", at(2026, 3, 28, 12)) < at(2026, 3, 29, 4));
  CHECK(next_turn("monday", at(2026, 7, 26, 14, 3)) == at(2026, 7, 27));
  CHECK(next_turn("monday", at(2026, 7, 27)) == at(2026, 8, 3));
  CHECK(next_turn("sunday at 12:00", at(2026, 7, 26, 11)) == at(2026, 7, 26, 12));
  CHECK(next_turn("weekly", at(2026, 7, 28)) == at(2026, 8, 3));
  CHECK(next_turn("monthly", at(2026, 12, 5)) == at(2027, 1, 1));
  CHECK(next_turn("yearly", at(2026, 1, 1)) == at(2027, 1, 1));
  CHECK(next_turn("hourly", at(2026, 7, 26, 14, 3, 9)) == at(2026, 7, 26, 15));
  CHECK(next_turn("2 days", at(2026, 7, 26, 14, 3)) == at(2026, 7, 28, 14, 3));
  CHECK(next_turn("100 MB", at(2026, 7, 26)) == FileTime::max());
}

TEST_CASE("a log file in a folder that is gone is refused, with a mend") {
  const auto before = fs::current_path();
  {
    const test::TemporaryFolder gone;
    fs::current_path(gone.path());
  }
  std::string said;
  int code = 0;
  try {
    const FileSink sink{"app.log", {}, text_lines()};
  } catch (const SystemError& error) {
    said = error.what();
    code = error.code().value();
  }
  fs::current_path(before);
  CHECK(code == ENOENT);
  CHECK(test::contains(said, "finding the folder that 'app.log' is in"));
  CHECK(test::contains(said, "Give the path of the log file from the root"));
}

TEST_CASE("a file is rotated before the line that would make it too large") {
  const test::TemporaryFolder folder;
  const auto path = folder / "logs/deep/app.log";
  test_time = FileSink::system_now();
  {
    FileSink sink{path, {.rotate = "10 kB", .buffer_bytes = 4096}, text_lines(), &test_clock};
    for (std::uint64_t i = 0; i < 1000; ++i) sink.write(numbered(i));
  }
  const auto rotated = Archive::list(path);
  CHECK(rotated.size() > 5);
  for (const auto& file : rotated) {
    CHECK(file.bytes <= 10'000);
    CHECK(file.bytes > 9'700);
  }
  CHECK(messages_in(path, true) == numbered_messages(0, 1000));
}

TEST_CASE("a line longer than the size limit has a file of its own") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  FileSink sink{path, {.rotate = "1 kB"}, text_lines()};
  for (std::uint64_t i = 0; i < 3; ++i) {
    auto record = numbered(i);
    record.message.append(5'000'000, 'x');
    sink.write(record);
  }
  sink.flush();
  CHECK(rotated_count(path) == 2);
  CHECK(messages_in(path, true).size() == 3);
}

TEST_CASE("a file is rotated at a time of day, by the record's time, once the clock agrees") {
  const CentralEurope zone;
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  const auto midnight = CentralEurope::at(2026, 7, 27);
  test_time = CentralEurope::at(2026, 7, 26, 14);
  FileSink sink{path, {.rotate = "00:00"}, text_lines(), &test_clock};
  sink.write(numbered(0));
  sink.write(numbered(1, midnight + 24h * 365));  // a wrong time
  sink.flush();
  CHECK(rotated_count(path) == 0);
  test_time = midnight + 1s;
  sink.write(numbered(2, midnight - 1us));
  CHECK(rotated_count(path) == 0);
  sink.write(numbered(3, midnight));
  CHECK(rotated_count(path) == 1);
  sink.write(numbered(4, midnight - 1us));  // late
  test_time = midnight + 23h;
  sink.write(numbered(5, test_clock()));
  CHECK(rotated_count(path) == 1);
  test_time = midnight + 24h;
  sink.write(numbered(6, test_clock()));
  CHECK(rotated_count(path) == 2);
  sink.flush();
  CHECK(messages_in(path) == numbered_messages(6, 7));
  CHECK(messages_in(path, true) == numbered_messages(0, 7));
}

TEST_CASE("a file is rotated after an interval, and by a function that sees record and file") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  test_time = FileSink::system_now();
  std::uint64_t asked = 0;
  FileSink sink{path,
                {.rotate = {"1 week",
                            [&](const LogRecord& record, const FileState& file) {
                              ++asked;
                              CHECK(file.path == path);
                              return record.message == "record 4" && file.records == 4;
                            }}},
                text_lines(),
                &test_clock};
  for (std::uint64_t i = 0; i < 6; ++i) sink.write(numbered(i));
  CHECK(rotated_count(path) == 1);
  CHECK(asked == 6);
  pass_time(24h * 7);
  sink.write(numbered(6));
  CHECK(rotated_count(path) == 2);
  sink.flush();
  CHECK(messages_in(path, true) == numbered_messages(0, 7));
}

TEST_CASE("a rotation function that throws is reported, and loses nothing") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  const CapturedErrors errors{folder / "errors"};
  FileSink sink{
      path,
      {.rotate = [](const LogRecord&, const FileState&) -> bool { throw std::runtime_error{"no idea"}; }},
      text_lines()};
  for (std::uint64_t i = 0; i < 5; ++i) sink.write(numbered(i));
  sink.flush();
  CHECK(messages_in(path) == numbered_messages(0, 5));
  CHECK_CONTAINS(errors.text(), "threw no idea");
}

TEST_CASE("a file of a former run is continued, and its age counts") {
  const CentralEurope zone;
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  test_time = FileSink::system_now();
  { FileSink{path, {}, text_lines(), &test_clock}.write(numbered(0)); }
  pass_time(48h);
  FileSink sink{path, {.rotate = "00:00"}, text_lines(), &test_clock};
  sink.write(numbered(1));
  CHECK(rotated_count(path) == 1);
  sink.flush();
  CHECK(messages_in(path, true) == numbered_messages(0, 2));
}

TEST_CASE("truncate begins anew, append does not, delay makes no file before the first record") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  { FileSink{path, {}, text_lines()}.write(numbered(0)); }
  { FileSink{path, {}, text_lines()}.write(numbered(1)); }
  CHECK(messages_in(path) == numbered_messages(0, 2));
  { FileSink{path, {.truncate = true}, text_lines()}.write(numbered(2)); }
  CHECK(messages_in(path) == numbered_messages(2, 3));
  FileSink late{folder / "late.log", {.delay = true}, text_lines()};
  late.flush();
  CHECK_FALSE(fs::exists(folder / "late.log"));
  late.write(numbered(0));
  late.flush();
  CHECK(messages_in(folder / "late.log").size() == 1);
}

TEST_CASE("a new file has the mode that was asked for, less the umask") {
  const test::TemporaryFolder folder;
  const auto mode_of = [](const std::string& path) {
    return static_cast<unsigned>(fs::status(path).permissions());
  };
  const mode_t before = ::umask(022);
  { const FileSink sink{folder / "a.log", {}, text_lines()}; }
  { const FileSink sink{folder / "b.log", {.mode = 0666}, text_lines()}; }
  ::umask(before);
  CHECK(mode_of(folder / "a.log") == 0640);
  CHECK(mode_of(folder / "b.log") == 0644);
}

TEST_CASE("rotated names only grow, also where the clock goes back, and replace nothing") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  test_time = FileSink::system_now();
  FileSink sink{path,
                {.rotate = [](const LogRecord&, const FileState& file) { return file.records > 0; }},
                text_lines(),
                &test_clock};
  for (std::uint64_t i = 0; i < 10; ++i) {
    sink.write(numbered(i));
    pass_time(-1h);
  }
  // Another program takes the next name.
  const auto last = Archive::list(path).back();
  test_time = last.rotated + 1s;
  Archive names{path, {}, &test_clock};
  const auto taken = names.next_name();
  test::write_file(taken, "not ours\n");
  sink.write(numbered(10));
  sink.flush();
  CHECK(test::read_file(taken) == "not ours\n");
  fs::remove(taken);
  CHECK(messages_in(path, true) == numbered_messages(0, 11));
}

TEST_CASE("a file that was moved away is made anew when it is watched") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  for (const bool watch : {false, true}) {
    fs::remove(path);
    FileSink sink{path, {.watch = watch}, text_lines()};
    sink.write(numbered(0));
    fs::rename(path, path + ".1");
    sink.flush();
    CHECK(fs::exists(path) == watch);
    CHECK(messages_in(watch ? path : path + ".1") == numbered_messages(0, 1));
  }
}

TEST_CASE("retention by count, age, total size and a function removes the oldest, and only what is ours") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  test_time = std::chrono::floor<std::chrono::microseconds>(FileSink::system_now());
  const auto make = [&] {
    for (const auto& file : Archive::list(path)) fs::remove(file.path);
    for (int i = 0; i < 10; ++i) {
      Archive names{path, {}, [] { return test_clock() - 240h; }};
      test::write_file(names.next_name(), std::string(1000, 'x'));
    }
    test::write_file(folder / "app.log.1", "x");
    test::write_file(folder / "app.backup.log", "x");
    test::write_file(folder / "app.20260726T140311.482913Z.log.orig", "x");
    test::write_file(folder / "application.20260726T140311.482913Z.log", "x");
  };
  const auto tidy = [&](FileOptions options) {
    Archive archive{path, options, &test_clock};
    archive.tidy();
    archive.wait_idle();
    return Archive::list(path);
  };
  make();
  const auto all = Archive::list(path);
  REQUIRE(all.size() == 10);
  const auto by_count = tidy({.retention = 4});
  REQUIRE(by_count.size() == 4);
  CHECK(by_count.front().path == all[6].path);
  make();
  CHECK(tidy({.retention = "4.5 kB"}).size() == 4);
  make();
  CHECK(tidy({.retention = "11 days"}).size() == 10);
  CHECK(tidy({.retention = "9 days"}).empty());
  make();
  CHECK(tidy({.retention = {8,
                            [](const std::vector<RotatedFile>& files) {
                              return std::vector<RotatedFile>{files[0], files[3],
                                                              RotatedFile{.path = "/etc/passwd"}};
                            }}})
            .size() == 6);
  make();
  CHECK(tidy({.retention = 0}).empty());
  for (const auto* name : {"app.log.1", "app.backup.log", "app.20260726T140311.482913Z.log.orig",
                           "application.20260726T140311.482913Z.log"})
    CHECK(fs::exists(folder / name));
}

TEST_CASE("rotated files are packed, read back, and counted by retention") {
  const test::TemporaryFolder folder;
  for (const auto compression : {Compression::gz, Compression::zst}) {
    const auto path = folder / ("app" + std::string{suffix_of(compression)} + ".log");
    {
      FileSink sink{
          path, {.rotate = "10 kB", .compression = compression, .buffer_bytes = 4096}, text_lines()};
      for (std::uint64_t i = 0; i < 1000; ++i) sink.write(numbered(i));
      sink.flush();
      sink.wait_for_archive();
      const auto files = Archive::list(path);
      CHECK(files.size() > 5);
      for (const auto& file : files) {
        CHECK(file.packed == compression);
        CHECK_FALSE(file.unfinished);
        CHECK(file.bytes < 3'000);
        CHECK((fs::status(file.path).permissions() & fs::perms::all) == fs::perms{0640});
      }
      CHECK(messages_in(path, true) == numbered_messages(0, 1000));
    }
    // The system's own tool reads it too.
    const auto oldest = Archive::list(path).front().path;
    if (compression == Compression::gz) {
      const auto unpacked = test::run_program("/bin/gzip", {"-dc", oldest});
      CHECK(unpacked.code == 0);
      CHECK_CONTAINS(unpacked.out, "record 0 ");
    }
    FileSink sink{path, {.retention = 2}, text_lines()};
    sink.wait_for_archive();
    CHECK(rotated_count(path) == 2);
  }
}

TEST_CASE("a large file goes through both packers unchanged, and a damaged one is said to be so") {
  const test::TemporaryFolder folder;
  std::mt19937 random{3};
  std::string content;
  for (int i = 0; i < 300'000; ++i) content += static_cast<char>(random() % 7 == 0 ? random() : 'a');
  const WorkLimit no_limit;
  for (const auto compression : {Compression::gz, Compression::zst}) {
    const auto path = folder / "big";
    const auto packed = path + std::string{suffix_of(compression)};
    test::write_file(path, content);
    REQUIRE(pack_file(path, compression, no_limit));
    CHECK_FALSE(fs::exists(path));
    CHECK_FALSE(fs::exists(packed + ".part"));
    const auto unpack = [&] {
      PackedFileReader reader{packed};
      std::string all;
      std::vector<char> block(1000);
      while (const auto got = reader.read(block.data(), block.size())) all.append(block.data(), got);
      return all;
    };
    CHECK(unpack() == content);
    test::write_file(folder / "same", content);
    CHECK(same_content(folder / "same", packed, no_limit));
    test::write_file(folder / "same", content + "x");
    CHECK_FALSE(same_content(folder / "same", packed, no_limit));
    CHECK_FALSE(same_content(packed, folder / "same", no_limit));
    fs::resize_file(packed, fs::file_size(packed) - 5);
    CHECK_THROWS_CONTAINS(unpack(), SystemError, "damaged or ends early");
    fs::remove(packed);
  }
  test::write_file(folder / "stopped", content);
  WorkLimit reached;
  reached.stop();
  CHECK_FALSE(pack_file(folder / "stopped", Compression::gz, reached));
  CHECK(test::read_file(folder / "stopped") == content);
  CHECK_FALSE(fs::exists(folder / "stopped.gz"));
}

TEST_CASE("the end packs and removes what the thread of low priority did not get to") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i)
      test::write_file(folder / fmt::format("app.20260101T0000{:02}.00000{}Z.log", round, i), "said\n");
    const auto now = [] { return FileTime{std::chrono::system_clock::now()}; };
    const FileOptions options{.retention = 2, .compression = Compression::gz};
    Archive{path, options, now, std::chrono::milliseconds{0}}.tidy();
    const auto left = Archive::list(path);
    REQUIRE(left.size() == 2);
    for (const auto& file : left) {
      CHECK(file.packed == Compression::gz);
      CHECK_FALSE(file.unfinished);
    }
  }
}

TEST_CASE("what a crash left of packing is finished at the next start, and nothing is lost") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  const WorkLimit no_limit;
  std::uint64_t written = 0;
  const auto rotated_file = [&](const std::string& stamp) {
    const auto name = folder / ("app." + stamp + ".log");
    FileSink{name, {}, text_lines()}.write(numbered(written++));
    return name;
  };
  // Before it began; in the middle; after the rename; packed by something else; both forms differ.
  const auto untouched = rotated_file("20260101T000000.000001Z");
  const auto halfway = rotated_file("20260101T000000.000002Z");
  test::write_file(halfway + ".gz.part", "\x1f\x8bgarbage");
  const auto renamed = rotated_file("20260101T000000.000003Z");
  const auto kept = test::read_file(renamed);
  REQUIRE(pack_file(renamed, Compression::gz, no_limit));
  test::write_file(renamed, kept);
  const auto other = rotated_file("20260101T000000.000004Z");
  REQUIRE(pack_file(other, Compression::zst, no_limit));
  CHECK(messages_in(path, true) == numbered_messages(0, 4));
  {
    FileSink sink{path, {.compression = Compression::gz}, text_lines()};
    sink.wait_for_archive();
    sink.write(numbered(written));
  }
  for (const auto& name : {untouched, halfway, renamed}) {
    CHECK_FALSE(fs::exists(name));
    CHECK(fs::exists(name + ".gz"));
    CHECK_FALSE(fs::exists(name + ".gz.part"));
  }
  CHECK(fs::exists(other + ".zst"));
  CHECK(messages_in(path, true) == numbered_messages(0, 5));

  const CapturedErrors errors{folder / "errors"};
  test::write_file(untouched, "something else\n");
  {
    FileSink sink{path, {.compression = Compression::gz}, text_lines()};
    sink.wait_for_archive();
  }
  CHECK(fs::exists(untouched));
  CHECK(fs::exists(untouched + ".gz"));
  CHECK_CONTAINS(errors.text(), "do not hold the same");
}

TEST_CASE("a crash between the two names of a rotation is mended at the next start") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  { FileSink{path, {}, text_lines()}.write(numbered(0)); }
  // Where there is no RENAME_NOREPLACE, a rotation is a link and an unlink.
  fs::create_hard_link(path, folder / "app.20260101T000000.000001Z.log");
  { FileSink{path, {}, text_lines()}.write(numbered(1)); }
  CHECK(messages_in(path) == numbered_messages(1, 2));
  CHECK(messages_in(path, true) == numbered_messages(0, 2));
}

TEST_CASE("a process killed anywhere in rotating and packing loses nothing that was flushed") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  const FileOptions options{.rotate = "3 kB", .compression = Compression::gz, .buffer_bytes = 4096};
  std::mt19937 random{11};
  std::uint64_t next = 0;
  for (int round = 0; round < 8; ++round) {
    // The child says each record that is in the file; the parent kills it after a random one.
    int pipe_ends[2];
    REQUIRE(::pipe(pipe_ends) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(pipe_ends[0]);
      FileSink sink{path, options, text_lines()};
      for (std::uint64_t i = next;; ++i) {
        sink.write(numbered(i, FileSink::system_now()));
        sink.flush();
        if (::write(pipe_ends[1], "x", 1) != 1) ::_exit(1);
      }
    }
    ::close(pipe_ends[1]);
    const std::uint64_t until = next + 1 + random() % 120;
    char byte = 0;
    while (next < until && ::read(pipe_ends[0], &byte, 1) == 1) ++next;
    ::kill(child, SIGKILL);
    while (::read(pipe_ends[0], &byte, 1) == 1) ++next;
    ::close(pipe_ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));
    // It may have written one more than it could say.
    const auto messages = messages_in(path, true);
    REQUIRE(messages.size() >= next);
    next = messages.size();
    REQUIRE(messages == numbered_messages(0, next));
  }
  FileSink sink{path, options, text_lines()};
  sink.wait_for_archive();
  for (const auto& file : Archive::list(path)) CHECK((file.packed == Compression::gz && !file.unfinished));
  CHECK(messages_in(path, true) == numbered_messages(0, next));
}

TEST_CASE("what stands in a log file's place is refused, and never followed (row 34)") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  const auto victim = folder / "victim";
  test::write_file(victim, "precious\n");
  const auto open = [&] { return sinks::file(path).make({}); };
  SUBCASE("a symbolic link") {
    fs::create_symlink(victim, path);
    CHECK_THROWS_CONTAINS(open(), UsageError, "is a symbolic link");
  }
  SUBCASE("a symbolic link to nothing") {
    fs::create_symlink(folder / "nothing", path);
    CHECK_THROWS_CONTAINS(open(), UsageError, "is a symbolic link");
    CHECK_FALSE(fs::exists(folder / "nothing"));
  }
  SUBCASE("a hard link") {
    fs::create_hard_link(victim, path);
    CHECK_THROWS_CONTAINS(open(), UsageError, "hard links");
  }
  SUBCASE("a FIFO without a reader") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    CHECK_THROWS_CONTAINS(open(), UsageError, "is a FIFO");
  }
  SUBCASE("a FIFO with a reader") {
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK_THROWS_CONTAINS(open(), UsageError, "is a FIFO");
    ::close(reader);
  }
  SUBCASE("a directory") {
    fs::create_directory(path);
    CHECK_THROWS_CONTAINS(open(), UsageError, "is a directory");
  }
  SUBCASE("a socket") {
    const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    REQUIRE(path.size() < sizeof address.sun_path);
    std::ranges::copy(path, address.sun_path);
    REQUIRE(::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    CHECK_THROWS_CONTAINS(open(), UsageError, "is a socket");
    ::close(socket);
  }
  SUBCASE("put there while the log runs") {
    const CapturedErrors errors{folder / "errors"};
    FileSink sink{path, {.watch = true}, text_lines()};
    sink.write(numbered(0));
    fs::remove(path);
    fs::create_symlink(victim, path);
    sink.flush();
    CHECK_CONTAINS(errors.text(), "is a symbolic link");
    CHECK(sink.lost() == 0);
    fs::remove(path);
  }
  SUBCASE("put there between rotation and the next file, as a leftover would be") {
    fs::create_symlink(victim, folder / "app.20260101T000000.000001Z.log");
    FileSink sink{path, {.retention = 0, .compression = Compression::gz}, text_lines()};
    sink.wait_for_archive();
    CHECK(fs::is_symlink(folder / "app.20260101T000000.000001Z.log"));
  }
  CHECK(test::read_file(victim) == "precious\n");
  test::scorecard(
      34,
      "links of three kinds, FIFOs, a directory, a socket, put there before and while the log runs: each refused by name, 0 followed");
}

TEST_CASE("paths and options that mean nothing are refused before anything is opened") {
  CHECK_THROWS_CONTAINS(sinks::file(""), UsageError, "names no file");
  CHECK_THROWS_CONTAINS(sinks::file("logs/"), UsageError, "names no file");
  CHECK_THROWS_CONTAINS(sinks::json("x", {.mode = 01777}), UsageError, "0640");
  CHECK_THROWS_CONTAINS(sinks::file("x", {.buffer_bytes = 1}), UsageError, "buffer_bytes is 1");
  CHECK_THROWS_CONTAINS(AnySink{"/proc/no/such/file"}.make({}), SystemError, "mkdir");
  CHECK_THROWS_CONTAINS(read_log("/no/such/file"), SystemError, "/no/such/file");
  CHECK_THROWS_CONTAINS(read_log("/tmp"), UsageError, "a directory");
}

TEST_CASE("/dev/full takes nothing, and each record is counted as lost") {
  const test::TemporaryFolder folder;
  const CapturedErrors errors{folder / "errors"};
  auto sink = std::make_unique<FileSink>("/dev/full", FileOptions{.rotate = "1 kB", .buffer_bytes = 4096},
                                         text_lines());
  for (std::uint64_t i = 0; i < 10'000; ++i) sink->write(numbered(i));
  sink->flush();
  const auto lost = sink->lost();
  CHECK(lost < 10'000);
  CHECK(lost > 9'900);  // the rest waits in its 4 KiB
  CHECK_CONTAINS(errors.text(), "No space left on device");
  const auto reports = errors.text();
  CHECK(std::ranges::count(reports, '\n') < 20);  // one a second, not one a record
  sink.reset();
  CHECK_CONTAINS(errors.text(), "10000 records are lost.");
}

TEST_CASE("on a full disk whole lines are kept, losses counted exactly, and the log goes on by itself") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  std::uint64_t written = 0;
  std::uint64_t lost = 0;
  {
    const CapturedErrors errors{folder / "errors"};
    FileSink sink{path, {.buffer_bytes = 4096}, text_lines()};
    {
      const test::FileSizeLimit full{10'007};
      for (; written < 1000; ++written) sink.write(numbered(written));
      sink.flush();
      CHECK(sink.lost() > 500);
    }
    sink.flush();
    for (; written < 1100; ++written) sink.write(numbered(written));
    sink.flush();
    lost = sink.lost();
    CHECK_CONTAINS(errors.text(), "File too large");
    CHECK_CONTAINS(errors.text(), "works again; " + std::to_string(lost) + " records are lost.");
  }
  auto file = read_log(path);
  std::uint64_t found = 0;
  std::uint64_t last = 0;
  bool noticed = false;
  for (const auto& record : file) {
    if (record.origin == Origin::lifecycle) {
      noticed = true;
      CHECK(record.message.starts_with(std::to_string(lost) + " records are missing here"));
      CHECK(last + 1 + lost == 1000);  // it stands where they are missing
      continue;
    }
    ++found;
    last = record.task_id - 1;
  }
  CHECK(file.bad_lines() == 0);
  CHECK(noticed);
  CHECK(found + lost == written);
}

TEST_CASE("a sink that ends on a full disk leaves whole lines, and counts the rest") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  const CapturedErrors errors{folder / "errors"};
  {
    const test::FileSizeLimit full{10'007};
    FileSink sink{path, {.buffer_bytes = 4096}, text_lines()};
    for (std::uint64_t i = 0; i < 1000; ++i) sink.write(numbered(i));
  }
  const auto messages = messages_in(path);
  CHECK(messages == numbered_messages(0, messages.size()));
  CHECK(fs::file_size(path) > 9'900);
  CHECK_CONTAINS(errors.text(), std::to_string(1000 - messages.size()) + " records are lost.");
}

TEST_CASE("a line that a full disk cut is whole in the file that follows") {
  const test::TemporaryFolder folder;
  const CapturedErrors errors{folder / "errors"};
  const std::array<std::string, 2> paths{folder / "one", folder / "two"};
  LineWriter writer{"the file", 4096};
  const Descriptor first = open_to_append(paths[0], 0600);
  writer.use(first.get(), true);
  {
    const test::FileSizeLimit full{10};
    writer.buffer().append("line 1\nline 2\nline 3\n");
    CHECK_FALSE(writer.drain());
    CHECK(test::read_file(paths[0]) == "line 1\nlin");
  }
  writer.detach();
  CHECK(test::read_file(paths[0]) == "line 1\n");
  const Descriptor second = open_to_append(paths[1], 0600);
  writer.use(second.get(), true);
  CHECK(writer.drain());
  CHECK(test::read_file(paths[1]) == "line 2\nline 3\n");
  CHECK(writer.lost() == 0);
}

TEST_CASE("what is missing is said where it is missing, before the first line that came through again") {
  const test::TemporaryFolder folder;
  const CapturedErrors errors{folder / "errors"};
  const auto path = folder / "file";
  LineWriter writer{"the file", 4096, [](std::uint64_t lost, int, TextBuffer& out) {
                      out.append("missing " + std::to_string(lost) + "\n");
                    }};
  const Descriptor file = open_to_append(path, 0600);
  writer.use(file.get(), true);
  std::uint64_t lines = 0;
  const auto write = [&] {
    const auto begin = writer.buffer().size();
    writer.buffer().append("line " + std::to_string(lines++) + "\n");
    writer.end_line(begin);
  };
  {
    const test::FileSizeLimit full{10};
    while (writer.lost() < 3) write();
  }
  while (writer.failing()) write();  // until it tries again
  const auto next = lines;
  write();
  CHECK(writer.drain());
  std::string expected;
  for (std::uint64_t i = 0; i < lines; ++i) {
    if (i == next - 1 - writer.lost()) {
      expected += "missing " + std::to_string(writer.lost()) + "\n";
      i = next - 1;
    }
    expected += "line " + std::to_string(i) + "\n";
  }
  CHECK((test::read_file(path) == expected));
}

TEST_CASE("hostile records come through file and JSON sinks, rotated and packed, and back") {
  const test::TemporaryFolder folder;
  auto records = test::hostile_records();
  auto large = test::sample_record();
  large.message.assign(5'000'000, '\x1b');
  records.push_back(large);
  const FileOptions options{.rotate = "200 kB", .compression = Compression::zst};
  for (const bool json : {false, true}) {
    const auto path = folder / (json ? "app.json" : "app.log");
    {
      const auto sink = (json ? sinks::json(path, options) : sinks::file(path, options)).make({});
      for (const auto& record : records) sink->write(record);
    }
    CHECK(rotated_count(path) > 3);
    auto file = read_log(path, {.rotated = true, .strict = true});
    std::size_t i = 0;
    for (const auto& back : file) {
      REQUIRE(i < records.size());
      auto expected = records[i++];
      if (!json) test::cut_to_default_line(expected);
      CHECK(test::difference(expected, back) == "");
    }
    CHECK(i == records.size());
    for (const auto& archived : Archive::list(path)) {
      PackedFileReader reader{archived.path};
      std::vector<char> block(65536);
      while (const auto got = reader.read(block.data(), block.size()))
        REQUIRE(std::all_of(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(got), [](char c) {
          return c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != '\x7f');
        }));
    }
  }
}

TEST_CASE(
    "read_log skips and counts what is no record, or refuses it where asked, and an unfinished last line is none") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  { FileSink{path, {}, text_lines()}.write(numbered(0)); }
  const auto line = test::read_file(path);
  test::write_file(path,
                   line + "Traceback (most recent call last):\n\n" + line + line.substr(0, line.size() - 1));
  auto file = read_log(path);
  std::size_t found = 0;
  for ([[maybe_unused]] const auto& record : file) ++found;
  CHECK(found == 2);
  CHECK(file.bad_lines() == 2);
  auto strict = read_log(path, {.strict = true});
  CHECK(strict.next() != nullptr);
  CHECK_THROWS_CONTAINS(strict.next(), UsageError, "line 2");
}

TEST_CASE("what another program appends is never cut: a full disk, and the sink's end on it") {
  const test::TemporaryFolder folder;
  const CapturedErrors errors{folder / "errors"};
  const auto path = folder / "app.log";
  std::string others;
  {
    FileSink sink{path, {.buffer_bytes = 4096}, text_lines()};
    sink.write(numbered(0));
    sink.flush();
    const Descriptor other = open_to_append(path, 0600);
    const auto append = [&](int line) {
      const std::string text = "the other's line " + std::to_string(line) + std::string(60, 'o') + "\n";
      REQUIRE(write_some(other.get(), text) == static_cast<std::ptrdiff_t>(text.size()));
      others += text;
    };
    for (int line = 0; line < 100; ++line) append(line);
    {
      const test::FileSizeLimit full{fs::file_size(path) + 5'000};
      for (std::uint64_t i = 1; i < 300; ++i) sink.write(numbered(i));
      sink.flush();
    }
    // Behind the line that our sink had begun: it is written anew, and not continued in the middle of theirs.
    for (int line = 100; line < 110; ++line) append(line);
    do {  // until it tries again; where it never does, the case's deadline ends this
      sink.flush();
      sink.write(numbered(300));
      sink.flush();
    } while (!test::contains(test::read_file(path), "record 300"));
    {
      const test::FileSizeLimit full{fs::file_size(path) + 20};
      sink.write(numbered(301));
      sink.flush();
    }
  }
  const std::string all = test::read_file(path);
  CHECK(std::count(all.begin(), all.end(), '\0') == 0);
  std::size_t whole = 0;
  for (int line = 0; line < 110; ++line)
    whole += test::contains(all, "the other's line " + std::to_string(line) + std::string(60, 'o') + "\n")
                 ? 1U
                 : 0U;
  CHECK(whole == 110);
  CHECK(test::contains(all, "record 300"));
}

TEST_CASE("a sink that ends takes the line that it had begun along, and nothing that stands behind it") {
  for (const bool other_appends : {false, true}) {
    CAPTURE(other_appends);
    const test::TemporaryFolder folder;
    const CapturedErrors errors{folder / "errors"};
    const auto path = folder / "app.log";
    auto sink = std::make_unique<FileSink>(path, FileOptions{.buffer_bytes = 4096}, text_lines());
    sink->write(numbered(0));
    sink->flush();
    const std::string before = test::read_file(path);
    {
      const test::FileSizeLimit full{before.size() + 20};
      sink->write(numbered(1));
      sink->flush();
    }
    REQUIRE(fs::file_size(path) == before.size() + 20);
    const std::string others = other_appends ? "the other's line\n" : "";
    if (other_appends) {  // and has closed the file when the sink ends
      const Descriptor other = open_to_append(path, 0600);
      REQUIRE(write_some(other.get(), others) == static_cast<std::ptrdiff_t>(others.size()));
    }
    {
      const test::FileSizeLimit full{fs::file_size(path)};
      sink.reset();
    }
    const std::string all = test::read_file(path);
    CHECK(all.starts_with(before));
    CHECK(all.ends_with(others));
    CHECK(all.size() == before.size() + (other_appends ? 20 + others.size() : 0));
  }
}

TEST_CASE("a size limit follows a file that another program cut") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  FileSink sink{path, {.rotate = "100 kB"}, text_lines()};
  const auto line_bytes = [] {
    TextBuffer line;
    PatternFormatter{""}.append(numbered(5000), line);
    return line.size() + 1;
  }();
  std::uint64_t number = 5000;
  const auto fill = [&](std::uint64_t bytes) {
    for (std::uint64_t i = 0; i < bytes / line_bytes; ++i) sink.write(numbered(number++));
    sink.flush();
  };
  fill(90'000);
  CHECK(rotated_count(path) == 0);
  fs::resize_file(path, 0);  // logrotate's copytruncate
  fill(90'000);
  CHECK(rotated_count(path) == 0);
  fill(20'000);
  CHECK(rotated_count(path) == 1);
  // And one that another program made larger.
  {
    const Descriptor other = open_to_append(path, 0600);
    const std::string much(99'000, 'x');
    REQUIRE(write_some(other.get(), much + "\n") > 0);
  }
  fill(4'000);
  fill(4'000);
  CHECK(rotated_count(path) == 2);
}

TEST_CASE("a relative path stays where it was when the program changes its folder") {
  const test::TemporaryFolder folder;
  const auto before = fs::current_path();
  fs::create_directories(folder / "srv");
  fs::create_directories(folder / "elsewhere");
  fs::current_path(folder / "srv");
  {
    FileSink sink{"./app.log", {.rotate = "2 kB", .watch = true, .link = "now.log"}, text_lines()};
    FileSink late{"late.log", {.delay = true}, text_lines()};
    sink.write(numbered(0));
    fs::current_path(folder / "elsewhere");
    for (std::uint64_t i = 1; i < 60; ++i) sink.write(numbered(i));
    late.write(numbered(0));
  }
  CHECK(fs::is_empty(folder / "elsewhere"));
  CHECK(rotated_count(folder / "srv/app.log") > 0);
  CHECK(fs::exists(folder / "srv/late.log"));
  fs::current_path(folder / "srv");
  auto log = read_log("app.log", {.rotated = true});
  fs::current_path(before);
  std::size_t read = 0;
  while (log.next() != nullptr) ++read;
  CHECK(read == 60);
  CHECK(fs::read_symlink(folder / "srv/now.log") == "app.log");
}

TEST_CASE("a file stamped by a wrong clock upsets neither names nor ages") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  test::write_file(folder / "app.20380119T031407.000000Z.log", "of the boot whose clock was wrong\n");
  test_time = FileSink::system_now();
  FileSink sink{path, {.rotate = "1 kB", .retention = "1 h"}, text_lines(), &test_clock};
  for (std::uint64_t i = 0; i < 60; ++i) {
    sink.write(numbered(i));
    pass_time(5min);
  }
  sink.flush();
  sink.wait_for_archive();
  const auto files = Archive::list(path);
  REQUIRE(!files.empty());
  for (const auto& file : files) {
    CHECK(file.rotated <= test_clock());
    CHECK(files.back().rotated - file.rotated <= 1h);
  }
  // The clock was a year ahead, and is mended while the log is written.
  pass_time(std::chrono::hours{24 * 365});
  for (std::uint64_t i = 60; i < 90; ++i) sink.write(numbered(i));
  pass_time(-(std::chrono::hours{24 * 365}));
  for (std::uint64_t i = 90; i < 150; ++i) {
    sink.write(numbered(i));
    pass_time(1min);
  }
  sink.flush();
  sink.wait_for_archive();
  const auto now = Archive::list(path);
  CHECK(std::ranges::count_if(now, [](const ArchivedFile& file) { return file.rotated <= test_clock(); }) >
        3);
}

TEST_CASE("names with {time}: each file is called after its begin, and a link leads to the newest") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app-{time}.log";
  const auto link = folder / "current.log";
  const FileOptions options{
      .rotate = "1 kB", .retention = 100, .compression = Compression::zst, .link = link};
  std::string latest;
  for (std::uint64_t run = 0; run < 2; ++run) {
    FileSink sink{path, options, text_lines()};
    for (std::uint64_t i = 0; i < 40; ++i) sink.write(numbered(run * 40 + i));
    sink.flush();
    sink.wait_for_archive();
    latest = fs::read_symlink(link).string();
    CHECK(latest.starts_with("app-2"));
    CHECK(latest.ends_with("Z.log"));
    CHECK_CONTAINS(test::read_file(link), "record " + std::to_string(run * 40 + 39));
  }
  CHECK(messages_in(path, true) == numbered_messages(0, 80));
  for (const auto& file : Archive::list(path))
    CHECK((file.packed == Compression::zst) == !file.path.ends_with(latest));
  CHECK(fs::remove(folder / latest));
  CHECK_THROWS_CONTAINS(sinks::file(folder / "{time}/app.log"), UsageError, "{time}");
  CHECK_THROWS_CONTAINS(sinks::file(folder / "app-{time:YYYY}.log"), UsageError, "write {time}");
  test::write_file(folder / "taken", "not ours");
  CHECK_THROWS_CONTAINS(sinks::file(folder / "app.log", {.link = folder / "taken"}).make({}), UsageError,
                        "a regular file");
  CHECK(test::read_file(folder / "taken") == "not ours");
}

TEST_CASE("SIGHUP begins the file anew, and calls the handler that was there before") {
  const test::TemporaryFolder folder;
  const auto outcome = test::run_forked([&] {
    static volatile std::sig_atomic_t called = 0;
    std::signal(SIGHUP, [](int) { called = called + 1; });
    const auto path = folder / "app.log";
    FileSink sink{path, {.rotate = {"SIGHUP", "1 GB"}}, text_lines()};
    sink.write(numbered(0));
    std::raise(SIGHUP);
    sink.write(numbered(1));
    sink.write(numbered(2));
    fs::rename(path, folder / "moved");  // as logrotate does it
    std::raise(SIGHUP);
    sink.write(numbered(3));
    sink.flush();
    if (called != 2) throw std::runtime_error{"the former handler was not called"};
  });
  CHECK(outcome.code == 0);
  REQUIRE(rotated_count(folder / "app.log") == 1);
  CHECK(messages_in(Archive::list(folder / "app.log")[0].path) == numbered_messages(0, 1));
  CHECK(messages_in(folder / "moved") == numbered_messages(1, 3));
  CHECK(messages_in(folder / "app.log") == numbered_messages(3, 4));
}

TEST_CASE("a name that has no room for the time of rotation is refused when the sink is made") {
  const test::TemporaryFolder folder;
  const std::string name(235, 'n');
  CHECK_NOTHROW((void)sinks::file(folder / name).make({}));
  CHECK_THROWS_CONTAINS(sinks::file(folder / (name + "2"), {.rotate = "1 MB"}).make({}), UsageError,
                        "their folder allows 255. Give a shorter name.");
  CHECK_THROWS_CONTAINS(sinks::file(folder / std::string(256, 'n')).make({}), UsageError, "256 bytes");
  const std::string fits(255 - 24, 'f');
  {
    FileSink sink{folder / fits, {.rotate = "1 kB"}, text_lines()};
    for (std::uint64_t i = 0; i < 30; ++i) sink.write(numbered(i));
  }
  CHECK(rotated_count(folder / fits) > 0);
  CHECK_THROWS_AS((void)sinks::file(folder / (fits + "f"), {.rotate = "1 MB"}).make({}), UsageError);
}

TEST_CASE("/dev/stdout and /dev/fd/N are written to, and never rotated") {
  const test::TemporaryFolder folder;
  const auto path = folder / "out";
  const Descriptor out = open_to_append(path, 0600);
  for (const std::string name : {"/dev/fd/", "/proc/self/fd/"}) {
    FileSink sink{name + std::to_string(out.get()), {.rotate = "1 kB", .watch = true}, text_lines()};
    for (std::uint64_t i = 0; i < 30; ++i) sink.write(numbered(i));
  }
  CHECK(messages_in(path).size() == 60);
  const auto outcome = test::run_forked([] {
    FileSink{"/dev/stdout", {}, text_lines()}.write(numbered(1));
    FileSink{"/dev/stderr", {}, text_lines()}.write(numbered(2));
  });
  CHECK(outcome.code == 0);
  CHECK_CONTAINS(outcome.out, "record 1");
  CHECK_CONTAINS(outcome.err, "record 2");
}

TEST_CASE("each line of a file is read for itself") {
  const test::TemporaryFolder folder;
  const auto path = folder / "file";
  std::string json, text;
  {
    const auto json_sink = sinks::json(folder / "j").make({});
    const auto text_sink = sinks::file(folder / "t").make({});
    for (std::uint64_t i = 0; i < 5; ++i) {
      json_sink->write(numbered(i));
      text_sink->write(numbered(i));
    }
  }
  json = test::read_file(folder / "j");
  text = test::read_file(folder / "t");
  const auto with_returns = [](std::string lines) {
    for (std::size_t at = 0; (at = lines.find('\n', at)) != std::string::npos; at += 2)
      lines.insert(at, 1, '\r');
    return lines;
  };
  struct Case {
    const char* what;
    std::string content;
    std::size_t records;
    std::uint64_t bad;
  };
  const std::vector<Case> cases{
      {"comment, then JSON", "# rotated by hand\n" + json, 5, 1},
      {"JSON without its begin", json.substr(100), 4, 1},
      {"JSON behind a line of NUL", std::string(40, '\0').append("\n").append(json), 5, 0},
      {"JSON behind NUL in its line", std::string(40, '\0') + json, 5, 0},
      {"JSON with a byte order mark", "\xef\xbb\xbf" + json, 5, 0},
      {"text with a byte order mark", "\xef\xbb\xbf" + text, 5, 0},
      {"text, then JSON", text + json, 10, 0},
      {"JSON, then text", json + text, 10, 0},
      {"JSON, indented", " " + json, 5, 0},
      {"text with carriage returns", with_returns(text), 5, 0},
      {"JSON with carriage returns", with_returns(json), 5, 0},
      {"foreign line, then text", "panic: something foreign\n" + text, 5, 1},
      {"an object that is no record", "{\"a\": 1}\n" + json, 5, 1},
  };
  for (const auto& one : cases) {
    CAPTURE(one.what);
    test::write_file(path, one.content);
    auto log = read_log(path);
    std::size_t records = 0;
    for (const auto& record : log) {
      CHECK(record.message.starts_with("record "));
      ++records;
    }
    CHECK(records == one.records);
    CHECK(log.bad_lines() == one.bad);
  }
}

TEST_CASE("a pattern that is given to read_log is believed, whatever the lines look like") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.log";
  {
    const auto sink = sinks::file(path).make({.pattern = "%v"});
    LogRecord record = numbered(0);
    record.fields.clear();
    for (const char* const message : {R"({"a": 1})", R"({"text":"x","record":{}})", "{}"}) {
      record.message = message;
      sink->write(record);
    }
  }
  std::vector<std::string> messages;
  for (const auto& record : read_log(path, {.pattern = "%v", .strict = true}))
    messages.push_back(record.message);
  CHECK(messages == std::vector<std::string>{R"({"a": 1})", R"({"text":"x","record":{}})", "{}"});
}

TEST_CASE("JSON with the keys of the Elastic Common Schema, and back") {
  const test::TemporaryFolder folder;
  const auto path = folder / "app.json";
  auto record = test::sample_record();
  record.time = FileTime{1'785'074'591s + 482'913'742ns};
  record.level = Level::error;
  record.logger = "net \"http\"";
  record.message = "two\nlines";
  record.source = {.file = "/src/a.cpp", .line = 7, .function = "f"};
  record.late = true;
  record.fields = {{"exception", std::string{"std::runtime_error"}},
                   {"what", std::string{"no file"}},
                   {"n", std::int64_t{-7}},
                   {"n", 0.5}};
  {
    const auto sink = sinks::json(path, {}, JsonKeys::ecs).make({}, "spawn");
    sink->write(record);
    auto plain = record;
    plain.worker = -1;
    plain.task_id = 0;
    plain.task_name.clear();
    plain.attempt = 0;
    plain.source = {};
    plain.logger.clear();
    plain.fields.clear();
    plain.late = false;
    sink->write(plain);
  }
  const auto text = test::read_file(path);
  CHECK(
      text.substr(0, text.find('\n')) ==
      R"({"@timestamp":"2026-07-26T14:03:11.482913742Z","log.level":"error","message":"two\nlines",)"
      R"("ecs.version":"8.11.0","log.logger":"net \"http\"","process.pid":4711,"process.thread.id":4712,)"
      R"("log.origin":{"file":{"name":"/src/a.cpp","line":7},"function":"f"},"error.type":"std::runtime_error",)"
      R"("error.message":"no file","labels":{"exception":"std::runtime_error","what":"no file","n":0.5},)"
      R"("kindred":{"worker":0,"incarnation":0,"task":{"id":41,"name":"area","attempt":1},"sequence":9,)"
      R"("origin":"log","late":true,"start_method":"spawn"}})");
  std::vector<LogRecord> read;
  for (const auto& one : read_log(path, {.strict = true})) read.push_back(one);
  REQUIRE(read.size() == 2);
  CHECK(read[0].time == record.time);
  CHECK(read[0].message == record.message);
  CHECK(read[0].logger == record.logger);
  CHECK(read[0].source.line == 7);
  CHECK(read[0].task_name == "area");
  CHECK(read[0].late);
  REQUIRE(read[0].fields.size() == 3);
  CHECK((read[0].fields[2].value == FieldValue{0.5}));
  CHECK(read[1].worker == -1);
  CHECK(read[1].fields.empty());
}
