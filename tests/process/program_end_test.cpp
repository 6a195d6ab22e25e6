// What is in the sinks when the program itself ends: each way to end, under each start method. The page is
// liblog/doc/program_end.md.
#include <algorithm>
#include <csignal>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "kindred/read_log.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

struct End {
  kindred::test::Outcome outcome;
  std::vector<std::string> messages;
  std::vector<Level> levels;

  [[nodiscard]] bool has(std::string_view message) const {
    return std::ranges::find(messages, message) != messages.end();
  }
  [[nodiscard]] std::size_t count(std::string_view beginning) const {
    std::size_t found = 0;
    for (const auto& message : messages) found += message.starts_with(beginning) ? 1U : 0U;
    return found;
  }
  [[nodiscard]] bool has_all() const {
    return count("worker ") >= 20 && count("parent ") == 1000 && has("flushed");
  }
};

End run(StartMethod method, const std::string& how, const std::string& option) {
  const TemporaryFolder folder;
  End end;
  end.outcome =
      run_program(victim("program_end"), {std::string{to_string(method)}, how, folder / "log", option});
  auto log = read_log(folder / "log");
  for (const auto& record : log) {
    if (record.origin == Origin::lifecycle) continue;
    end.messages.push_back(record.message);
    end.levels.push_back(record.level);
  }
  CHECK(log.bad_lines() == 0);
  return end;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("all that was logged is in the file after return, exit and quick_exit") {
  for (const char* const how : {"return", "static", "leak", "exit", "quick_exit"}) {
    CAPTURE(how);
    const auto end = run(method, how, "plain");
    CHECK(end.outcome.signal == 0);
    CHECK(end.outcome.code == (std::string{how}.ends_with("exit") ? 3 : 0));
    CHECK(end.has_all());
    // Where the pool is still there when static objects are destroyed, so are their records.
    if (std::string{how} == "leak" || std::string{how} == "exit") CHECK(end.has("static destructor"));
  }
}

TEST_CASE_EACH_START_METHOD(
    "with last_words all that was logged, and why, is in the file after each death but SIGKILL") {
  struct Case {
    const char* how;
    int signal;
    std::string words;
  };
  for (const auto& [how, signal, words] :
       {Case{"exception", SIGABRT,
             "the program ends by an exception that nobody catches: std::runtime_error: nobody catches this"},
        Case{"terminate", SIGABRT, "the program ends by std::terminate"},
        Case{"abort", SIGABRT, "the program is ended by SIGABRT"},
        Case{"SIGTERM", SIGTERM, "the program is ended by SIGTERM"},
        Case{"SIGSEGV", SIGSEGV, "the program is ended by SIGSEGV"}}) {
    CAPTURE(std::string{how});
    const auto end = run(method, how, "last_words");
    CHECK(end.outcome.signal == signal);
    CHECK(end.has_all());
    REQUIRE(!end.messages.empty());
    CHECK(end.messages.back() == words);
    CHECK(end.levels.back() == Level::critical);
    CHECK(end.count("the program ") == 1);
  }
}

TEST_CASE_EACH_START_METHOD("what was flushed, and all before it, is in the file whatever ends the program") {
  struct Case {
    const char* how;
    int signal;
  };
  for (const auto& [how, signal] :
       {Case{"exception", SIGABRT}, Case{"abort", SIGABRT}, Case{"SIGTERM", SIGTERM},
        Case{"SIGSEGV", SIGSEGV}, Case{"overflow", SIGSEGV}, Case{"SIGKILL", SIGKILL}, Case{"_exit", 0}}) {
    CAPTURE(std::string{how});
    for (const char* const option : {"plain", "flush_on"}) {
      CAPTURE(std::string{option});
      const auto end = run(method, how, option);
      CHECK(end.outcome.signal == signal);
      CHECK(end.count("worker ") >= 10);
      CHECK(end.has("flushed"));
      if (std::string{option} == "flush_on") {
        // An error is in the file before the call returns, and so is all that came before it.
        CHECK(end.has_all());
        CHECK(end.messages.back() == "the last words of the program's own");
      }
    }
  }
}

TEST_CASE_EACH_START_METHOD(
    "last words are the parent's: a worker, and a child that the program forks, end as ever") {
  const auto outcome = run_forked([&] {
    std::vector<std::string> seen;  // written by the collector's thread, read after the pool's end
    {
      ProcessPoolExecutor pool{entry(),
                               {.start_method = method, .max_workers = 1, .log = {.last_words = true}}};
      pool.logger().add_sink([&](const LogRecord& record) { seen.push_back(record.message); });
      const auto lost = pool.submit([] { ::raise(SIGSEGV); });
      lost.wait();
      const auto child = ::fork();
      if (child == 0) ::raise(SIGTERM);
      int status = 0;
      ::waitpid(child, &status, 0);
      if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM)
        throw std::runtime_error{"the child did not end so"};
    }
    if (seen.empty()) throw std::runtime_error{"the worker's death is not in the log"};
    for (const auto& message : seen) {
      if (message.starts_with("the program is ended")) throw std::runtime_error{message};
    }
  });
  INFO(outcome.err);
  CHECK(outcome.code == 0);
}
