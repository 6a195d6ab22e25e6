// Scopes: whatever ends them, and where, and over which co_await they go.

#include <coroutine>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kindred/log_scope.hpp"
#include "unit/log_support.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

using Fields = std::initializer_list<LogField>;

/// "message {key=value ...}" of each record.
std::vector<std::string> texts(TestLog& log) {
  std::vector<std::string> all;
  for (const auto& record : log.records()) {
    std::string text = record.message;
    for (const auto& field : record.fields)
      text += " " + field.key + "=" + std::to_string(std::get<std::int64_t>(field.value));
    all.push_back(text);
  }
  return all;
}

/// A coroutine that begins at once, and whose caller goes on when it is suspended.
struct Job {
  struct promise_type {
    Job get_return_object() { return {}; }
    std::suspend_never initial_suspend() { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
};

/// Suspends, and keeps the coroutine for the test to resume.
struct Later {
  std::coroutine_handle<>& handle;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) const { handle = coroutine; }
  void await_resume() const {}
};

Job request(int number, std::coroutine_handle<>& resume, bool carried) {
  LogScope scope{{"request", number}};
  log_info("before");
  if (carried)
    co_await carry_log_scopes(Later{resume});
  else
    co_await Later{resume};
  LogScope inner{{"inner", 1}};
  log_info("after");
}

}  // namespace

TEST_CASE("scopes end in any order, and each takes its own field away") {
  TestLog log{{.level = Level::info}};
  std::optional<LogScope> a, b, c;
  a.emplace(Fields{{"a", 1}});
  b.emplace(Fields{{"b", 2}, {"x", 2}});
  c.emplace(Fields{{"c", 3}, {"x", 3}});
  log_info("all");
  a.reset();
  log_info("b and c");
  c.reset();
  log_info("b");
  b.reset();
  log_info("none");
  CHECK(texts(log) ==
        std::vector<std::string>{"all a=1 b=2 x=3 c=3", "b and c b=2 x=3 c=3", "b b=2 x=2", "none"});
}

TEST_CASE("a scope that ends on another thread is gone from the thread that made it") {
  TestLog log{{.level = Level::info}};
  auto scope = std::make_unique<LogScope>(Fields{{"a", 1}});
  log_info("with");
  std::thread{[&] {
    log_info("not inherited");
    scope.reset();
  }}.join();
  log_info("without");
  CHECK(texts(log) == std::vector<std::string>{"with a=1", "not inherited", "without"});
}

TEST_CASE("a scope outlives its thread") {
  TestLog log{{.level = Level::info}};
  std::unique_ptr<LogScope> scope;
  std::thread{[&] { scope = std::make_unique<LogScope>(Fields{{"a", 1}}); }}.join();
  log_info("of nobody");
  scope.reset();
  CHECK(texts(log) == std::vector<std::string>{"of nobody"});
}

TEST_CASE("a scope goes over co_await with its coroutine, and leaves nothing behind") {
  TestLog log{{.level = Level::info}};
  std::coroutine_handle<> one, two;
  const LogScope outer{{"outer", 9}};
  request(1, one, true);
  log_info("caller");
  request(2, two, true);
  std::thread{[&] {
    two.resume();
    log_info("resumer");
  }}.join();
  one.resume();
  log_info("at the end");
  CHECK(texts(log) == std::vector<std::string>{"before outer=9 request=1", "caller outer=9",
                                               "before outer=9 request=2", "after request=2 inner=1",
                                               "resumer", "after outer=9 request=1 inner=1",
                                               "at the end outer=9"});
}

TEST_CASE("a scope that is not carried harms nothing when its coroutine ends on another thread") {
  TestLog log{{.level = Level::info}};
  std::coroutine_handle<> one;
  request(1, one, false);
  std::thread{[&] { one.resume(); }}.join();
  log_info("none is left");
  CHECK(texts(log) == std::vector<std::string>{"before request=1", "after inner=1", "none is left"});
}

TEST_CASE("a coroutine that is destroyed while it is suspended takes its scopes along") {
  TestLog log{{.level = Level::info}};
  std::coroutine_handle<> one;
  request(1, one, true);
  one.destroy();
  log_info("none");
  CHECK(texts(log) == std::vector<std::string>{"before request=1", "none"});
}
