// Options that equal tasks share.
#include "task/shared_options.hpp"

#include <chrono>
#include <string>

#include "support/test.hpp"
#include "unit/held_lock.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace std::chrono_literals;

TEST_CASE("tasks with equal options share them, whatever kinds come in between") {
  const test::HeldLock locked;
  LatestOptions latest;
  const TaskOptions plain{.name = "resize", .timeout = 5s};
  const OptionsOfTask first = latest.share(locked, plain);
  CHECK(latest.share(locked, plain) == first);
  const TaskOptions others[] = {{.name = "resized", .timeout = 5s},
                                {.name = "resize", .timeout = 6s},
                                {.name = "resize", .timeout = 5s, .retries = 1}};
  for (const TaskOptions& other : others) {
    const OptionsOfTask shared = latest.share(locked, other);
    CHECK(shared != first);
    CHECK(static_cast<const TaskOptions&>(*shared) == other);
    CHECK(latest.share(locked, other) == shared);
  }
  CHECK(latest.share(locked, plain) == first);
}

TEST_CASE("options that no task has any more are kept until four other kinds have come") {
  const test::HeldLock locked;
  LatestOptions latest;
  const OptionsOfTask first = latest.share(locked, {.name = "first"});
  CHECK(first->use_count() == 2);
  for (int i = 0; i < 4; ++i) {
    CHECK(first->use_count() == 2);
    (void)latest.share(locked, {.name = std::to_string(i)});
  }
  CHECK(first->use_count() == 1);
  CHECK(latest.share(locked, {.name = "first"}) != first);
  CHECK(first->name == "first");
}

TEST_CASE("a limit that no clock can reach is kept as the longest one") {
  const test::HeldLock locked;
  LatestOptions latest;
  const OptionsOfTask shared = latest.share(locked, {.timeout = std::chrono::nanoseconds::max()});
  CHECK(shared->timeout == std::chrono::nanoseconds{longest_wait});
  CHECK(shared->has_run_limit());
  CHECK(latest.share(locked, {.timeout = std::chrono::nanoseconds::max()}) == shared);
  CHECK_FALSE(latest.share(locked, {.queue_timeout = 1s})->has_run_limit());
}
