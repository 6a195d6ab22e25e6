// What a task throws, as it arrives in the parent.
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <pthread.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;

namespace {

[[gnu::noinline]] int throw_nested() {
  try {
    try {
      throw std::out_of_range{"row 7"};
    } catch (...) {
      std::throw_with_nested(std::runtime_error{"table 'users' cannot be read"});
    }
  } catch (...) {
    std::throw_with_nested(std::logic_error{"the report fails"});
  }
}

struct Uncopyable : std::runtime_error {
  explicit Uncopyable(const std::string& text) : std::runtime_error{text}, held{std::make_unique<int>(3)} {}
  std::unique_ptr<int> held;
};
int throw_uncopyable() {
  try {
    throw Uncopyable{"it holds what cannot be copied"};
  } catch (Uncopyable&) {
    throw;
  }
}

// Registered, and throws when it is read back.
struct Broken {
  int number = 0;
  template <class Archive>
  void save(Archive& archive) const {
    archive(number);
  }
  template <class Archive>
  void load(Archive&) {
    throw std::runtime_error{"cannot be read back"};
  }
};
const bool broken_registered = register_exception<Broken>();
int throw_broken() { throw Broken{4}; }

// Registered, with members.
struct ParseError : std::runtime_error {
  ParseError() : ParseError{0, 0} {}
  ParseError(int at_line, int at_column)
      : std::runtime_error{"line " + std::to_string(at_line)}, line{at_line}, column{at_column} {}
  int line, column;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(line, column);
  }
};
const bool parse_error_registered = register_exception<ParseError>();
int throw_parse_error() { throw ParseError{12, 34}; }

struct Unwritable {
  template <class Archive>
  void save(Archive&) const {
    throw std::runtime_error{"cannot be written"};
  }
  template <class Archive>
  void load(Archive&) {}
};
void take_unwritable(const Unwritable&) {}

int throw_int() { throw 5; }
int throw_text() { throw std::string{"a bare string"}; }
int end_thread() { ::pthread_exit(nullptr); }
int throw_standard(int which) {
  switch (which) {
    case 0: throw std::invalid_argument{"an argument"};
    case 1: throw std::bad_alloc{};
    case 2: throw std::system_error{ENOENT, std::generic_category(), "opening it"};
    case 3:
      throw std::filesystem::filesystem_error{"opening it", "/none",
                                              std::make_error_code(std::errc::no_such_file_or_directory)};
    default: throw std::overflow_error{"a number"};
  }
}
std::invalid_argument give_exception() { return std::invalid_argument{"I am a value"}; }
void throw_runtime_error(const char* text) { throw std::runtime_error{text}; }

// Each calls the next, and has something left to do when it returns, so that all of them have frames. clang
// would make a loop of a recursion all the same.
#ifdef __clang__
#pragma clang optimize off
#endif
[[gnu::noinline]] int read_row(int row) {
  if (row >= 0) throw std::out_of_range{"row " + std::to_string(row)};
  return row;
}
[[gnu::noinline]] int read_table(int row) { return 1 + read_row(row); }
[[gnu::noinline]] int write_report(int row) { return 1 + read_table(row); }
[[gnu::noinline]] int write_report_after_a_mishap(int row) {
  struct Last {
    ~Last() {
      try {
        read_row(0);
      } catch (const std::out_of_range&) {}
    }
  };
  const Last last;
  try {
    read_table(row + 1);
  } catch (const std::out_of_range&) {}
  return write_report(row);
}
[[gnu::noinline]] int descend(int steps) { return steps == 0 ? read_row(0) : 1 + descend(steps - 1); }
int try_again(int row) {
  try {
    return read_table(row);
  } catch (const std::out_of_range&) {
    throw;
  }
}
void initialise_badly() { (void)read_table(3); }
#ifdef __clang__
#pragma clang optimize on
#endif
ParseError throw_nothing_to_throw_with(int line) { return ParseError{line, 0}; }
[[gnu::noinline]] int throw_member_later() { throw throw_nothing_to_throw_with(7); }

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in{text};
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}
/// The stack of the error that `get` throws.
std::vector<std::string> stack_of(const std::function<void()>& get) {
  try {
    get();
    FAIL("no error");
  } catch (const TaskError& error) {
    return lines_of(error.backtrace());
  }
  return {};
}

void terminate_by_noexcept() noexcept { throw_runtime_error("nobody may catch this"); }

template <class E>
void throw_and_check(ProcessPoolExecutor& pool, int which, const char* text) {
  auto future = pool.submit(throw_standard, which);
  CHECK_THROWS_CONTAINS(future.get(), E, text);
  CHECK_THROWS_CONTAINS(future.get(), TaskError, text);
  CHECK_THROWS_CONTAINS(future.get(), std::exception, text);
  CHECK_THROWS_CONTAINS(future.get(), Error, text);
}

}  // namespace

TEST_CASE_EACH_START_METHOD("nested exceptions arrive with type, text, chain, worker and task") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(throw_nested);
  try {
    future.get();
    FAIL("no error");
  } catch (const std::logic_error& thrown) {
    const auto& error = dynamic_cast<const TaskError&>(thrown);
    CHECK_CONTAINS(error.type_name(), "std::logic_error");
    CHECK(error.original_what() == "the report fails");
    REQUIRE(error.causes().size() == 2);
    CHECK_CONTAINS(error.causes()[0].type, "std::runtime_error");
    CHECK(error.causes()[0].what == "table 'users' cannot be read");
    CHECK_CONTAINS(error.causes()[1].type, "std::out_of_range");
    CHECK(error.causes()[1].what == "row 7");
    CHECK_CONTAINS(error.what(), "throw_nested");
    CHECK_CONTAINS(error.what(), "#" + std::to_string(future.task_id()));
    CHECK_CONTAINS(error.what(), "row 7");
    CHECK(error.worker() == 0);
    CHECK(error.pid() == pool.worker_pids().at(0));
    try {
      std::rethrow_if_nested(thrown);
      FAIL("no cause");
    } catch (const std::runtime_error& cause) {
      CHECK_CONTAINS(cause.what(), "table 'users'");
      CHECK_THROWS_AS(std::rethrow_if_nested(cause), std::out_of_range);
    }
    CHECK_CONTAINS(error.backtrace(), "throw_nested");
    CHECK_FALSE(contains(error.what(), "\n"));
  }
}

TEST_CASE_EACH_START_METHOD(
    "the stack that an exception was thrown on arrives, from the throw out to the task") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const std::vector<std::string> report{"(anonymous namespace)::read_row",
                                        "(anonymous namespace)::read_table",
                                        "(anonymous namespace)::write_report"};
  CHECK(stack_of([&] { (void)pool.submit(write_report, 7).get(); }) == report);
  SUBCASE("what was thrown and caught before it, and on its way, is not in it") {
    const auto stack = stack_of([&] { (void)pool.submit(write_report_after_a_mishap, 7).get(); });
    REQUIRE(stack.size() == 4);
    CHECK(std::vector(stack.begin(), stack.begin() + 3) == report);
    CHECK_CONTAINS(stack[3], "write_report_after_a_mishap");
  }
  SUBCASE("each task has its own, also where a number, a registered class or nothing of C++ was thrown") {
    CHECK(stack_of([&] { (void)pool.submit(throw_int).get(); }) ==
          std::vector<std::string>{"(anonymous namespace)::throw_int"});
    CHECK(stack_of([&] { (void)pool.submit(throw_member_later).get(); }) ==
          std::vector<std::string>{"(anonymous namespace)::throw_member_later"});
    CHECK(stack_of([&] { (void)pool.submit(end_thread).get(); }).empty());
    CHECK(pool.submit(number, 5).get() == 5);
  }
  SUBCASE("what is thrown again has the stack of the last throw") {
    CHECK(stack_of([&] { (void)pool.submit(try_again, 7).get(); }) ==
          std::vector<std::string>{"(anonymous namespace)::try_again"});
  }
  SUBCASE("of a deep one the innermost 32 frames") {
    const auto stack = stack_of([&] { (void)pool.submit(descend, 200).get(); });
    REQUIRE(stack.size() == 32);
    CHECK_CONTAINS(stack.front(), "read_row");
    CHECK_CONTAINS(stack.back(), "descend");
  }
  SUBCASE("an item of a map, and a lambda, which may be part of what calls it") {
    CHECK(stack_of([&] {
            for (const int row : pool.map(write_report, std::vector{-1, -2, 3})) (void)row;
          }) == report);
    const auto stack = stack_of([&] {
      (void)pool.submit([](int row) -> int { throw std::out_of_range{std::to_string(row)}; }, 7).get();
    });
    REQUIRE(stack.size() == 1);
    CHECK_CONTAINS(stack.front(), "lambda");
  }
  SUBCASE("none where the parent threw: its own stack is the reader's") {
    CHECK(stack_of([&] { (void)pool.submit(take_unwritable, Unwritable{}).get(); }).empty());
  }
}

TEST_CASE_EACH_START_METHOD("the stack of a failed initializer is in the cause, and outlives the pool") {
  ResourceAudit audit;
  std::exception_ptr kept;
  {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = method, .max_workers = 1, .initializer = {initialise_badly}}};
    try {
      (void)pool.submit(number, 5).get();
    } catch (const BrokenProcessPool& error) {
      kept = error.cause();
    }
  }
  REQUIRE(kept);
  const auto stack = stack_of([&] { std::rethrow_exception(kept); });
  REQUIRE(stack.size() == 3);
  CHECK_CONTAINS(stack[1], "read_table");
  CHECK_CONTAINS(stack[2], "initialise_badly");
}

TEST_CASE_EACH_START_METHOD(
    "an exception that cannot be copied or read back arrives with its type and text") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK_THROWS_CONTAINS(pool.submit(throw_uncopyable).get(), std::runtime_error,
                        "it holds what cannot be copied");
  CHECK_THROWS_CONTAINS(pool.submit(throw_uncopyable).get(), TaskError, "Uncopyable");
  CHECK_THROWS_CONTAINS(pool.submit(throw_broken).get(), TaskError, "Broken");
  CHECK(pool.submit(number, 5).get() == 5);
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD("a registered exception arrives as itself, with its members") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(throw_parse_error);
  try {
    future.get();
    FAIL("no error");
  } catch (const ParseError& error) {
    CHECK(error.line == 12);
    CHECK(error.column == 34);
    CHECK(std::string{error.what()} == "line 12");
  }
  CHECK_THROWS_AS(future.get(), TaskError);
}

TEST_CASE_EACH_START_METHOD(
    "what is no exception object is reported with its value, and a task that ends its thread too") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK_THROWS_CONTAINS(pool.submit(throw_int).get(), TaskError, "int");
  CHECK_THROWS_CONTAINS(pool.submit(throw_int).get(), std::exception, "5");
  CHECK_THROWS_CONTAINS(pool.submit(throw_text).get(), TaskError, "a bare string");
  CHECK_THROWS_AS(pool.submit(end_thread).get(), std::exception);
  CHECK(pool.submit(number, 5).get() == 5);
  CHECK_THROWS_AS(pool.submit(end_thread).get(), std::exception);
  CHECK(pool.submit(number, 6).get() == 6);
}

TEST_CASE_EACH_START_METHOD(
    "standard exceptions are caught as what they were, as TaskError and as std::exception") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  throw_and_check<std::invalid_argument>(pool, 0, "an argument");
  throw_and_check<std::bad_alloc>(pool, 1, "bad_alloc");
  throw_and_check<std::system_error>(pool, 2, "opening it");
  throw_and_check<std::system_error>(pool, 3, "opening it");
  throw_and_check<std::overflow_error>(pool, 4, "a number");
  try {
    pool.submit(throw_standard, 2).get();
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::no_such_file_or_directory);
  }
}

TEST_CASE_EACH_START_METHOD("an exception object that a task returns is a value") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(give_exception);
  CHECK(std::string{future.get().what()} == "I am a value");
  CHECK(future.exception() == nullptr);
}

TEST_CASE_EACH_START_METHOD(
    "an exception that nobody may catch ends the worker by SIGABRT, and only its task fails") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto dying = pool.submit(terminate_by_noexcept);
  auto next = pool.submit(number, 5);
  CHECK_THROWS_CONTAINS(dying.get(), WorkerLost, "SIGABRT");
  CHECK(next.get() == 5);
}
