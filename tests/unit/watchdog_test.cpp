// A test of the tests: a program that hangs, dies, leaks or leaves a process behind must be seen to do
// so, and be counted.
#include <csignal>
#include <string>

#include "support/test.hpp"

namespace test = kindred::test;

namespace {

struct Verdict {
  test::Outcome outcome;
  std::string results;  // what it wrote for the count
};

Verdict run_case(const std::string& name) {
  test::TemporaryFolder folder;
  const auto results = folder / "results";
  Verdict verdict;
  verdict.outcome = test::run_program(KINDRED_TEST_FAILING, {"--test-case=" + name, "--no-colors=true"},
                                      {.environment = {"KINDRED_TEST_RESULTS=" + results},
                                       .working_folder = {},
                                       .timeout = std::chrono::minutes{10}});
  verdict.results = test::read_file(results);
  return verdict;
}

std::string summarise(const std::string& junit, const std::string& name, const std::string& results,
                      int code) {
  test::TemporaryFolder folder;
  test::write_file(folder / "junit.xml", junit);
  test::write_file(folder / name, results);
  const auto outcome =
      test::run_program(KINDRED_SOURCE_DIR "/tests/support/summary", {folder / "junit.xml", folder.path()});
  CHECK(outcome.code == code);
  return outcome.out;
}

}  // namespace

TEST_CASE("a case that passes, fails or skips is noted as such") {
  CHECK(run_case("passes").results == "begin passes\npass passes\n");
  const auto failed = run_case("fails");
  CHECK(failed.outcome.code == 1);
  CHECK(failed.results == "begin fails\nfail fails\n");
  CHECK_CONTAINS(failed.outcome.out, "lacks: what was meant");
  const auto skipped = run_case("skips");
  CHECK(skipped.outcome.code == 0);
  CHECK(skipped.results == "begin skips\nskip skips: the moon is not full\n");
  CHECK_CONTAINS(skipped.outcome.out, "SKIPPED: the moon is not full");
}

TEST_CASE("a hang ends at its deadline with the stacks of all processes, and nobody is left") {
  const test::Deadline deadline{std::chrono::minutes{11}};  // a debugger takes long on a busy machine
  test::ResourceAudit audit;
  const auto verdict = run_case("hangs");
  CHECK(verdict.outcome.code == 1);
  CHECK(verdict.results == "begin hangs\n");
  CHECK_CONTAINS(verdict.outcome.err, "DEADLINE: \"hangs\" ran over its");
  const auto first = verdict.outcome.err.find("=== pid");
  REQUIRE(first != std::string::npos);
  CHECK(verdict.outcome.err.find("=== pid", first + 1) != std::string::npos);
  CHECK_CONTAINS(verdict.outcome.err, "wait_for_godot");
}

TEST_CASE("a crash and an early exit leave a case that began and did not end") {
  const auto crashed = run_case("crashes");
  CHECK(crashed.outcome.code == 128 + SIGSEGV);
  CHECK(crashed.results == "begin crashes\n");
  CHECK_CONTAINS(crashed.outcome.err,
                 "DIED: the test program was killed by Segmentation fault in \"crashes\"");
  CHECK(run_case("exits").results == "begin exits\n");
}

TEST_CASE("an orphan of the tests is found, named and killed") {
  test::ResourceAudit audit;
  const auto verdict = run_case("leaves an orphan");
  CHECK(verdict.outcome.code == 1);
  CHECK_CONTAINS(verdict.outcome.err, "LEFT BEHIND");
}

TEST_CASE("a leaked descriptor fails its case with a listing") {
  const auto verdict = run_case("leaks a descriptor");
  CHECK(verdict.results == "begin leaks a descriptor\nfail leaks a descriptor\n");
  CHECK_CONTAINS(verdict.outcome.out, "/dev/null");
}

TEST_CASE("the count is of cases, and what did not end is a failure") {
  const std::string ran = R"(<testcase name="some_test" classname="some_test" time="0.1" status="run">)";
  const std::string broke = R"(<testcase name="some_test" classname="some_test" time="0.1" status="fail">)";
  CHECK_CONTAINS(summarise(ran, "some_test", "begin a\npass a\nbegin b\nskip b: no\n", 0),
                 "\n1 passed, 0 failed, 1 skipped\n");
  CHECK_CONTAINS(summarise(ran, "some_test", "begin a\npass a\nbegin b\nfail b\n", 1),
                 "1 passed, 1 failed\n");
  CHECK_CONTAINS(summarise(ran, "some_test", "begin a\npass a\nbegin b\n", 1), "1 passed, 1 failed\n");
  CHECK_CONTAINS(summarise(broke, "some_test", "begin a\npass a\n", 1), "1 passed, 1 failed\n");
  CHECK_CONTAINS(summarise(broke, "another", "", 1), "0 passed, 1 failed\n");
  CHECK_CONTAINS(summarise(ran, "another", "", 0), "1 passed, 0 failed\n");
  CHECK_CONTAINS(summarise("", "another", "", 1), "0 passed, 0 failed\n");
}

TEST_CASE(
    "a line of the scorecard is said where its case held, and NOT HELD where any check of it failed, whenever") {
  const auto said = [](const std::string& name) { return run_case(name).outcome.out; };
  const auto held = said("says a figure and holds*");
  CHECK_CONTAINS(held, "scorecard: row 1: 3 < 4 & \"all\" right [fork]\n");
  CHECK_CONTAINS(held, "scorecard: row 2: case: says a figure and holds [fork]\n");
  CHECK_CONTAINS(held, "scorecard: row 3: MISSED here: 5 ms [fork]\n");
  CHECK_CONTAINS(said("says a figure and fails*"), "scorecard: row 4: NOT HELD: nothing lost\n");
  CHECK_CONTAINS(said("fails before*"), "scorecard: row 5: NOT HELD: fails before it says anything\n");
  CHECK_CONTAINS(said("skips its row*"), "scorecard: row 6: SKIPPED: no such kernel\n");
  CHECK_CONTAINS(said("crashes in its row*"),
                 "scorecard: row 7: NOT HELD: \"crashes in its row (row 7)\" died\n");
}

TEST_CASE(
    "the scorecard has every row, with what was said of it, once for all start methods, and counts what was not held") {
  test::TemporaryFolder folder;
  test::write_file(
      folder / "junit.xml",
      "<testsuite tests=\"3\" failures=\"1\">\n<system-out>scorecard: row 1: 3 &lt; 4 &amp; &quot;all&quot; right [fork]\n"
      "scorecard: row 1: 3 &lt; 4 &amp; &quot;all&quot; right [spawn]\nscorecard: row 1: 3 &lt; 4 &amp; &quot;all&quot; right [forkserver]\n"
      "scorecard: row 2: one [fork]\nscorecard: row 2: one [fork]\nscorecard: row 2: NOT HELD: two [spawn]\nscorecard: row 3: MISSED here: 5 ms\n"
      "scorecard: row 3: case: not shown\nscorecard: row 4: case: a case with no figure\nscorecard: row 6: SKIPPED: no such kernel</system-out>\n");
  const auto table =
      test::run_program(KINDRED_SOURCE_DIR "/tests/support/scorecard", {folder / "junit.xml", "asan"}).out;
  CHECK_CONTAINS(table, "\n  1  held       ");
  CHECK_CONTAINS(table, "\n                  3 < 4 & \"all\" right\n");
  CHECK_CONTAINS(table, "\n  2  NOT HELD   ");
  CHECK_CONTAINS(table, "\n                  one [fork]\n                  NOT HELD: two [spawn]\n");
  CHECK_CONTAINS(table, "\n  3  missed     ");
  CHECK_FALSE(test::contains(table, "not shown"));
  CHECK_CONTAINS(table, "\n                  a case with no figure\n");
  CHECK_CONTAINS(table, "\n  6  skipped    ");
  CHECK_CONTAINS(table, "\n 29  NOT HELD   ");
  CHECK_CONTAINS(table, "\n 36  no figure  ");
  CHECK_CONTAINS(
      table,
      "\n2 of 37 promises held, 2 NOT HELD, 1 missed on this machine, 1 skipped, 31 without a figure in this run.\n");
}
