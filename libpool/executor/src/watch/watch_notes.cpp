#include "watch/watch_notes.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/crash_report.hpp"
#include "task/callback_runner.hpp"
#include "task/task_facts.hpp"

namespace kindred::internal {
namespace {

std::string label_of(const ExitReason& reason, KillReason killed_for, bool cancelled) {
  if (cancelled) return "cancelled";
  if (killed_for == KillReason::protocol) return "corrupted its memory";
  if (killed_for == KillReason::silence) return "unresponsive";
  if (killed_for == KillReason::mute) return "closed its socket";
  if (killed_for == KillReason::stopped) return "stopped";
  switch (reason.kind) {
    case ExitReason::Kind::exited: return "exited " + std::to_string(reason.code);
    case ExitReason::Kind::signalled: return signal_name(reason.signal);
    case ExitReason::Kind::timed_out: return "timed out";
    case ExitReason::Kind::lost: break;
  }
  return "unknown";
}

}  // namespace

TaskNameEntry& WatchNotes::name_entry(const TaskState& task) {
  if (task.options && !task.options->name.empty()) return watch_.names.of_name(task.options->name);
  return watch_.names.of_code(task.function != 0 ? task.function : task.entry);
}

void WatchNotes::note_result(Locked, const WorkerSlot& slot, std::span<const std::byte> message) noexcept {
  ResultHeader result;
  if (message.size() < sizeof result || slot.in_flight.empty()) return;
  std::memcpy(&result, message.data(), sizeof result);
  const TaskState& task = *slot.in_flight.front().task;
  if (task.id != result.task_id || task.finished()) return;
  TaskNameEntry* name = nullptr;
  try {
    name = &name_entry(task);
  } catch (const std::bad_alloc&) {
    return;
  }
  if (counting_) count(*name, result, task.submitted_ticks);
  if (!watch_.feed) return;
  watch_.feed->put({.kind = TraceEvent::Kind::run,
                    .outcome = result.kind == ResultKind::failure ? TraceEvent::Outcome::failure
                                                                  : TraceEvent::Outcome::value,
                    .attempt = static_cast<std::uint16_t>(task.ended_attempts() + 1),
                    .worker = slot.index,
                    .name = name,
                    .task_id = task.id,
                    .submitted = task.submitted_ticks,
                    .begun = result.begun_ticks,
                    .ended = std::max(result.begun_ticks, result.ended_ticks)});
}

void WatchNotes::count(TaskNameEntry& name, const ResultHeader& result, std::uint64_t submitted) noexcept {
  const auto ran = nanoseconds(result.begun_ticks, result.ended_ticks);
  const auto queued = nanoseconds(submitted, result.begun_ticks);
  watch_.run_time.add(ran);
  watch_.queue_time.add(queued);
  ++name.ended;
  if (result.kind == ResultKind::failure) ++name.failed;
  name.run_nanoseconds += ran;
  name.queue_nanoseconds += queued;
  name.longest_nanoseconds = std::max(name.longest_nanoseconds, ran);
}

std::uint64_t WatchNotes::nanoseconds(std::uint64_t begin, std::uint64_t end) const noexcept {
  // Years, which only a worker tells that lies: the product stays within 63 bits, and signed numbers are
  // converted in one instruction each.
  constexpr std::uint64_t most_ticks = std::uint64_t{1} << 56U;
  const auto count = static_cast<std::int64_t>(end > begin ? std::min(end - begin, most_ticks) : 0);
  return static_cast<std::uint64_t>(
      static_cast<std::int64_t>(static_cast<double>(count) * nanoseconds_a_tick_));
}

void WatchNotes::trace_to(Locked, std::shared_ptr<TraceFeed> feed) noexcept {
  watch_.feed = std::move(feed);
  on_ = true;
}

void WatchNotes::note_queue(Locked, std::uint64_t now, std::size_t live_workers, std::size_t pending,
                            std::size_t in_flight) noexcept {
  PoolWatch& watch = watch_;
  if (counting_ && !watch.always && now > watch.until) counting_ = false;
  if (!watch.feed) {
    on_ = counting_;
    return;
  }
  if (now - watch.counters_told_at < static_cast<std::uint64_t>(1e6 * ticks_a_nanosecond_)) return;
  watch.counters_told_at = now;
  watch.feed->put({.kind = TraceEvent::Kind::counters,
                   .task_id = live_workers,
                   .submitted = pending,
                   .begun = now,
                   .ended = in_flight});
}

void WatchNotes::note_submit(Locked, std::uint64_t task_id, std::uint64_t now) noexcept {
  const auto cause = task_of_running_callback();
  if (cause == 0 || !watch_.feed) return;
  watch_.feed->put({.kind = TraceEvent::Kind::caused, .task_id = task_id, .submitted = cause, .begun = now});
}

void WatchNotes::note_worker(Locked, const WorkerSlot& slot, bool started) noexcept {
  if (!watch_.feed) return;
  watch_.feed->put({.kind = started ? TraceEvent::Kind::worker_started : TraceEvent::Kind::worker_died,
                    .worker = slot.index,
                    .task_id = slot.worker.process.pid(),
                    .submitted = slot.incarnation,
                    .begun = ticks()});
}

void WatchNotes::note_run_without_end(Locked, const WorkerSlot& slot, const TaskState& task,
                                      bool lost) noexcept {
  try {
    TaskNameEntry& name = name_entry(task);
    if (lost) ++name.lost;
    if (!watch_.feed) return;
    const auto now = ticks();
    watch_.feed->put({.kind = TraceEvent::Kind::run,
                      .outcome = lost ? TraceEvent::Outcome::lost : TraceEvent::Outcome::running,
                      .attempt = static_cast<std::uint16_t>(task.ended_attempts() + 1),
                      .worker = slot.index,
                      .name = &name,
                      .task_id = task.id,
                      .submitted = task.submitted_ticks,
                      .begun = std::min(slot.header().begun_ticks.load(std::memory_order_relaxed), now),
                      .ended = now});
  } catch (const std::bad_alloc&) {
    // It is not counted.
  }
}

void WatchNotes::note_burial(Locked locked, const WorkerSlot& slot, const Burial& burial) {
  note_worker(locked, slot, false);
  const TaskState* const lost = burial.lost;
  if (lost != nullptr && !lost->finished()) note_run_without_end(locked, slot, *lost, true);
  if (burial.good_order) return;
  auto death = std::make_shared<WorkerDeath>();
  death->time = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  death->worker = slot.index;
  death->incarnation = slot.incarnation;
  death->pid = slot.worker.process.pid();
  death->kind = label_of(burial.reason, slot.kill_reason, burial.cancelled);
  death->reason = to_string(burial.reason);
  if (lost != nullptr) {
    death->task_id = lost->id;
    death->task_name = name_of_task(code_, *lost);
  }
  death->hint = slot.last_words.loss_hint;
  death->crash = burial.crash.summary;
  death->stack = burial.crash.frames;
  death->last_lines = lost != nullptr ? burial.log.lines_of(lost->id) : burial.log.last_lines;
  ++watch_.restarts_by_kind[death->kind];
  watch_.deaths.push_back(std::move(death));
  if (watch_.deaths.size() > PoolWatch::deaths_kept) watch_.deaths.pop_front();
}

}  // namespace kindred::internal
