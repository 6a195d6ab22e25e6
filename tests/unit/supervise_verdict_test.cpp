// What follows from a worker's death: how it died, times what it had begun, times why it was killed.
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <new>

#include <doctest/doctest.h>

#include "supervise/death_verdict.hpp"
#include "task/task_state.hpp"

using namespace kindred;
using namespace kindred::internal;
using Kind = ExitReason::Kind;
using Hint = DeathVerdict::Hint;
using Start = DeathVerdict::StartFailure;

namespace {

constexpr ExitReason exited(int code) { return {.kind = Kind::exited, .code = code}; }
constexpr ExitReason killed(int signal) { return {.kind = Kind::signalled, .signal = signal}; }
constexpr ExitReason gone{.kind = Kind::lost};
constexpr std::array every_reason{
    KillReason::none, KillReason::task,    KillReason::protocol, KillReason::silence,
    KillReason::mute, KillReason::stopped, KillReason::shutdown, KillReason::initializer_timeout};
constexpr std::array every_death{
    exited(0), exited(3), killed(SIGKILL), killed(SIGSEGV), killed(SIGABRT), killed(SIGTERM), gone};

}  // namespace

TEST_CASE("a worker that was asked to leave and exits with 0 is in good order, and nothing else is") {
  for (const auto& reason : every_death) {
    CAPTURE(to_string(reason));
    CHECK(judge({.reason = reason, .was_leaving = true}).in_good_order == (reason == exited(0)));
    CHECK_FALSE(judge({.reason = reason}).in_good_order);
  }
}

TEST_CASE("the restart limit counts deaths that the pool did not cause, except those for a task") {
  for (const auto& reason : every_death) {
    for (const auto killed_for : every_reason) {
      CAPTURE(to_string(reason));
      CAPTURE(static_cast<int>(killed_for));
      const bool counts = killed_for != KillReason::shutdown && killed_for != KillReason::task;
      CHECK(judge({.reason = reason, .killed_for = killed_for}).counts_as_crash == counts);
      CHECK_FALSE(judge({.reason = reason, .killed_for = killed_for, .pool_ends = true}).counts_as_crash);
      CHECK(judge({.reason = reason, .killed_for = killed_for}).ours == (killed_for == KillReason::shutdown));
      CHECK(judge({.reason = reason, .killed_for = killed_for, .pool_ends = true}).ours);
    }
  }
}

TEST_CASE("a worker killed for a limit timed out, one killed for a cancelled task did not") {
  const auto limit = judge({.reason = killed(SIGKILL), .killed_for = KillReason::task});
  CHECK(limit.reason.kind == Kind::timed_out);
  CHECK_FALSE(limit.for_cancelled);
  const auto cancelled =
      judge({.reason = killed(SIGKILL), .killed_for = KillReason::task, .front_was_cancelled = true});
  CHECK(cancelled.reason == killed(SIGKILL));
  CHECK(cancelled.for_cancelled);
  // It ended by itself before the signal came.
  CHECK(judge({.reason = exited(3), .killed_for = KillReason::task}).reason == exited(3));
  CHECK(judge({.reason = gone, .killed_for = KillReason::task}).reason == gone);
}

TEST_CASE("a SIGKILL that the pool did not send may be the kernel's, and nothing else is blamed on memory") {
  CHECK(judge({.reason = killed(SIGKILL)}).hint == Hint::maybe_out_of_memory);
  CHECK(judge({.reason = killed(SIGKILL), .out_of_memory = true}).hint == Hint::out_of_memory);
  CHECK(judge({.reason = killed(SIGKILL), .out_of_memory = true, .over_memory_limit = true}).hint ==
        Hint::over_memory_limit);
  CHECK(judge({.reason = killed(SIGSEGV), .out_of_memory = true}).hint == Hint::none);
  CHECK(judge({.reason = killed(SIGKILL), .pool_ends = true, .out_of_memory = true}).hint == Hint::none);
  CHECK(judge({.reason = killed(SIGSYS), .is_sandboxed = true}).hint == Hint::sandboxed);
  CHECK(judge({.reason = killed(SIGSYS)}).hint == Hint::none);
  for (const auto killed_for : every_reason) {
    CAPTURE(static_cast<int>(killed_for));
    const auto hint =
        judge({.reason = killed(SIGKILL), .killed_for = killed_for, .out_of_memory = true}).hint;
    switch (killed_for) {
      case KillReason::none: CHECK(hint == Hint::out_of_memory); break;
      case KillReason::protocol: CHECK(hint == Hint::corrupted); break;
      case KillReason::mute: CHECK(hint == Hint::mute); break;
      case KillReason::stopped: CHECK(hint == Hint::stopped); break;
      default: CHECK(hint == Hint::none);
    }
  }
}

TEST_CASE("an exit and a crash are the worker's own doing, a signal from outside is not") {
  CHECK(judge({.reason = exited(0)}).own_doing);
  CHECK(judge({.reason = exited(3)}).own_doing);
  for (const int signal : {SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS})
    CHECK(judge({.reason = killed(signal)}).own_doing);
  for (const int signal : {SIGKILL, SIGTERM, SIGINT, SIGHUP})
    CHECK_FALSE(judge({.reason = killed(signal)}).own_doing);
  CHECK_FALSE(judge({.reason = gone}).own_doing);
  CHECK(judge({.reason = killed(SIGKILL), .killed_for = KillReason::protocol}).own_doing);
}

TEST_CASE("the first call is lost by any word that says that it was begun, and as good as new without one") {
  for (unsigned bits = 0; bits < 16; ++bits) {
    CAPTURE(bits);
    CHECK(is_lost({.state_says_begun = (bits & 1U) != 0,
                   .word_says_begun = (bits & 2U) != 0,
                   .condemned = (bits & 4U) != 0,
                   .suspect = (bits & 8U) != 0}) == (bits != 0));
  }
}

TEST_CASE("a start fails for good where the next one would fail as well") {
  const Death starting{.reason = exited(1), .was_ready = false};
  auto death = starting;
  CHECK(judge(death).start_failure == Start::none);

  death.initializer_failed = true;
  CHECK(judge(death).start_failure == Start::initializer_threw);
  death = starting;
  death.bootstrap_failed = true;
  CHECK(judge(death).start_failure == Start::bootstrap);

  death = starting;
  death.is_spawned = true;
  CHECK(judge(death).start_failure == Start::died_before_entry);
  death.reason = killed(SIGSEGV);
  CHECK(judge(death).start_failure == Start::none);

  death = starting;
  death.has_initializer = death.reached_initializer = true;
  for (const auto& reason : every_death) {
    CAPTURE(to_string(reason));
    death.reason = reason;
    // A SIGKILL comes from outside, and of one that is gone nothing is known: the restart limit judges them.
    const bool by_itself = reason != killed(SIGKILL) && reason != gone;
    CHECK(judge(death).start_failure == (by_itself ? Start::died_in_initializer : Start::none));
  }
  death.killed_for = KillReason::initializer_timeout;
  death.reason = killed(SIGKILL);
  CHECK(judge(death).start_failure == Start::initializer_timeout);
  death.pool_ends = true;
  CHECK(judge(death).start_failure == Start::none);
  death.pool_ends = false;
  death.was_ready = true;
  CHECK(judge(death).start_failure == Start::none);
}

namespace {

// A task without a pool, for what it counts by itself. Its memory is given back without its destructor, which
// would ask the pool.
struct LooseTask {
  alignas(TaskState) std::byte memory[sizeof(TaskState)];
  TaskState& task = *::new (memory) TaskState{nullptr, 7, 0, 0};
};

}  // namespace

TEST_CASE("an attempt's number names the attempt, not the task alone") {
  LooseTask loose;
  TaskState& task = loose.task;
  const AttemptId first = task.attempt();
  CHECK(task_of(first) == 7);
  task.end_attempt();
  CHECK(task.attempt() != first);
  CHECK(task_of(task.attempt()) == 7);
  CHECK(task.attempt() == attempt_id(7, 2));
}

TEST_CASE("suspicions belong to one attempt: the next one begins without any") {
  LooseTask loose;
  TaskState& task = loose.task;
  for (unsigned i = 0; i < TaskState::max_suspicions; ++i) {
    CHECK_FALSE(task.is_suspect());
    task.suspect();
  }
  CHECK(task.is_suspect());
  for (int i = 0; i < 100; ++i) task.suspect();
  CHECK(task.is_suspect());
  task.end_attempt();
  CHECK_FALSE(task.is_suspect());
}
