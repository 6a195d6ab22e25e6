// Consoles, callbacks, filters, and spdlog's own sinks.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <pty.h>
#include <unistd.h>

#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/ostream_sink.h>

#include "kindred/error.hpp"
#include "kindred/internal/color.hpp"
#include "kindred/internal/console_sink.hpp"
#include "kindred/read_log.hpp"
#include "kindred/sinks.hpp"
#include "sinks/wrapped_rows.hpp"
#include "support/test.hpp"
#include "unit/sink_records.hpp"

namespace test = kindred::test;
using namespace kindred;
using namespace kindred::internal;

namespace {

class Variable {
 public:
  Variable(const char* name, const char* value) : name_{name} {
    if (const char* const before = std::getenv(name))
      before_ = before;
    else
      none_ = true;
    if (value == nullptr)
      ::unsetenv(name);
    else
      ::setenv(name, value, 1);
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;
  ~Variable() {
    if (none_)
      ::unsetenv(name_);
    else
      ::setenv(name_, before_.c_str(), 1);
  }

 private:
  const char* name_;
  std::string before_;
  bool none_ = false;
};

struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read_end = ends[0];
    write_end = ends[1];
    ::fcntl(write_end, F_SETPIPE_SZ, 256 * 1024);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close_reader();
    ::close(write_end);
  }
  void close_reader() {
    if (read_end >= 0) ::close(read_end);
    read_end = -1;
  }
  [[nodiscard]] std::string read() const {
    std::string text(65536, '\0');
    const auto got = ::read(read_end, text.data(), text.size());
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return text;
  }
};

/// A pty of that width.
class Terminal {
 public:
  explicit Terminal(unsigned short columns) {
    winsize size{};
    size.ws_col = columns;
    size.ws_row = 24;
    REQUIRE(::openpty(&reader_, &fd_, nullptr, nullptr, &size) == 0);
    ::fcntl(reader_, F_SETFL, O_NONBLOCK);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  ~Terminal() {
    ::close(reader_);
    ::close(fd_);
  }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  /// What came since the last call, without colours.
  [[nodiscard]] std::vector<std::string> rows() const {
    std::string text, piece(4096, '\0');
    // Until there is nothing: a read gives what has come so far, and the terminal passes row after row.
    for (ssize_t got = 0; (got = ::read(reader_, piece.data(), piece.size())) > 0;)
      text.append(piece, 0, static_cast<std::size_t>(got));
    std::vector<std::string> rows;
    std::string row;
    bool in_escape = false;
    for (const char c : text) {
      if (c == '\x1b') in_escape = true;
      if (c == '\n') rows.push_back(std::exchange(row, {}));
      if (!in_escape && c != '\n' && c != '\r') row += c;
      if (c == 'm') in_escape = false;
    }
    return rows;
  }

 private:
  int reader_ = -1;
  int fd_ = -1;
};

/// Collects what spdlog's formatter makes, and what the sink is told besides.
class ListeningSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  std::string text;
  std::string payload;
  std::size_t thread = 0;
  int flushes = 0;
  std::string colored;

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    text.assign(formatted.data(), formatted.size());
    payload.assign(message.payload.data(), message.payload.size());
    thread = message.thread_id;
    colored = text.substr(message.color_range_start, message.color_range_end - message.color_range_start);
  }
  void flush_() override { ++flushes; }
};

}  // namespace

TEST_CASE("a console writes lines when it is flushed or has many") {
  const Pipe pipe;
  ConsoleSink sink{pipe.write_end, {.pattern = "%l %v%V"}};
  sink.write(test::sample_record());
  sink.flush();
  CHECK(pipe.read() == "info radius 2 {user=7 path=\"a b\" ok=true}\n");
  auto record = test::sample_record();
  record.message.assign(40'000, 'x');
  sink.write(record);
  sink.write(record);
  CHECK(pipe.read().size() > 60'000);
}

TEST_CASE("a line is broken at spaces into rows of a terminal, and colours take no column") {
  using kindred::internal::wrapped_rows;
  CHECK(wrapped_rows("", 10).empty());
  CHECK(wrapped_rows("one two", 10) == "one two");
  CHECK(wrapped_rows("one two three", 10) == "one two\n    three");
  CHECK(wrapped_rows("one two three four five", 10) == "one two\n    three\n    four\n    five");
  CHECK(wrapped_rows("a /path/that/is/longer/than/a/row b", 10) ==
        "a\n    /path/that/is/longer/than/a/row\n    b");
  CHECK(wrapped_rows("\x1b[31mone\x1b[m two \x1b[1mend\x1b[m", 11) ==
        "\x1b[31mone\x1b[m two \x1b[1mend\x1b[m");
  CHECK(wrapped_rows("äöü äöü äöü", 11) == "äöü äöü äöü");
  CHECK(wrapped_rows("two  spaces", 20) == "two  spaces");
}

TEST_CASE("lines of the default pattern fit their terminal, and a pattern of one's own is believed") {
  const Terminal terminal{60};
  auto record = test::sample_record();
  record.message = "a message that is longer than a row of that terminal, and has\na newline";
  ConsoleSink usual{terminal.fd(), {.color = Color::always}};
  usual.write(record);
  usual.flush();
  const auto rows = terminal.rows();
  CHECK(rows.size() > 2);
  for (const auto& row : rows) CHECK_MESSAGE(row.size() <= 60, row);
  for (std::size_t i = 1; i < rows.size(); ++i) CHECK(rows[i].starts_with("    "));
  ConsoleSink own{terminal.fd(), {.pattern = "%v"}};
  own.write(record);
  own.flush();
  CHECK(terminal.rows() == std::vector<std::string>{
                               "a message that is longer than a row of that terminal, and has\\na newline"});
  const Pipe pipe;
  ConsoleSink piped{pipe.write_end, {}};
  piped.write(record);
  piped.flush();
  CHECK(std::ranges::count(pipe.read(), '\n') == 1);
}

TEST_CASE("a console whose reader went away counts what it could not write, and kills nobody") {
  Pipe pipe;
  ConsoleSink sink{pipe.write_end, {}};
  pipe.close_reader();
  for (int i = 0; i < 10; ++i) {
    sink.write(test::sample_record());
    sink.flush();
  }
  CHECK(sink.lost() == 10);
}

TEST_CASE("colours follow the wish, NO_COLOR, FORCE_COLOR and the terminal, in this order") {
  const Pipe pipe;
  int terminal = -1;
  int other = -1;
  REQUIRE(::openpty(&terminal, &other, nullptr, nullptr, nullptr) == 0);
  {
    const Variable no{"NO_COLOR", nullptr};
    const Variable force{"FORCE_COLOR", nullptr};
    const Variable kind{"TERM", "xterm"};
    CHECK(use_color(Color::automatic, other));
    CHECK_FALSE(use_color(Color::automatic, pipe.write_end));
    CHECK(use_color(Color::always, pipe.write_end));
    CHECK_FALSE(use_color(Color::never, other));
    CHECK_FALSE(use_color(Color::automatic, -1));
    const Variable dumb{"TERM", "dumb"};
    CHECK_FALSE(use_color(Color::automatic, other));
    const Variable forced{"FORCE_COLOR", "1"};
    CHECK(use_color(Color::automatic, pipe.write_end));
    const Variable none{"NO_COLOR", "1"};
    CHECK_FALSE(use_color(Color::automatic, other));
    CHECK(use_color(Color::always, other));
  }
  ::close(terminal);
  ::close(other);
}

TEST_CASE("a filter is a predicate, or levels by logger name") {
  auto record = test::sample_record();
  const auto passes = [&](const SinkOptions& options, std::string_view logger, Level level) {
    record.logger = logger;
    record.level = level;
    return options.accepts(record);
  };
  const SinkOptions by_name{.level = Level::debug,
                            .filter = {{"net", Level::warn}, {"net.http", Level::debug}}};
  CHECK(passes(by_name, "", Level::debug));
  CHECK_FALSE(passes(by_name, "", Level::trace));
  CHECK_FALSE(passes(by_name, "net", Level::info));
  CHECK_FALSE(passes(by_name, "net.dns", Level::info));
  CHECK_FALSE(passes(by_name, "net::dns", Level::info));
  CHECK(passes(by_name, "network", Level::info));
  CHECK(passes(by_name, "net.http.client", Level::debug));
  CHECK_FALSE(passes(by_name, "net.http", Level::trace));
  const SinkOptions all{.filter = {{"", Level::error}, {"db", Level::trace}}};
  CHECK_FALSE(passes(all, "net", Level::warn));
  CHECK(passes(all, "db", Level::trace));
  const SinkOptions predicate{.filter = [](const LogRecord& seen) { return seen.worker == 2; }};
  CHECK_FALSE(predicate.accepts(record));
  record.worker = 2;
  CHECK(predicate.accepts(record));
  const SinkOptions from_map{.filter = std::map<std::string, Level>{{"x", Level::error}}};
  CHECK_FALSE(passes(from_map, "x", Level::warn));
}

TEST_CASE("everything that add_sink takes becomes a sink") {
  const test::TemporaryFolder folder;
  const auto record = test::sample_record();
  int seen = 0;
  const auto give = [&](const AnySink& sink) {
    const auto made = sink.make({});
    made->write(record);
    made->flush();
  };
  give([&](const LogRecord& got) { seen += got.task_id == 41 ? 1 : 0; });
  give(sinks::callback([&, once = std::make_unique<int>(1)](const LogRecord&) { seen += *once; }));
  CHECK(seen == 2);
  give((folder / "a.log").c_str());
  give(folder / "b.log");
  give(std::filesystem::path{folder / "c.log"});
  give(sinks::json(std::filesystem::path{folder / "d.json"}));
  for (const auto* name : {"a.log", "b.log", "c.log", "d.json"})
    CHECK(read_log(std::filesystem::path{folder / name}).next()->message == "radius 2");
  std::ostringstream stream;
  give(std::make_shared<spdlog::sinks::ostream_sink_st>(stream));
  CHECK_CONTAINS(stream.str(), "radius 2");
  CHECK_THROWS_CONTAINS(give(std::shared_ptr<spdlog::sinks::sink>{}), UsageError, "empty spdlog::sink_ptr");
  CHECK_THROWS_CONTAINS(sinks::stdout_color().make({.pattern = "%G"}), UsageError, "'%G'");
  CHECK_THROWS_CONTAINS(sinks::file(folder / "e.log").make({.colors = {{"info", "mauve"}}}), UsageError,
                        "'mauve'");
}

TEST_CASE(
    "a sink of spdlog's keeps its own formatter, and sees the worker's thread, level, name, place and time") {
  const auto sink = std::make_shared<ListeningSink>();
  sink->set_pattern("%E|%F|%l|%n|%t|%s:%#|%v");
  const auto made = AnySink{sink}.make({});
  auto record = test::sample_record();
  record.time = decltype(record.time){std::chrono::nanoseconds{1'785'074'591'482'913'742}};
  record.logger = "geo";
  record.source = {"/src/main.cpp", 42, "area"};
  record.message = "two\nlines";
  made->write(record);
  CHECK(sink->text ==
        "1785074591|482913742|info|geo|4712|main.cpp:42|two\\nlines {user=7 path=\"a b\" ok=true}\n");
  CHECK(sink->thread == 4712);
  made->flush();
  CHECK(sink->flushes == 1);
  sink->set_level(spdlog::level::err);
  sink->text.clear();
  made->write(record);
  CHECK(sink->text.empty());
}

TEST_CASE(
    "a sink of spdlog's with a pattern of ours shows worker, pid and task, and colours the range itself") {
  const auto sink = std::make_shared<ListeningSink>();
  const auto made = AnySink{sink}.make({.pattern = "%P %t %w [%^%l%$] [%W] %v"});
  made->write(test::sample_record());
  CHECK(sink->text == "4711 4712 0 [info] [w0 area#41] radius 2\n");
  CHECK(sink->colored == "info");
  CHECK(sink->payload == "radius 2 {user=7 path=\"a b\" ok=true}");
  // A message of spdlog's own through the same sink.
  sink->log(spdlog::details::log_msg{"own", spdlog::level::info, "direct"});
  CHECK(sink->text == "direct\n");
  const test::TemporaryFolder folder;
  std::FILE* const file = std::fopen((folder / "colors").c_str(), "w");
  const auto colors = std::make_shared<spdlog::sinks::ansicolor_sink<spdlog::details::console_nullmutex>>(
      file, spdlog::color_mode::always);
  AnySink{colors}.make({.pattern = "[%^%l%$] %v"})->write(test::sample_record());
  std::fclose(file);
  CHECK_CONTAINS(test::read_file(folder / "colors"), "[\033[32minfo\033[m] radius 2");
}

TEST_CASE("hostile records are one line each in a sink of spdlog's, and a pattern of ours reads them back") {
  const test::TemporaryFolder folder;
  const auto path = folder / "spdlog.log";
  const auto records = test::hostile_records();
  for (const bool ours : {false, true}) {
    {
      const auto made = AnySink{std::make_shared<spdlog::sinks::basic_file_sink_st>(path, true)}.make(
          {.pattern = ours ? "%+" : ""});
      for (const auto& record : records) made->write(record);
    }
    const auto text = test::read_file(path);
    CHECK(static_cast<std::size_t>(std::ranges::count(text, '\n')) == records.size());
    CHECK(std::ranges::none_of(
        text, [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == '\x7f'; }));
    if (!ours) continue;
    std::size_t i = 0;
    for (const auto& back : read_log(path, {.strict = true})) {
      auto expected = records[i++];
      test::cut_to_default_line(expected);
      REQUIRE(test::difference(expected, back) == "");
    }
    CHECK(i == records.size());
  }
}
