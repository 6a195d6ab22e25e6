#include "attempt_limits.hpp"

#include <algorithm>

namespace kindred::internal {
namespace {

using std::chrono::nanoseconds;

constexpr std::chrono::seconds busy_machine{1};
// A worker that says that it is done although no result comes is looked at again after this, or its limit.
constexpr std::chrono::milliseconds shortest_look_again{10};

}  // namespace

LimitStep check_limits(const AttemptTimes& attempt) noexcept {
  LimitStep step;
  const nanoseconds ran = attempt.begun ? std::max(attempt.ran, nanoseconds{0}) : nanoseconds{0};
  auto left_by_our_clock = nanoseconds::max();
  if (attempt.timeout && attempt.at_front) {
    left_by_our_clock = *attempt.timeout + attempt.terminate_grace.value_or(nanoseconds{0}) + busy_machine -
                        *attempt.at_front;
    if (left_by_our_clock <= nanoseconds{0}) {
      step.kill = LimitStep::Kill::kill_for_sure;
      step.ran = *attempt.at_front;
      return step;
    }
  }
  step.ask_to_stop =
      attempt.soft_timeout && attempt.begun && ran >= *attempt.soft_timeout && !attempt.stop_asked;
  if (attempt.timeout && attempt.begun && ran >= *attempt.timeout) {
    step.ran = ran;
    if (attempt.timed_out) {
      step.kill = LimitStep::Kill::kill_for_sure;  // it had its grace
      return step;
    }
    step.kill = attempt.terminate_grace ? LimitStep::Kill::terminate : LimitStep::Kill::kill;
    step.look_again =
        std::min(left_by_our_clock, std::max<nanoseconds>(*attempt.timeout, shortest_look_again));
    return step;
  }
  auto next = left_by_our_clock;
  if (attempt.timeout) next = std::min(next, *attempt.timeout - ran);
  if (attempt.soft_timeout && ran < *attempt.soft_timeout) next = std::min(next, *attempt.soft_timeout - ran);
  if (next != nanoseconds::max()) step.look_again = next;
  return step;
}

}  // namespace kindred::internal
