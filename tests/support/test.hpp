#pragma once

// Everything that a test needs: doctest, and
//   kindred::test::entry()               the Entry that the shared main made
//   TEST_CASE_EACH_START_METHOD("...")   three cases: "... [fork]", "... [spawn]", "... [forkserver]";
//                                        the body has `method`
//   ResourceAudit                        at the end of a case there is nothing more than before
//   Deadline                             a case may take another time than 60 s
//   run_program, Program, run_forked     other processes; victim("name") is a program for a test
//   expect_exit, expect_signal           how a forked process must end
//   CHECK_CONTAINS(text, "part")
//   CHECK_THROWS_CONTAINS(expression, Type, "part")
//   KINDRED_SKIP("why")                  ends the case as skipped: counted and printed
//   scorecard(row, "figure")             a line of the table of promises, printed if the case holds
//   long_run()                           whether ./tests/run --long asked for the long version
//   TemporaryFolder                      a fresh folder, removed at the end
//
// A line `// ctest: PROPERTY VALUE ...` in a test's file sets properties of its ctest, for example
// `// ctest: RUN_SERIAL ON` or `// ctest: LABELS long TIMEOUT 900`.

#include <string>
#include <string_view>

#include <doctest/doctest.h>

#include "kindred/start_method.hpp"
#include "support/audit.hpp"
#include "support/deadline.hpp"
#include "support/process.hpp"
#include "support/rows.hpp"

namespace kindred {
class Entry;
}

namespace kindred::test {

[[nodiscard]] Entry& entry();
[[nodiscard]] bool long_run();

/// Marks the running case as skipped. Use `KINDRED_SKIP`, which also leaves it.
void skip(const std::string& reason);

/// An empty folder below $TMPDIR.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string operator/(std::string_view name) const { return path_ + "/" + std::string{name}; }

 private:
  std::string path_;
};

[[nodiscard]] std::string read_file(const std::string& path);
void write_file(const std::string& path, std::string_view text);

[[nodiscard]] inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace kindred::test

#define KINDRED_SKIP(reason)       \
  do {                             \
    ::kindred::test::skip(reason); \
    return;                        \
  } while (false)

/// May a test define functions of the C library itself? A sanitizer does.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KINDRED_TEST_CATCHES_CALLS 0
#else
#define KINDRED_TEST_CATCHES_CALLS 1
#endif

/// First thing in a case that ThreadSanitizer cannot run: it ends forked processes that start threads.
#ifdef __SANITIZE_THREAD__
#define KINDRED_SKIP_UNDER_TSAN(reason) KINDRED_SKIP("under ThreadSanitizer: " reason)
#else
#define KINDRED_SKIP_UNDER_TSAN(reason) static_cast<void>(0)
#endif

#define CHECK_CONTAINS(text, part)                                                                    \
  do {                                                                                                \
    const std::string kindred_text{text};                                                             \
    const std::string kindred_part{part};                                                             \
    CHECK_MESSAGE(::kindred::test::contains(kindred_text, kindred_part), "\n  text:  ", kindred_text, \
                  "\n  lacks: ", kindred_part);                                                       \
  } while (false)

/// `expression` must throw `Type`, and its what() must contain `part`.
#define CHECK_THROWS_CONTAINS(expression, Type, part)                   \
  do {                                                                  \
    bool kindred_thrown = false;                                        \
    try {                                                               \
      static_cast<void>(expression);                                    \
    } catch (const Type& kindred_error) {                               \
      kindred_thrown = true;                                            \
      CHECK_CONTAINS(kindred_error.what(), part);                       \
    }                                                                   \
    CHECK_MESSAGE(kindred_thrown, #expression " did not throw " #Type); \
  } while (false)

#define TEST_CASE_EACH_START_METHOD(name) \
  KINDRED_TEST_EACH_START_METHOD(DOCTEST_ANONYMOUS(kindred_each_start_method_), name)
// Each case in a namespace of its own: where doctest makes names by the line (clang 23), three cases of one
// line would have the same.
#define KINDRED_TEST_EACH_START_METHOD(body, name)                              \
  static void body([[maybe_unused]] ::kindred::StartMethod method);             \
  namespace DOCTEST_CAT(body, _fork) {                                          \
  TEST_CASE(name " [fork]") { body(::kindred::StartMethod::fork); }             \
  }                                                                             \
  namespace DOCTEST_CAT(body, _spawn) {                                         \
  TEST_CASE(name " [spawn]") { body(::kindred::StartMethod::spawn); }           \
  }                                                                             \
  namespace DOCTEST_CAT(body, _forkserver) {                                    \
  TEST_CASE(name " [forkserver]") { body(::kindred::StartMethod::forkserver); } \
  }                                                                             \
  static void body([[maybe_unused]] ::kindred::StartMethod method)
