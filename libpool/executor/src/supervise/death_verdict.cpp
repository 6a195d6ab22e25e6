#include "death_verdict.hpp"
#include "kindred/internal/assert.hpp"

#include <algorithm>
#include <array>
#include <csignal>

namespace kindred::internal {
namespace {

using Kind = ExitReason::Kind;

// Signals that a process raises by what it does; all others come from outside.
constexpr std::array own_signals{SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS};

bool was_signalled(const Death& death, int signal) noexcept {
  return death.reason.kind == Kind::signalled && death.reason.signal == signal;
}

DeathVerdict::Hint hint_of(const Death& death) noexcept {
  if (death.killed_for == KillReason::protocol) return DeathVerdict::Hint::corrupted;
  if (death.killed_for == KillReason::mute) return DeathVerdict::Hint::mute;
  if (death.killed_for == KillReason::stopped) return DeathVerdict::Hint::stopped;
  if (death.lost_descriptors) return DeathVerdict::Hint::lost_descriptors;
  if (death.is_sandboxed && was_signalled(death, SIGSYS)) return DeathVerdict::Hint::sandboxed;
  if (!was_signalled(death, SIGKILL) || death.killed_for != KillReason::none || death.pool_ends)
    return DeathVerdict::Hint::none;
  if (death.over_memory_limit) return DeathVerdict::Hint::over_memory_limit;
  return death.out_of_memory ? DeathVerdict::Hint::out_of_memory : DeathVerdict::Hint::maybe_out_of_memory;
}

DeathVerdict::StartFailure start_failure_of(const Death& death, bool ours) noexcept {
  if (death.initializer_failed) return DeathVerdict::StartFailure::initializer_threw;
  if (death.bootstrap_failed) return DeathVerdict::StartFailure::bootstrap;
  if (death.was_ready || ours || death.killed_for == KillReason::task)
    return DeathVerdict::StartFailure::none;
  if (!death.has_initializer && !death.is_spawned) return DeathVerdict::StartFailure::none;
  if (death.killed_for == KillReason::initializer_timeout)
    return DeathVerdict::StartFailure::initializer_timeout;
  // A SIGKILL comes from outside: it is a death like others, and the restart limit judges it.
  if (death.has_initializer && death.reached_initializer && !was_signalled(death, SIGKILL) &&
      death.reason.kind != Kind::lost)
    return DeathVerdict::StartFailure::died_in_initializer;
  if (death.reason.kind == Kind::exited && !death.reached_initializer)
    return DeathVerdict::StartFailure::died_before_entry;
  return DeathVerdict::StartFailure::none;
}

}  // namespace

DeathVerdict judge(const Death& death) noexcept {
  DeathVerdict verdict;
  verdict.in_good_order = death.was_leaving && death.reason.kind == Kind::exited && death.reason.code == 0;
  verdict.ours = death.killed_for == KillReason::shutdown || death.pool_ends;
  verdict.for_cancelled = death.killed_for == KillReason::task && death.front_was_cancelled;
  verdict.reason = death.reason;
  if (death.killed_for == KillReason::task && !verdict.for_cancelled && death.reason.kind == Kind::signalled)
    verdict.reason.kind = Kind::timed_out;
  const Death seen = [&] {
    Death copy = death;
    copy.reason = verdict.reason;
    return copy;
  }();
  verdict.hint = hint_of(seen);
  verdict.only_replaced = death.lost_descriptors && death.was_ready;
  verdict.own_doing = death.killed_for == KillReason::protocol ||
                      (seen.reason.kind == Kind::exited && !verdict.only_replaced) ||
                      (seen.reason.kind == Kind::signalled &&
                       std::ranges::find(own_signals, seen.reason.signal) != own_signals.end());
  verdict.start_failure = start_failure_of(seen, verdict.ours);
  verdict.counts_as_crash = !verdict.in_good_order && !verdict.ours && !verdict.only_replaced &&
                            death.killed_for != KillReason::task;
  KINDRED_ASSERT(!(verdict.counts_as_crash && (verdict.in_good_order || verdict.ours)));
  return verdict;
}

}  // namespace kindred::internal
