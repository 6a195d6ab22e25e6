// Time limits of an attempt, the restart limit and the start's patience, on a virtual clock.
#include <array>
#include <chrono>
#include <optional>

#include <doctest/doctest.h>

#include "supervise/attempt_limits.hpp"
#include "supervise/restart_policy.hpp"

using namespace kindred::internal;
using namespace std::chrono_literals;
using Kill = LimitStep::Kill;

TEST_CASE("an attempt below its limits is looked at again when the nearest one comes") {
  auto step = check_limits({.timeout = 5s, .soft_timeout = 2s, .begun = true, .ran = 1s});
  CHECK(step.kill == Kill::none);
  CHECK_FALSE(step.ask_to_stop);
  CHECK(step.look_again == 1s);
  step = check_limits({.timeout = 5s, .soft_timeout = 2s, .begun = true, .ran = 3s, .stop_asked = true});
  CHECK_FALSE(step.ask_to_stop);
  CHECK(step.look_again == 2s);
}

TEST_CASE("an attempt over its soft limit is asked to stop, once") {
  const auto step = check_limits({.soft_timeout = 2s, .begun = true, .ran = 2s});
  CHECK(step.ask_to_stop);
  CHECK(step.kill == Kill::none);
  CHECK_FALSE(step.look_again.has_value());
  CHECK_FALSE(check_limits({.soft_timeout = 2s, .begun = true, .ran = 3s, .stop_asked = true}).ask_to_stop);
}

TEST_CASE("an attempt over its limit is killed, or terminated first where there is a grace") {
  auto step = check_limits({.timeout = 2s, .begun = true, .ran = 2s});
  CHECK(step.kill == Kill::kill);
  CHECK(step.ran == 2s);
  CHECK(step.look_again == 2s);  // should the worker say that it is done
  step = check_limits({.timeout = 2s, .terminate_grace = 1s, .begun = true, .ran = 2s});
  CHECK(step.kill == Kill::terminate);
  CHECK(step.look_again == 2s);
  step = check_limits({.timeout = 2s, .terminate_grace = 1s, .begun = true, .ran = 3s, .timed_out = true});
  CHECK(step.kill == Kill::kill_for_sure);
  CHECK(step.ran == 3s);
}

TEST_CASE("an attempt that has not begun runs into no limit by the worker's word") {
  const auto step = check_limits({.timeout = 2s, .soft_timeout = 1s, .begun = false, .ran = 10s});
  CHECK(step.kill == Kill::none);
  CHECK_FALSE(step.ask_to_stop);
  CHECK(step.look_again == 1s);
}

TEST_CASE(
    "whatever the worker says, an attempt is killed its limit, the grace and a second after it came first") {
  struct Row {
    std::optional<std::chrono::nanoseconds> grace;
    std::chrono::nanoseconds at_front;
    bool killed;
  };
  constexpr std::array rows{Row{{}, 2'999ms, false}, Row{{}, 3s, true}, Row{500ms, 3'499ms, false},
                            Row{500ms, 3'500ms, true}};
  for (const Row& row : rows) {
    for (const bool begun : {false, true}) {
      CAPTURE(row.at_front.count());
      CAPTURE(begun);
      const auto step = check_limits(
          {.timeout = 2s, .terminate_grace = row.grace, .begun = begun, .ran = 0s, .at_front = row.at_front});
      CHECK(step.kill == (row.killed ? Kill::kill_for_sure : Kill::none));
      if (row.killed) CHECK(step.ran == row.at_front);
      if (!row.killed) CHECK(step.look_again == 1ms);
    }
  }
}

TEST_CASE(
    "a worker that says that it is done, though no result comes, is looked at again by the parent's clock") {
  const auto step = check_limits({.timeout = 2s, .begun = true, .ran = 2s, .at_front = 2'900ms});
  CHECK(step.kill == Kill::kill);
  CHECK(step.look_again == 100ms);
  const auto gently =
      check_limits({.timeout = 2s, .terminate_grace = 1s, .begun = true, .ran = 2s, .at_front = 2'900ms});
  CHECK(gently.kill == Kill::terminate);
  CHECK(gently.look_again == 1'100ms);
}

TEST_CASE("a run time that lies in the future counts as none") {
  const auto step = check_limits({.timeout = 2s, .begun = true, .ran = -5s});
  CHECK(step.kill == Kill::none);
  CHECK(step.look_again == 2s);
}

TEST_CASE("the restart limit counts deaths of the last period, and a success in between clears them") {
  RestartLimiter limiter{2, 10s};
  const RestartLimiter::Time start{};
  limiter.note_death(start);
  limiter.note_death(start + 1s);
  CHECK_FALSE(limiter.exceeded(start + 1s));
  limiter.note_death(start + 2s);
  CHECK(limiter.exceeded(start + 2s));
  CHECK(limiter.deaths() == 3);
  CHECK(limiter.exceeded(start + 10s));
  CHECK_FALSE(limiter.exceeded(start + 10s + 1ns));  // the first one is too long ago

  limiter.note_death(start + 11s);
  limiter.note_success();
  limiter.note_death(start + 11s);
  CHECK_FALSE(limiter.exceeded(start + 11s));
  CHECK(limiter.deaths() == 1);
}

TEST_CASE("a start that failed is tried again, later each time, and given up where no worker lives") {
  StartBackoff starts;
  const StartBackoff::Time start{};
  CHECK(starts.may_start(start));
  CHECK(starts.note_failure(start, false, 0));
  CHECK_FALSE(starts.may_start(start + 49ms));
  CHECK(starts.may_start(start + 50ms));
  CHECK(starts.note_failure(start + 50ms, false, 0));
  CHECK(starts.next_start() == start + 150ms);
  CHECK(starts.note_failure(start + 150ms, false, 0));
  CHECK_FALSE(starts.note_failure(start + 300ms, false, 0));

  StartBackoff others_live;
  for (int i = 0; i < 100; ++i) CHECK(others_live.note_failure(start, false, 1));
  CHECK_FALSE(others_live.note_failure(start, true, 1));  // it would fail again

  StartBackoff recovers;
  for (int i = 0; i < 3; ++i) CHECK(recovers.note_failure(start, false, 0));
  recovers.note_success();
  CHECK(recovers.note_failure(start, false, 0));
}
