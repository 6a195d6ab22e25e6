// What a task throws comes to the parent as what it was, and any bytes at all are read safely.
#include <cereal/cereal.hpp>  // before the codec on purpose: codec_test.cpp has it after
#include <cereal/types/string.hpp>

#include <any>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <new>
#include <optional>
#include <random>
#include <regex>
#include <thread>
#include <typeinfo>
#include <variant>

#include <pthread.h>

#include "kindred/internal/exception_codec.hpp"
#include "kindred/task_error.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::internal;

namespace exception_test {

struct Bytes {
  std::vector<std::byte> memory = std::vector<std::byte>(16);
  std::size_t limit = ~std::size_t{0};
  static std::span<std::byte> grow(void* owner, std::span<const std::byte> written, std::size_t more) {
    auto& bytes = *static_cast<Bytes*>(owner);
    if (written.size() + more > bytes.limit) throw std::bad_alloc{};
    bytes.memory.resize(written.size() + more);
    return bytes.memory;
  }
};

const TaskFacts facts{
    .task_id = 41, .task_name = "area", .worker = 3, .pid = 7712, .incarnation = 0, .attempt = 1};

template <class Throw>
std::exception_ptr thrown_by(Throw&& throw_it) {
  try {
    throw_it();
  } catch (...) {
    return std::current_exception();
  }
  return {};
}

std::vector<std::byte> written(const std::exception_ptr& exception, TaskPhase phase = TaskPhase::running,
                               std::size_t limit = ~std::size_t{0}) {
  Bytes bytes;
  bytes.limit = limit;
  Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
  encode_exception(encoder, exception, phase);
  const auto all = encoder.written();
  return {all.begin(), all.end()};
}
std::exception_ptr read(std::span<const std::byte> bytes) {
  Decoder decoder{ContextId{}, bytes};
  return decode_exception(decoder, facts);
}
template <class Throw>
std::exception_ptr across(Throw&& throw_it, TaskPhase phase = TaskPhase::running) {
  return read(written(thrown_by(throw_it), phase));
}

/// Is it caught as an `E`, and as all that every error of a task is?
template <class E>
void check_caught_as(const std::exception_ptr& error) {
  REQUIRE(error);
  CHECK_THROWS_AS(std::rethrow_exception(error), E);
  CHECK_THROWS_AS(std::rethrow_exception(error), TaskError);
  CHECK_THROWS_AS(std::rethrow_exception(error), Error);
  CHECK_THROWS_AS(std::rethrow_exception(error), std::exception);
}
template <class Look>
void look_at_task_error(const std::exception_ptr& error, Look&& look) {
  REQUIRE(error);
  try {
    std::rethrow_exception(error);
  } catch (const TaskError& task_error) {
    look(task_error);
    return;
  } catch (...) {}
  FAIL("it is no TaskError");
}
std::string what_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& exception) {
    return exception.what();
  } catch (...) {}
  return "not a std::exception";
}

struct Unregistered : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Coded : std::runtime_error {
  Coded() : std::runtime_error{"default"} {}
  Coded(int c, const std::string& text) : std::runtime_error{text}, code{c} {}
  int code = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(code);
  }
};
struct Named : std::out_of_range {
  using std::out_of_range::out_of_range;
};
struct OwnWhat : std::exception {
  std::string text;
  [[nodiscard]] const char* what() const noexcept final { return text.c_str(); }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(text);
  }
};
struct NoStd {
  int value = 0;
  std::string text;
};
struct Final final : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Unreadable : std::runtime_error {
  Unreadable() : std::runtime_error{"default"} {}
  explicit Unreadable(const std::string& text) : std::runtime_error{text} {}
  int more = 0;
  template <class Archive>
  void save(Archive& archive) const {
    archive(more);
  }
  template <class Archive>
  void load(Archive&) {
    throw std::logic_error{"cannot be read"};
  }
};
struct Unwritable : std::runtime_error {
  Unwritable() : std::runtime_error{"default"} {}
  explicit Unwritable(const std::string& text) : std::runtime_error{text} {}
  int more = 0;
  template <class Archive>
  void save(Archive&) const {
    throw std::logic_error{"cannot be written"};
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(more);
  }
};
struct MoveOnly : std::exception {
  MoveOnly() = default;
  explicit MoveOnly(int value) : pointer{std::make_unique<int>(value)} {}
  MoveOnly(MoveOnly&&) = default;
  MoveOnly(const MoveOnly&) = delete;
  std::unique_ptr<int> pointer;
  [[nodiscard]] const char* what() const noexcept override { return "move only"; }
  template <class Archive>
  void serialize(Archive& archive) {
    archive(pointer);
  }
};
struct Empty : std::exception {
  explicit Empty(const char* t) : text{t} {}
  const char* text;
  [[nodiscard]] const char* what() const noexcept override { return text; }
};
enum class Code { bad = 3 };

const bool registered = register_exception<Coded>() && register_exception<Named>() &&
                        register_exception<OwnWhat>() && register_exception<NoStd>() &&
                        register_exception<Final>() && register_exception<Unreadable>() &&
                        register_exception<Unwritable>() && register_exception<MoveOnly>();

}  // namespace exception_test

using namespace exception_test;

TEST_CASE("a standard exception is caught as its own type, as TaskError and as std::exception") {
  const auto check_text = [](auto example) {
    using E = decltype(example);
    INFO(typeid(E).name());
    const auto error = across([&] { throw example; });
    check_caught_as<E>(error);
    look_at_task_error(error, [&](const TaskError& task_error) {
      CHECK(task_error.original_what() == example.what());
      CHECK(task_error.kind() == ErrorKind::task);
      CHECK_CONTAINS(task_error.what(), example.what());
      CHECK(std::string{task_error.what()} == what_of(error));
    });
  };
  check_text(std::logic_error{"text"});
  check_text(std::invalid_argument{"text"});
  check_text(std::domain_error{"text"});
  check_text(std::length_error{"text"});
  check_text(std::out_of_range{"text"});
  check_text(std::runtime_error{"text"});
  check_text(std::range_error{"text"});
  check_text(std::overflow_error{"text"});
  check_text(std::underflow_error{"text"});
  check_text(std::bad_alloc{});
  check_text(std::bad_array_new_length{});
  check_text(std::bad_cast{});
  check_text(std::bad_any_cast{});
  check_text(std::bad_typeid{});
  check_text(std::bad_function_call{});
  check_text(std::bad_optional_access{});
  check_text(std::bad_variant_access{});
  check_text(std::bad_weak_ptr{});
  check_text(std::bad_exception{});
  check_text(std::exception{});
  check_text(std::regex_error{std::regex_constants::error_brack});
  check_text(std::future_error{std::future_errc::broken_promise});
  check_text(std::ios_base::failure{"text", std::make_error_code(std::io_errc::stream)});
  check_text(std::system_error{ENOSPC, std::generic_category(), "text"});
  check_text(
      std::filesystem::filesystem_error{"text", "/a", "/b", std::make_error_code(std::errc::file_exists)});
  check_caught_as<std::logic_error>(across([] { throw std::out_of_range{"text"}; }));
}

TEST_CASE("codes, categories and paths come along") {
  try {
    std::rethrow_exception(across([] { throw std::system_error{ENOSPC, std::system_category(), "text"}; }));
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::error_code{ENOSPC, std::system_category()});
  }
  try {
    std::rethrow_exception(across([] {
      throw std::filesystem::filesystem_error{"text", "/a", "/b",
                                              std::make_error_code(std::errc::file_exists)};
    }));
  } catch (const std::filesystem::filesystem_error& error) {
    CHECK(error.path1() == "/a");
    CHECK(error.path2() == "/b");
    CHECK(error.code() == std::errc::file_exists);
  }
  try {
    std::rethrow_exception(across([] { throw std::future_error{std::future_errc::broken_promise}; }));
  } catch (const std::future_error& error) {
    CHECK(error.code() == std::future_errc::broken_promise);
  }
  try {
    std::rethrow_exception(across([] { throw std::regex_error{std::regex_constants::error_brack}; }));
  } catch (const std::regex_error& error) {
    CHECK(error.code() == std::regex_constants::error_brack);
  }
}

TEST_CASE("the message names the task, the type, the text and the worker") {
  look_at_task_error(across([] { throw std::out_of_range{"index 7 of 3"}; }), [](const TaskError& error) {
    CHECK(std::string{error.what()} ==
          "task 'area' #41 threw std::out_of_range: index 7 of 3 (worker 3, pid 7712).");
    CHECK(error.type_name() == "std::out_of_range");
    CHECK(error.original_what() == "index 7 of 3");
    CHECK(error.task_id() == 41);
    CHECK(error.task_name() == "area");
    CHECK(error.worker() == 3);
    CHECK(error.pid() == 7712);
    CHECK(error.attempt() == 1);
    CHECK(error.phase() == TaskPhase::running);
    CHECK(error.causes().empty());
  });
}

TEST_CASE("an exception whose text is empty or missing is an error all the same") {
  for (const char* text : {"", static_cast<const char*>(nullptr)}) {
    look_at_task_error(across([&] { throw Empty{text}; }), [](const TaskError& error) {
      CHECK(error.type_name() == "exception_test::Empty");
      CHECK(error.original_what().empty());
      CHECK_CONTAINS(error.what(), "threw exception_test::Empty without a text");
    });
  }
}

TEST_CASE("nested causes reach the parent, in the message, in causes(), and by rethrow_if_nested") {
  const auto error = across([] {
    try {
      try {
        throw std::out_of_range{"innermost"};
      } catch (...) {
        std::throw_with_nested(std::system_error{ENOENT, std::generic_category(), "middle"});
      }
    } catch (...) {
      std::throw_with_nested(std::runtime_error{"outermost"});
    }
  });
  check_caught_as<std::runtime_error>(error);
  look_at_task_error(error, [](const TaskError& task_error) {
    CHECK(task_error.type_name() == "std::runtime_error");
    REQUIRE(task_error.causes().size() == 2);
    CHECK(task_error.causes()[0].type == "std::system_error");
    CHECK_CONTAINS(task_error.causes()[0].what, "middle");
    CHECK(task_error.causes()[1] == Cause{"std::out_of_range", "innermost"});
    CHECK_CONTAINS(task_error.what(), "threw std::runtime_error: outermost");
    CHECK_CONTAINS(task_error.what(), "Caused by std::out_of_range: innermost.");
  });
  int seen = 0;
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& outer) {
    try {
      std::rethrow_if_nested(outer);
    } catch (const std::system_error& middle) {
      ++seen;
      CHECK(middle.code().value() == ENOENT);
      try {
        std::rethrow_if_nested(middle);
      } catch (const std::out_of_range& inner) {
        ++seen;
        CHECK(std::string{inner.what()} == "innermost");
        CHECK_NOTHROW(std::rethrow_if_nested(inner));
      }
    }
  }
  CHECK(seen == 2);
}

TEST_CASE("a chain of causes is cut at 32, and a text at 64 KiB") {
  std::exception_ptr last;
  for (int i = 0; i != 100; ++i) {
    last = thrown_by([&] {
      if (!last) throw std::runtime_error{"first"};
      try {
        std::rethrow_exception(last);
      } catch (...) {
        std::throw_with_nested(std::runtime_error{"level " + std::to_string(i)});
      }
    });
  }
  look_at_task_error(read(written(last)), [](const TaskError& error) { CHECK(error.causes().size() == 31); });
  look_at_task_error(across([] { throw std::runtime_error{std::string(5'000'000, 'x')}; }),
                     [](const TaskError& error) {
                       CHECK(error.original_what().size() < 66'000);
                       CHECK_CONTAINS(error.original_what(), "(4934464 bytes more)");
                     });
}

TEST_CASE("what is thrown and is no exception class is reported with type and value") {
  const auto check_value = [](auto thrown, const std::string& type, const std::string& text) {
    const auto error = across([&] { throw thrown; });
    check_caught_as<std::exception>(error);
    look_at_task_error(error, [&](const TaskError& task_error) {
      CHECK(task_error.type_name() == type);
      CHECK(task_error.original_what() == text);
    });
  };
  check_value(5, "int", "5");
  check_value(true, "bool", "true");
  check_value('c', "char", "c");
  check_value(2.5, "double", "2.500000");
  check_value(std::uint64_t{7}, "unsigned long", "7");
  check_value("text", "char const*", "text");
  check_value(std::string{"text"}, "std::string", "text");
  check_value(Code::bad, "exception_test::Code", "");
  CHECK(what_of(across([] { throw 5; })) == "task 'area' #41 threw int: 5 (worker 3, pid 7712).");
}

TEST_CASE(
    "a class that nobody registered keeps its name and its standard base, and the message says how to get it") {
  const auto error = across([] { throw Unregistered{"text"}; });
  check_caught_as<std::runtime_error>(error);
  look_at_task_error(error, [](const TaskError& task_error) {
    CHECK(task_error.type_name() == "exception_test::Unregistered");
    CHECK_CONTAINS(task_error.what(), "kindred::register_exception<exception_test::Unregistered>()");
  });
}

TEST_CASE(
    "a registered exception is thrown as itself, with its members and its own text, and is a TaskError too") {
  CHECK(registered);
  try {
    std::rethrow_exception(across([] { throw Coded{42, "text"}; }));
  } catch (const Coded& error) {
    CHECK(error.code == 42);
    CHECK(std::string{error.what()} == "text");
    CHECK_CONTAINS(dynamic_cast<const TaskError&>(error).what(),
                   "task 'area' #41 threw exception_test::Coded: text");
  }
  check_caught_as<Coded>(across([] { throw Coded{42, "text"}; }));
  check_caught_as<Named>(across([] { throw Named{"text"}; }));
  check_caught_as<std::out_of_range>(across([] { throw Named{"text"}; }));
  try {
    OwnWhat own;
    own.text = "own words";
    std::rethrow_exception(across([&] { throw own; }));
  } catch (const OwnWhat& error) {
    CHECK(std::string{error.what()} == "own words");
  }
  check_caught_as<OwnWhat>(across([] { throw OwnWhat{}; }));
  // One that is no std::exception can be caught as one nevertheless.
  const auto no_std = across([] { throw NoStd{3, "t"}; });
  check_caught_as<NoStd>(no_std);
  try {
    std::rethrow_exception(no_std);
  } catch (const NoStd& error) {
    CHECK((error.value == 3 && error.text == "t"));
  }
  try {
    std::rethrow_exception(across([] { throw Final{"last"}; }));
  } catch (const Final& error) {
    CHECK(std::string{error.what()} == "last");
  }
  try {
    std::rethrow_exception(across([] { throw MoveOnly{4}; }));
  } catch (const MoveOnly& error) {
    CHECK(*error.pointer == 4);
  }
}

TEST_CASE(
    "a registered exception with a cause brings it, and one derived from a registered class is caught as that") {
  const auto error = across([] {
    try {
      throw std::out_of_range{"inner"};
    } catch (...) {
      std::throw_with_nested(Coded{7, "outer"});
    }
  });
  check_caught_as<Coded>(error);
  try {
    std::rethrow_exception(error);
  } catch (const Coded& coded) {
    CHECK(coded.code == 7);
    CHECK_THROWS_AS(std::rethrow_if_nested(coded), std::out_of_range);
  }
  struct Special : Coded {
    using Coded::Coded;
  };
  const auto special = across([] { throw Special{8, "special"}; });
  check_caught_as<Coded>(special);
  look_at_task_error(special,
                     [](const TaskError& task_error) { CHECK_CONTAINS(task_error.type_name(), "Special"); });
}

TEST_CASE("an exception that cannot be written or read leaves its type name and text") {
  for (const auto& error :
       {across([] { throw Unreadable{"text"}; }), across([] { throw Unwritable{"text"}; })}) {
    check_caught_as<std::runtime_error>(error);
    look_at_task_error(error, [](const TaskError& task_error) {
      CHECK_CONTAINS(task_error.type_name(), "exception_test::Un");
      CHECK(task_error.original_what() == "text");
    });
    CHECK_THROWS_AS(std::rethrow_exception(error), TaskError);
  }
}

TEST_CASE("each reader of a failure gets an exception object of its own") {
  const auto description =
      describe(thrown_by([] { throw Coded{1, "text"}; }), TaskPhase::running, ContextId{});
  const auto first = make_exception(description, facts, ContextId{});
  const auto second = make_exception(description, facts, ContextId{});
  CHECK(first != second);
  try {
    std::rethrow_exception(first);
  } catch (Coded& one) {
    one.code = 99;
  }
  try {
    std::rethrow_exception(second);
  } catch (const Coded& other) {
    CHECK(other.code == 1);
  }
}

TEST_CASE("the message says which phase failed") {
  const auto text = [](TaskPhase phase) {
    return what_of(across([] { throw std::runtime_error{"boom"}; }, phase));
  };
  CHECK_CONTAINS(
      text(TaskPhase::writing_arguments),
      "task 'area' #41 was not sent: while writing the arguments, std::runtime_error: boom was thrown");
  CHECK_CONTAINS(text(TaskPhase::reading_arguments), "while reading arguments, std::runtime_error: boom");
  CHECK_CONTAINS(text(TaskPhase::writing_result), "while writing the result, std::runtime_error: boom");
  CHECK_CONTAINS(text(TaskPhase::reading_result),
                 "while reading the result in the parent, std::runtime_error: boom");
  const auto error = make_task_error(thrown_by([] { throw std::out_of_range{"boom"}; }),
                                     TaskPhase::writing_arguments, facts, ContextId{});
  check_caught_as<std::out_of_range>(error);
}

TEST_CASE("where memory is short, a short description is written") {
  const auto exception = thrown_by([] { throw std::runtime_error{std::string(10'000, 'x')}; });
  look_at_task_error(read(written(exception, TaskPhase::running, 1000)), [](const TaskError& error) {
    CHECK_CONTAINS(error.what(), "there was no memory to say which");
  });
  CHECK(written(exception, TaskPhase::running, 1000).size() < 200);
}

TEST_CASE("damaged descriptions give an error, and never more than that") {
  const auto whole = written(thrown_by([] {
    try {
      throw std::filesystem::filesystem_error{"text", "/a", "/b",
                                              std::make_error_code(std::errc::file_exists)};
    } catch (...) {
      std::throw_with_nested(Coded{7, "outer"});
    }
  }));
  check_caught_as<Coded>(read(whole));
  for (std::size_t length = 0; length != whole.size(); ++length) {
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    const auto error = read(part);
    REQUIRE(error);
    CHECK_CONTAINS(what_of(error), "while reading the result in the parent");
  }
  std::mt19937 random{54321};
  for (int round = 0; round != 3000; ++round) {
    auto bytes = whole;
    for (int i = 0; i != 3; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    const auto error = read(bytes);
    REQUIRE(error);
    CHECK_THROWS_AS(std::rethrow_exception(error), std::exception);
  }
}

TEST_CASE("a task's error inside a task is told with the inner task's type") {
  const auto inner = across([] { throw std::out_of_range{"deep"}; });
  const auto outer = across([&] { std::rethrow_exception(inner); });
  check_caught_as<std::out_of_range>(outer);
  look_at_task_error(outer, [](const TaskError& error) {
    CHECK(error.type_name() == "std::out_of_range");
    CHECK_CONTAINS(error.original_what(), "deep");
  });
  // kindred's own errors are told, and do not pass for the parent's own.
  const auto timeout = across([] { throw TimeoutError{"waited"}; });
  CHECK_THROWS_AS(std::rethrow_exception(timeout), TaskError);
  bool was_own = false;
  try {
    std::rethrow_exception(timeout);
  } catch (const TimeoutError&) {
    was_own = true;
  } catch (const std::exception& error) {
    CHECK_CONTAINS(error.what(), "threw kindred::TimeoutError: waited");
  }
  CHECK_FALSE(was_own);
}

// --- a task in the worker

namespace exception_test {

struct ThrowsWhenRead {
  int value = 0;
  template <class Archive>
  void save(Archive& archive) const {
    archive(value);
  }
  template <class Archive>
  void load(Archive&) {
    throw std::runtime_error{"unreadable"};
  }
};
struct ThrowsWhenWritten {
  std::string value;
  template <class Archive>
  void save(Archive& archive) const {
    archive(std::string(1000, 'x'));
    throw std::runtime_error{"unwritable"};
  }
  template <class Archive>
  void load(Archive&) {}
};

alignas(16) std::byte no_worker[64];  // nobody looks into it
Worker& a_worker() { return reinterpret_cast<Worker&>(no_worker); }

struct Ran {
  TaskEnd end{};
  std::vector<std::byte> out;
};
template <class F, class... A>
Ran run(F function, A&&... arguments) {
  using Types = TaskTypes<F, A...>;
  Bytes in;
  Encoder encoder{ContextId{}, in.memory, &Bytes::grow, &in};
  Types::encode_arguments(encoder, std::forward<A>(arguments)...);
  Bytes result;
  Encoder out{ContextId{}, result.memory, &Bytes::grow, &result};
  out.write_value(std::uint32_t{0xabcd});  // a header of the worker's loop
  Decoder decoder{ContextId{}, encoder.written()};
  Ran ran;
  ran.end = run_task<Types>(function, a_worker(), decoder, out, [] { FAIL("no task ended its thread"); });
  std::uint32_t header = 0;
  std::memcpy(&header, out.written().data(), sizeof header);
  CHECK(header == 0xabcdU);
  const auto behind = out.written().subspan(sizeof header);
  ran.out.assign(behind.begin(), behind.end());
  return ran;
}

}  // namespace exception_test

TEST_CASE("a task that runs gives a value, also where the value is an exception") {
  const auto ran = run([](int a, int b) { return a + b; }, 1, 2);
  CHECK(ran.end == TaskEnd::value);
  Decoder decoder{ContextId{}, ran.out};
  CHECK(decode<int>(decoder) == 3);

  const auto returned = run([] { return std::runtime_error{"only a value"}; });
  CHECK(returned.end == TaskEnd::value);
  Decoder value{ContextId{}, returned.out};
  CHECK(std::string{decode<std::runtime_error>(value).what()} == "only a value");

  CHECK(run([] {}).out.empty());
}

TEST_CASE("what a task throws replaces its result, in whatever phase") {
  const auto check = [](const Ran& ran, TaskPhase phase, const std::string& text) {
    CHECK(ran.end == TaskEnd::failure);
    look_at_task_error(read(ran.out), [&](const TaskError& error) {
      CHECK(error.phase() == phase);
      CHECK_CONTAINS(error.what(), text);
    });
  };
  check(run([](int) -> int { throw std::out_of_range{"in the task"}; }, 1), TaskPhase::running,
        "threw std::out_of_range: in the task");
  check(run([](const ThrowsWhenRead&) {}, ThrowsWhenRead{}), TaskPhase::reading_arguments,
        "while reading arguments, std::runtime_error: unreadable");
  check(run([] { return ThrowsWhenWritten{}; }), TaskPhase::writing_result,
        "while writing the result, std::runtime_error: unwritable");
}

TEST_CASE("the stack of a throw is noted where it comes to the worker's loop, and nowhere else") {
  (void)take_throw_stack();
  const auto caught_inside = [] {
    try {
      throw std::out_of_range{"inside"};
    } catch (const std::exception&) {
      return 1;
    }
  };
  CHECK(run(caught_inside).end == TaskEnd::value);
  CHECK(take_throw_stack().empty());
  const auto stack_sent = [](const Ran& ran) {
    Decoder decoder{ContextId{}, ran.out};
    return decode_description(decoder).stack;
  };
  CHECK(stack_sent(run([]() -> int { throw std::out_of_range{"in the task"}; })).size() > 2);
  CHECK(take_throw_stack().empty());  // it went with the description
  CHECK(stack_sent(run([] { throw 5; })).size() > 2);
  CHECK(stack_sent(run([](const ThrowsWhenRead&) {}, ThrowsWhenRead{})).size() > 2);
  const auto stack = stack_sent(run([]() -> int {
    struct Last {
      ~Last() {
        try {
          throw 5;
        } catch (int) {}
      }
    } last;
    throw std::runtime_error{"with a throw on its way out"};
  }));
  CHECK(stack.size() > 2);
  CHECK(stack.size() <= throw_stack_limit);
}

TEST_CASE("a stack that is too long is no message") {
  Bytes bytes;
  Encoder encoder{ContextId{}, bytes.memory, &Bytes::grow, &bytes};
  encode_exception(encoder, thrown_by([] { throw 5; }), TaskPhase::running);
  encoder.truncate(encoder.size() - sizeof(std::uint64_t));
  encode(encoder, std::vector<CodeReference>(throw_stack_limit + 1));
  CHECK_CONTAINS(what_of(read(encoder.written())), "stack that is too long");
}

TEST_CASE("a task that ends its thread is reported, and its thread ends") {
  Bytes in;
  Bytes result;
  Encoder encoder{ContextId{}, in.memory, &Bytes::grow, &in};
  Encoder out{ContextId{}, result.memory, &Bytes::grow, &result};
  bool published = false;
  bool went_on = false;
  std::thread{[&] {
    Decoder decoder{ContextId{}, encoder.written()};
    auto task = [] { pthread_exit(nullptr); };
    run_task<TaskTypes<decltype(task)>>(task, a_worker(), decoder, out, [&] { published = true; });
    went_on = true;
  }}.join();
  CHECK(published);
  CHECK_FALSE(went_on);
  CHECK_CONTAINS(what_of(read(out.written())), "the task ended its thread (pthread_exit");
}

// --- the other errors

TEST_CASE("WorkerLost says how the worker ended, in which task, and what to do") {
  WorkerLost::Details details;
  details.exit_reason = {.kind = ExitReason::Kind::signalled, .signal = 9};
  details.task = facts;
  const WorkerLost killed{details};
  CHECK(
      std::string{killed.what()} ==
      "worker 3 (pid 7712) was killed by SIGKILL while running 'area' #41. The kernel may have reclaimed memory: see dmesg. The task was not "
      "retried; resubmit it if it is idempotent, or set TaskOptions::retries.");
  CHECK(killed.kind() == ErrorKind::worker_lost);
  CHECK(killed.exit_reason().signal == 9);
  CHECK(killed.task_id() == 41);

  details.evidence = "The cgroup's OOM killer ran (oom_kill 3 -> 4).";
  CHECK_CONTAINS(WorkerLost{details}.what(), "oom_kill 3 -> 4");
  details = {};
  details.exit_reason = {.kind = ExitReason::Kind::exited, .code = 0};
  details.task = facts;
  details.task.attempt = 3;
  details.last_log_lines = {"one", "two", "three\n\x1b[31mfour", "five"};
  details.backtrace = "area at area.cpp:3\nmain at main.cpp:9";
  const WorkerLost exited{details};
  CHECK_CONTAINS(exited.what(), "exited with code 0 while running 'area' #41, attempt 3.");
  CHECK_CONTAINS(exited.what(), "called exit, _exit or quick_exit");
  CHECK_CONTAINS(exited.what(), "It logged last:\n  two\n  three\\x0a\\x1b[31mfour\n  five");
  CHECK_CONTAINS(exited.what(), "It crashed in area at area.cpp:3.");
  CHECK(exited.last_log_lines().size() == 4);
  CHECK(exited.backtrace() == details.backtrace);

  details = {};
  details.task = {.task_id = 0, .task_name = "", .worker = 1, .pid = 5, .incarnation = 0, .attempt = 1};
  details.exit_reason = {.kind = ExitReason::Kind::signalled, .signal = 11, .core_dumped = true};
  CHECK(std::string{WorkerLost{details}.what()} ==
        "worker 1 (pid 5) was killed by SIGSEGV (core dumped) while idle.");
}

TEST_CASE("BrokenProcessPool, TaskTimeout and Cancelled tell the fact, the values and the mend") {
  const auto cause = thrown_by([] { throw std::runtime_error{"no model"}; });
  const BrokenProcessPool broken{"the initializer failed in worker 0 (pid 5)", cause, facts};
  CHECK(
      std::string{broken.what()} ==
      "task 'area' #41 did not run, because the pool is broken: the initializer failed in worker 0 (pid 5). The cause: std::runtime_error: no "
      "model. Mend the cause, and make another executor: this one takes no more tasks.");
  CHECK(broken.cause() == cause);
  CHECK(broken.kind() == ErrorKind::broken_pool);
  CHECK_CONTAINS(BrokenProcessPool{"why."}.what(), "the pool is broken: why. Mend");

  using namespace std::chrono_literals;
  const TaskTimeout timeout{facts, 1s, 1020ms};
  CHECK_CONTAINS(
      timeout.what(),
      "task 'area' #41 ran for 1.02 s in worker 3 (pid 7712), longer than its timeout of 1 s, and its worker was killed.");
  CHECK((timeout.limit() == 1s && timeout.ran_for() == 1020ms));
  auto nowhere = facts;
  nowhere.worker = -1;
  CHECK(
      std::string{TaskTimeout{nowhere, 20ms, 0ns}.what()} ==
      "task 'area' #41 waited for a worker longer than its queue_timeout of 20 ms, and never began. Raise TaskOptions::queue_timeout, or use more workers.");
  auto initializer = facts;
  initializer.task_id = 0;
  CHECK_CONTAINS(
      TaskTimeout(initializer, 1s, 1020ms).what(),
      "the initializer ran for 1.02 s in worker 3 (pid 7712), longer than initializer_timeout, 1 s,");
  const Cancelled cancelled{facts, "before it began"};
  CHECK_CONTAINS(cancelled.what(), "task 'area' #41 was cancelled before it began.");

  // Each is caught as kindred's, and unambiguously as std::exception; copies are cheap and cannot throw.
  const auto check = [](const auto& error) {
    using E = std::decay_t<decltype(error)>;
    CHECK(std::is_nothrow_copy_constructible_v<E>);
    CHECK_THROWS_AS(throw E{error}, Error);
    CHECK_THROWS_AS(throw E{error}, std::exception);
  };
  check(broken);
  check(timeout);
  check(cancelled);
  check(WorkerLost{{}});
}

TEST_CASE("an exception is told in one line for messages") {
  CHECK(describe_exception(thrown_by([] { throw 5; })) == "int: 5");
  CHECK(describe_exception(thrown_by([] {
          try {
            throw std::runtime_error{"inner"};
          } catch (...) {
            std::throw_with_nested(std::logic_error{"outer"});
          }
        })) == "std::logic_error: outer, caused by std::runtime_error: inner");
}
