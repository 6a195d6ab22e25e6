// Full buffers of a log file are written by a thread of their own: the owner goes on meanwhile, and what
// fails there fails as it would have here.

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "kindred/internal/background_writer.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/line_writer.hpp"
#include "support/file_size_limit.hpp"
#include "support/test.hpp"

using namespace kindred::internal;
using kindred::test::contains;
using kindred::test::FileSizeLimit;
using kindred::test::read_file;
using kindred::test::TemporaryFolder;

namespace {

/// Writes numbered lines, and ends each as a sink does.
class Lines {
 public:
  explicit Lines(LineWriter& writer) : writer_{writer} {}
  static constexpr std::size_t longest = 32;  ///< more than a line has
  /// Returns its bytes.
  std::size_t write() {
    const auto begin = writer_.buffer().size();
    const std::string text = line(written_++);
    writer_.buffer().append(text);
    writer_.end_line(begin);
    bytes_ += text.size();
    return text.size();
  }
  /// Writes until the buffer is handed over. Returns its bytes.
  std::size_t hand_over() {
    const std::size_t before = writer_.buffer().size();
    std::size_t size = write();
    while (!writer_.buffer().empty()) size += write();
    return before + size;
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t written() const { return written_; }
  static std::string line(std::uint64_t number) { return "line " + std::to_string(number) + "\n"; }
  /// All lines from the first one on.
  static std::string first(std::uint64_t count) {
    std::string text;
    for (std::uint64_t i = 0; i < count; ++i) text += line(i);
    return text;
  }

 private:
  LineWriter& writer_;
  std::uint64_t written_ = 0;
  std::size_t bytes_ = 0;
};

std::uint64_t lines_in(std::string_view text) {
  return static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
}

/// A file that is written in the background, and its lines.
struct BackgroundFile {
  explicit BackgroundFile(std::size_t limit) : writer{"", limit} {
    writer.use(file.get(), true);
    writer.write_in_background(true);
  }
  TemporaryFolder folder;
  Descriptor file = open_to_append(folder / "file", 0600);
  LineWriter writer;
  Lines lines{writer};
};

/// Until the file has that many bytes, and the thread that writes it waits for the next text.
void wait_for_writer(int file, std::size_t bytes) {
  const auto sleeps = [] {
    for (const auto& thread : std::filesystem::directory_iterator{"/proc/self/task"}) {
      const std::string stat = read_file(thread.path() / "stat");
      if (contains(stat, "(kindred-write)")) return contains(stat, ") S ");
    }
    return true;  // there is none: the owner has written
  };
  while (file_status(file)->bytes < bytes || !sleeps()) std::this_thread::yield();
}

}  // namespace

TEST_CASE("the owner of a background writer goes on while the write waits") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Descriptor out{ends[0]};
  const Descriptor in{ends[1]};
  const std::string sent(1'000'000, 'x');  // more than a pipe holds
  TextBuffer text;
  text.append(sent);
  BackgroundWriter writer;
  REQUIRE(writer.begin(in.get(), text));
  CHECK(text.empty());
  CHECK(!writer.idle());
  std::string received(sent.size(), '\0');
  for (std::size_t at = 0; at < received.size();) {
    const auto got = ::read(out.get(), received.data() + at, received.size() - at);
    REQUIRE(got > 0);
    at += static_cast<std::size_t>(got);
  }
  Appended appended;
  CHECK(writer.finish(text, appended) == 0);
  CHECK(writer.idle());
  CHECK(text.empty());
  CHECK((received == sent));
}

TEST_CASE("a background writer gives a text back that it could not write, and says how far it came") {
  const TemporaryFolder folder;
  const Descriptor file = open_to_append(folder / "file", 0600);
  BackgroundWriter writer;
  for (int again = 0; again < 2; ++again) {
    TextBuffer text;
    text.append("0123456789abcdef");
    Appended appended;
    {
      const FileSizeLimit full{10};
      REQUIRE(writer.begin(file.get(), text));
      CHECK(writer.finish(text, appended) == EFBIG);
    }
    CHECK(text.view() == "0123456789abcdef");
    CHECK(appended.bytes == (again == 0 ? 10 : 0));
    if (again == 0) CHECK(appended.end == 10);
  }
  CHECK(read_file(folder / "file") == "0123456789");
}

TEST_CASE("a text is appended once, whether the background writer or its owner writes it") {
  const TemporaryFolder folder;
  const Descriptor file = open_to_append(folder / "file", 0600);
  BackgroundWriter writer;
  std::string expected;
  int by_owner = 0;
  // Who is first is a matter of the scheduler: mostly the owner, because the thread must be woken.
  for (int number = 0; number < 2000; ++number) {
    TextBuffer text;
    text.append(Lines::line(static_cast<std::uint64_t>(number)));
    expected += text.view();
    REQUIRE(writer.begin(file.get(), text));
    if (writer.write_here()) ++by_owner;
    Appended appended;
    REQUIRE(writer.finish(text, appended) == 0);
    REQUIRE(!writer.write_here());
  }
  CHECK(by_owner > 0);
  CHECK((read_file(folder / "file") == expected));
}

TEST_CASE("a buffer is filled further, up to a limit, while the one before it is being written") {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const Descriptor out{ends[0]};
  Descriptor in{ends[1]};
  constexpr std::size_t limit = 128 * 1024;  // more than a pipe holds: its write waits for the reader
  LineWriter writer{"", limit};
  writer.use(in.get(), true);
  writer.write_in_background(true);
  Lines lines{writer};
  std::string received(1, '\0');
  while (!writer.buffer().empty() || lines.written() == 0) lines.write();  // handed over
  REQUIRE(::read(out.get(), received.data(), 1) == 1);                     // so it is being written
  // The reader begins when the owner waits for the write, or has filled the buffer beyond the limit.
  std::atomic<std::size_t> largest{0};
  const std::string owner = "/proc/self/task/" + std::to_string(::gettid()) + "/stat";
  std::jthread reader{[&] {
    while (largest < 9 * limit && !(largest >= 6 * limit && contains(read_file(owner), ") S ")))
      std::this_thread::yield();
    std::string piece(limit, '\0');
    for (ssize_t got = 0; (got = ::read(out.get(), piece.data(), piece.size())) > 0;)
      received.append(piece, 0, static_cast<std::size_t>(got));
  }};
  while (lines.written() < 200'000) {
    lines.write();
    largest = std::max(largest.load(), writer.buffer().size());
  }
  CHECK(largest >= 6 * limit);
  CHECK(largest < 9 * limit);
  CHECK(writer.settle());
  CHECK(writer.drain());
  in = Descriptor{};
  reader.join();
  CHECK((received == Lines::first(lines.written())));
}

TEST_CASE("a buffer that follows another one is handed over when it is four times as large") {
  constexpr std::size_t limit = 4096;
  BackgroundFile background{limit};
  LineWriter& writer = background.writer;
  Lines& lines = background.lines;
  for (int quiet_moments = 0; quiet_moments < 3; ++quiet_moments) {
    CAPTURE(quiet_moments);
    const std::size_t first = lines.hand_over();
    CHECK(first >= limit);
    CHECK(first < limit + Lines::longest);
    for (int more = 0; more < 3; ++more) {
      wait_for_writer(background.file.get(), lines.bytes());
      const std::size_t size = lines.hand_over();
      CHECK(size >= 4 * limit);
      CHECK(size < 4 * limit + limit / 2);
    }
    wait_for_writer(background.file.get(), lines.bytes());
    while (writer.buffer().size() < 2 * limit) lines.write();
    CHECK(writer.settle());
    CHECK(writer.drain());
  }
  CHECK((read_file(background.folder / "file") == Lines::first(lines.written())));
}

TEST_CASE("a write that fails in the background is noticed before the next buffer is full") {
  for (const int buffers_before : {0, 1, 2}) {
    CAPTURE(buffers_before);
    constexpr std::size_t limit = 4096;
    BackgroundFile background{limit};
    LineWriter& writer = background.writer;
    Lines& lines = background.lines;
    for (int buffer = 0; buffer < buffers_before; ++buffer) {
      lines.hand_over();
      wait_for_writer(background.file.get(), lines.bytes());
    }
    const std::size_t room = lines.bytes() + 100;
    const FileSizeLimit full{room};
    lines.hand_over();
    wait_for_writer(background.file.get(), room);
    std::size_t since = 0;
    while (!writer.failing()) since += lines.write();
    CHECK(since >= limit);
    CHECK(since < limit + Lines::longest);
  }
}

TEST_CASE("a buffer keeps the memory that the next one will need, and none of a giant line") {
  constexpr std::size_t limit = 128 * 1024;
  BackgroundFile background{limit};
  LineWriter& writer = background.writer;
  Lines& lines = background.lines;
  lines.hand_over();
  wait_for_writer(background.file.get(), lines.bytes());
  const auto write_giant = [&](std::size_t bytes) {
    writer.buffer().append(std::string(bytes - 1, 'x') + "\n");
    CHECK(writer.settle());
    CHECK(writer.drain());
    return writer.buffer().data() != nullptr;
  };
  CHECK(write_giant(5 * limit));  // as large as buffers get that follow one another
  CHECK(write_giant(limit + 1024 * 1024));
  CHECK(!write_giant(4 * 1024 * 1024));
}

TEST_CASE("what is written in the background is in the file after settle and drain, in order") {
  const TemporaryFolder folder;
  const Descriptor file = open_to_append(folder / "file", 0600);
  LineWriter writer{"the file", 4096};
  writer.use(file.get(), true);
  writer.write_in_background(true);
  Lines lines{writer};
  for (int turn = 0; turn < 50; ++turn) {
    while (lines.written() < static_cast<std::uint64_t>(turn) * 997) lines.write();
    REQUIRE(writer.settle());
    REQUIRE(writer.drain());
    CHECK((read_file(folder / "file") == Lines::first(lines.written())));
  }
  CHECK(writer.lost() == 0);
}

TEST_CASE(
    "lines that come while a write fails in the background are kept up to the limit, and counted beyond") {
  constexpr std::size_t limit = 4096;
  BackgroundFile background{limit};
  LineWriter& writer = background.writer;
  Lines& lines = background.lines;
  {
    const FileSizeLimit full{1000};
    while (!writer.buffer().empty() || lines.written() == 0) lines.write();  // handed over
    while (writer.buffer().size() < limit - 100) lines.write();
    CHECK(!writer.settle());
    CHECK(writer.failing());
    CHECK(writer.settle());
    CHECK(writer.buffer().size() <= limit);
    const auto in_file = lines_in(read_file(background.folder / "file"));
    CHECK(in_file + lines_in(writer.buffer().view()) + writer.lost() == lines.written());
    CHECK(writer.lost() > 0);
    CHECK(!writer.drain());
  }
  CHECK(writer.drain());
  CHECK((read_file(background.folder / "file") == Lines::first(lines.written() - writer.lost())));
}

TEST_CASE(
    "a full disk that is found in the background loses nothing that is not counted, whenever it has room again") {
  for (const std::uint64_t bytes : {0U, 1U, 4095U, 4096U, 5000U, 10'007U, 50'000U}) {
    CAPTURE(bytes);
    const TemporaryFolder folder;
    std::uint64_t written = 0;
    std::uint64_t lost = 0;
    {
      const Descriptor file = open_to_append(folder / "file", 0600);
      LineWriter writer{"", 4096, [](std::uint64_t count, int, TextBuffer& out) {
                          out.append("missing " + std::to_string(count) + "\n");
                        }};
      writer.use(file.get(), true);
      writer.write_in_background(true);
      Lines lines{writer};
      {
        const FileSizeLimit full{bytes};
        // More than the file takes and two buffers that grew to 9 x 4096 bytes: the failure was seen.
        while (lines.written() < 20'000) lines.write();
      }
      while (writer.failing()) lines.write();  // until it tries again
      while (lines.written() % 1000 != 0) lines.write();
      REQUIRE(writer.settle());
      REQUIRE(writer.drain());
      written = lines.written();
      lost = writer.lost();
    }
    // Each line is whole and there once, in order, with a gap where some are missing.
    const std::string text = read_file(folder / "file");
    std::uint64_t next = 0;
    for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
      unsigned long long missing = 0;
      if (std::sscanf(text.c_str() + at, "missing %llu", &missing) == 1) {
        next += missing;
        continue;
      }
      REQUIRE(text.compare(at, Lines::line(next).size(), Lines::line(next)) == 0);
      ++next;
    }
    CHECK(next == written);
    CHECK(lost > 0);
  }
}
