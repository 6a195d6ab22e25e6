// What is of use at some times only.
#include "trial.hpp"

#include "support/test.hpp"

using kindred::internal::Trial;

namespace {

/// How many chances it passes by before it takes one.
unsigned passed(Trial& trial) {
  unsigned count = 0;
  while (!trial.take()) ++count;
  return count;
}

}  // namespace

TEST_CASE("each chance is taken as long as it is of use") {
  Trial trial;
  for (int i = 0; i < 10; ++i) {
    CHECK(trial.take());
    trial.was_of_use();
  }
}

TEST_CASE("the longer it is of no use, the more chances are passed by, up to 64") {
  Trial trial;
  for (const unsigned expected : {0U, 1U, 2U, 4U, 8U, 16U, 32U, 64U, 64U, 64U}) {
    CHECK(passed(trial) == expected);
    trial.was_of_no_use();
  }
}

TEST_CASE("once it is of use again, as few chances are passed by as at first") {
  Trial trial;
  for (int i = 0; i < 5; ++i) {
    (void)passed(trial);
    trial.was_of_no_use();
  }
  CHECK(passed(trial) == 16);
  trial.was_of_use();
  CHECK(passed(trial) == 0);
  trial.was_of_no_use();
  CHECK(passed(trial) == 1);
}
