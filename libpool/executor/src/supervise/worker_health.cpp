#include "supervise/worker_health.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

// A silent worker is replaced after this, where tasks are pending: one that runs what it says it does not
// would be silent for ever.
constexpr std::chrono::seconds silence_limit{2};
// A worker that ends closes its socket some time before it is found dead. One that has closed it, and is not
// being ended by the kernel, executes another program.
constexpr std::chrono::milliseconds mute_limit{100};

}  // namespace

void WorkerHealth::check(Locked locked, WorkerSlot& slot, Time now) {
  check_limits(locked, slot, now);
  check_silence(locked, slot, now);
  if (slot.state == WorkerSlot::State::alive || slot.state == WorkerSlot::State::leaving)
    check_stopped(locked, slot, now);
  if (parts_.options.idle_timeout && slot.idle() && slot.ready &&
      slot.idle_since + *parts_.options.idle_timeout <= now)
    parts_.control.ask_to_leave(locked, slot);
  if (static_cast<std::size_t>(slot.index) >= parts_.slots.max() && slot.state == WorkerSlot::State::alive) {
    parts_.intake.revoke_all(locked, slot);
    parts_.control.ask_to_leave(locked, slot);
  }
}

void WorkerHealth::check_limits(Locked locked, WorkerSlot& slot, Time now) {
  if (slot.state == WorkerSlot::State::leaving && slot.end.leave_by <= now && slot.in_flight.empty())
    WorkerControl::kill(locked, slot, KillReason::shutdown);
  if (const auto& limit = parts_.options.initializer_timeout;
      limit && slot.state == WorkerSlot::State::alive && !slot.ready && slot.started + *limit <= now)
    WorkerControl::kill(locked, slot, KillReason::initializer_timeout);
  if (slot.untidy.mute_since && slot.watched && *slot.untidy.mute_since + mute_limit <= now &&
      slot.kill_reason == KillReason::none) {
    if (is_ending(slot.worker.process.pid())) {  // much memory in files takes time to be given back
      slot.untidy.mute_since = now;
      return;
    }
    slot.last_words.protocol_error =
        "it closed its socket and went on: a task executes another program in its place";
    WorkerControl::kill(locked, slot, KillReason::mute);
  }
}

void WorkerHealth::check_silence(Locked locked, WorkerSlot& slot, Time now) {
  if (!slot.silent() || slot.state != WorkerSlot::State::alive || !still_silent(locked, slot) ||
      *slot.silent_since + silence_limit > now)
    return;
  std::size_t good = 0;
  for (const WorkerSlot& other : parts_.slots.all(locked))
    good += other.takes_calls() && !other.silent() ? 1U : 0U;
  if (parts_.pending.size() + parts_.slots.in_flight(locked) > good)
    WorkerControl::kill(locked, slot, KillReason::silence);
}

// A worker that was stopped (SIGSTOP, SIGTSTP, a terminal) runs nothing until it is continued, and its
// futures would never end.
void WorkerHealth::check_stopped(Locked locked, WorkerSlot& slot, Time now) {
  auto& since = slot.untidy.stopped_since;
  if (slot.in_flight.empty() || slot.kill_reason != KillReason::none) return since.reset();
  if (now < slot.untidy.look_whether_stopped) return;
  slot.untidy.look_whether_stopped = now + between_looks_for_stops;
  const std::uint32_t pid = slot.worker.process.pid();
  const std::string worker = "worker " + std::to_string(slot.index) + " (pid " + std::to_string(pid) + ")";
  if (!is_stopped(pid)) {
    if (since) parts_.log.note_of(locked, slot, Level::info, worker + " goes on: it was continued");
    return since.reset();
  }
  const auto& limit = parts_.options.stopped_limit;
  if (since) {
    if (limit && now - *since >= *limit) WorkerControl::kill(locked, slot, KillReason::stopped);
    return;
  }
  since = now;
  const TaskState& task = *slot.in_flight.front().task;
  std::string text = worker + " was stopped by a signal (SIGSTOP, or the like) with '" +
                     parts_.log.name_of(task) + "' #" + std::to_string(task.id) + " at hand";
  if (limit)
    text += fmt::format("; unless it is continued, it is killed after stopped_limit, {} s",
                        std::chrono::duration<double>(*limit).count());
  parts_.log.note_of(locked, slot, Level::warn, std::move(text), &task, task.ended_attempts() + 1U);
}

Deadline WorkerHealth::next(Locked, const WorkerSlot& slot) const {
  Deadline next;
  const auto consider = [&](Time at) {
    if (!next || at < *next) next = at;
  };
  if (parts_.options.idle_timeout && slot.idle() && slot.ready)
    consider(slot.idle_since + *parts_.options.idle_timeout);
  if (slot.state == WorkerSlot::State::dying) consider(slot.end.told_by);
  if (slot.kill_reason != KillReason::none) return next;
  if (slot.state == WorkerSlot::State::leaving && slot.in_flight.empty()) consider(slot.end.leave_by);
  if (slot.untidy.mute_since && slot.watched) consider(*slot.untidy.mute_since + mute_limit);
  if (parts_.options.initializer_timeout && slot.state == WorkerSlot::State::alive && !slot.ready)
    consider(slot.started + *parts_.options.initializer_timeout);
  return next;
}

}  // namespace kindred::internal
