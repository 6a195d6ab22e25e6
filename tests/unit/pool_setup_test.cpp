// What a pool tells its workers of itself, and what the parent reads of what a dead one had printed.
#include "pool_setup.hpp"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kindred/executor_options.hpp"
#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/descriptor.hpp"
#include "nesting.hpp"
#include "printed_text.hpp"
#include "support/test.hpp"

#include <unistd.h>

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

void take_two(int, const std::string&) {}
void take_none() {}

/// The pipe of a worker's stdout, and what the worker has noted of it.
struct Printed {
  std::pair<Descriptor, Descriptor> pipe = make_capture_pipe();
  PrintedText text{};

  void keep(unsigned which, const std::string& line) {
    std::memcpy(text.text[which], line.data(), line.size());
    PrintedText::State state = text.state;
    if (state.which == which) state.kept = static_cast<std::uint16_t>(line.size());
    text.state = state;
  }
  void print(const std::string& bytes) const {
    REQUIRE(::write(pipe.second.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  [[nodiscard]] std::string untold() const { return take_untold(text, {}, pipe.first.get()); }
};

}  // namespace

TEST_CASE("a worker reads what the pool has written of itself") {
  CodeBook code;
  Attachments attachments;
  const ContextId context = ContextId::make(StartMethod::forkserver);
  ExecutorOptions options{
      .start_method = StartMethod::forkserver, .max_rss_per_worker = 12345, .preload = {Call{take_none}}};
  options.finalizer = Call{take_none};
  options.log.bridge_spdlog = false;
  const auto bytes = write_pool_setup(code, context, Call{take_two, 7, "text"}, options, attachments);
  CHECK(attachments.empty());
  const PoolSetup setup = read_pool_setup(bytes);
  CHECK(setup.initializer.entry != 0);
  CHECK(code.address(setup.initializer.function) == reinterpret_cast<const void*>(&take_two));
  CHECK_FALSE(setup.initializer.arguments.empty());
  CHECK(code.address(setup.finalizer.function) == reinterpret_cast<const void*>(&take_none));
  REQUIRE(setup.preload.size() == 1);
  CHECK(setup.preload[0].function == setup.finalizer.function);
  CHECK(setup.depth == nesting_depth() + 1);
  CHECK(setup.max_rss_bytes == 12345);
  CHECK_FALSE(setup.bridge_spdlog);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    CHECK_THROWS_AS((void)read_pool_setup(std::span{bytes}.first(size)), DecodeError);
}

TEST_CASE("an executor's options are checked as a whole, and the refusal names option, value and range") {
  ExecutorOptions options;
  options.start_method = StartMethod::fork;
  CHECK_NOTHROW(options.validate());
  options.max_workers = 5000;
  CHECK_THROWS_CONTAINS(options.validate(), UsageError,
                        "ExecutorOptions::max_workers is 5000. Use 1 to 4096");
  options.max_workers = 1;
  options.preload = {Call{take_none}};
  CHECK_THROWS_CONTAINS(options.validate(), UsageError, "preload is set with start method fork");
}

TEST_CASE("what a dead worker had printed is its unfinished line and what its pipe holds") {
  Printed printed;
  CHECK(printed.untold().empty());
  printed.keep(0, "begun ");
  printed.print("and ended\nnext");
  CHECK(printed.untold() == "begun and ended\nnext");
}

TEST_CASE("bytes that are in the log already are not told again") {
  Printed printed;
  printed.keep(0, "first\nsecond\n");
  PrintedText::State state = printed.text.state;
  state.logged = 6;
  printed.text.state = state;
  CHECK(printed.untold() == "second\n");
}

TEST_CASE("a worker that died while it took bytes out of the pipe had either taken them all or none") {
  for (const bool made : {false, true}) {
    CAPTURE(made);
    Printed printed;
    printed.keep(0, "in the log\n");
    PrintedText::State state = printed.text.state;
    state.logged = 11;
    state.taking = 1;
    state.set_next_kept(4);
    printed.text.state = state;
    printed.keep(1, "nexT");
    printed.text.expected = 't';
    printed.text.marker = made ? 't' : '\0';
    printed.print(made ? "" : "next");
    CHECK(printed.untold() == "next");
  }
}

TEST_CASE("numbers that a worker has corrupted are bounded") {
  Printed printed;
  PrintedText::State state;
  state.kept = 0xffff;
  state.logged = 100;
  printed.text.state = state;
  CHECK(printed.untold().size() == PrintedText::limit - 100);
}
