#include "supervise/burial.hpp"

#include <algorithm>
#include <csignal>
#include <new>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/stack_text.hpp"
#include "link/lost_items.hpp"
#include "printed_text.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds reaping_limit{2};

std::string text_of(DeathVerdict::Hint hint, const std::string& protocol_error, int system_call) {
  switch (hint) {
    case DeathVerdict::Hint::none: break;
    case DeathVerdict::Hint::corrupted:
      return "It corrupted its shared memory (" + protocol_error +
             ") and was killed for it: the task overwrites memory that is not its own.";
    case DeathVerdict::Hint::mute: return "It was killed because " + protocol_error + ".";
    case DeathVerdict::Hint::stopped:
      return "It was stopped by a signal, was not continued within ExecutorOptions::stopped_limit, and was "
             "killed for it.";
    case DeathVerdict::Hint::lost_descriptors:
      return "It ended itself because a task closed its socket to the program (descriptor 3), which was needed. "
             "A task may close only what it has opened itself.";
    case DeathVerdict::Hint::sandboxed: return sandbox_violation(system_call);
    case DeathVerdict::Hint::over_memory_limit:
      return "The kernel killed it because it took more memory than Sandbox::memory_bytes allows the whole worker: "
             "its processes, files in memory, and results that the program has not taken yet (oom_kill in the "
             "memory.events of its control group).";
    case DeathVerdict::Hint::out_of_memory:
      return "The kernel killed a process of this cgroup for want of memory just now (oom_kill in its "
             "memory.events): use fewer workers, or smaller tasks.";
    case DeathVerdict::Hint::maybe_out_of_memory: return "The kernel may have reclaimed memory: see dmesg.";
  }
  return {};
}

}  // namespace

struct Burial::Obituary {
  ExitReason reason;
  CrashReport crash;
  SourceEnd log;
  std::uint64_t oom_kills = 0;
  MemoryEvents memory;                  // of its own control group
  steady_clock::time_point sinks_by{};  // a sink that hangs holds the burial up once
  bool was_leaving = false;
  bool was_ready = false;
  TaskFacts begun;  // the worker's first call, which it may have begun; task id 0: it had no call
};

void Burial::note_earlier_oom_kills() {
  if (!oom_kills_seen_) oom_kills_seen_ = oom_kills();
}

void Burial::bury(PoolGuard& guard, WorkerSlot& slot) {
  if (!begin(guard, slot)) return;
  const Obituary obituary = take_obituary(guard, slot);
  const DeathVerdict verdict = judge_death(slot, obituary);
  KINDRED_INJECTION_POINT("parent.bury.before_hand_back");
  const std::optional<InFlight> lost = sort_out_calls(guard, slot, verdict.own_doing);
  // When the pool broke, these calls could not be revoked, because the worker's words said that they had
  // begun.
  if (parts_.phase.broken) {
    parts_.completion.fail_pending(
        guard, [this] { return std::make_unique<SharedFailure>(parts_.phase.broken->make()); });
  }
  note_death(guard, slot, obituary, verdict, lost ? lost->task : nullptr);
  if (!verdict.in_good_order) {
    try {
      tell_death(guard, slot, obituary, verdict, lost ? &*lost : nullptr);
    } catch (const std::bad_alloc&) {  // the log lacks the line; the task gets its end all the same
      if (!guard.holds()) guard.lock();
    }
  }
  StartFailure breaking = start_failure_of(slot, obituary, verdict);
  if (!breaking.cause) breaking = breaking_of(slot, obituary, verdict, parts_.intake.runs_ended(guard));
  KINDRED_INJECTION_POINT("parent.bury.handed_back");
  if (lost) lose(guard, *lost, slot, obituary, verdict);
  KINDRED_ASSERT(slot.in_flight.empty());
  KINDRED_ASSERT(!slot.watched);
  KINDRED_ASSERT(slot.state == WorkerSlot::State::dying);
  slot.end_incarnation();
  parts_.ending.notify_changed();
  if (breaking.cause) return parts_.ending.break_pool(guard, breaking.cause, breaking.text);
  parts_.dispatcher.refill(guard);
  parts_.dispatcher.want_all_workers(guard);
}

// False: the fork server has not said yet how the worker ended. The lock is given away meanwhile.
bool Burial::begin(PoolGuard& guard, WorkerSlot& slot) {
  if (slot.state != WorkerSlot::State::dying) {
    KINDRED_INJECTION_POINT("parent.bury.begun");
    take_last_words(guard, slot);
    slot.end.was_asked_to = slot.state == WorkerSlot::State::leaving;
    slot.end.told_by = parts_.clock.now() + reaping_limit;
    slot.state = WorkerSlot::State::dying;
  }
  guard.unlock();
  const bool known = parts_.context.launcher().end_is_known(slot.worker.process);
  guard.lock();
  return known || died_by_our_kill(slot) || slot.end.told_by <= parts_.clock.now();
}

// What was committed before the death counts, so messages and results are taken in before anything fails.
void Burial::take_last_words(Locked locked, WorkerSlot& slot) {
  (void)parts_.intake.take_messages(locked, slot);
  (void)parts_.intake.take_results(locked, slot);
  if (!slot.watched) return;
  parts_.poll.stop_hearing_worker(slot);
  slot.watched = false;
}

// Then the fork server need not say how it ended.
bool Burial::died_by_our_kill(const WorkerSlot& slot) const noexcept {
  const bool gently = slot.kill_reason == KillReason::task && parts_.options.terminate_grace;
  return (slot.kill_reason != KillReason::none && !gently) || parts_.phase.kill_signal == SIGKILL;
}

Burial::Obituary Burial::take_obituary(PoolGuard& guard, WorkerSlot& slot) {
  Obituary obituary;
  obituary.was_ready = slot.ready;
  obituary.was_leaving = slot.end.was_asked_to;
  if (!slot.in_flight.empty()) {
    const auto worker = slot.identity();
    obituary.begun = facts_of(*slot.in_flight.front().task, parts_.completion.code(), &worker);
    ++obituary.begun.attempt;
  }
  guard.unlock();

  KINDRED_INJECTION_POINT("parent.bury.drained");
  obituary.reason = parts_.context.launcher().exit_reason(slot.worker.process);
  if (obituary.reason.kind == ExitReason::Kind::lost && died_by_our_kill(slot))
    obituary.reason = {.kind = ExitReason::Kind::signalled, .signal = SIGKILL};
  tidy_at_ = parts_.context.launcher().tidy_up();
  KINDRED_INJECTION_POINT("parent.bury.reaped");
  const auto warning = parts_.context.launcher().take_warning();
  gather(slot, obituary);

  guard.lock();
  if (warning) parts_.log.note(Level::warn, *warning);
  slot.found_dead = false;  // Where memory ended before this line, the burial begins anew.
  return obituary;
}

// Without the lock: the supervisor alone touches a dying worker's memory and log.
void Burial::gather(const WorkerSlot& slot, Obituary& obituary) {
  obituary.crash = read_crash_report(slot.segment->crash_page(), parts_.context.code());
  emit_captured(slot, obituary.begun);
  obituary.sinks_by = steady_clock::now() + parts_.options.log.flush_limit;
  const bool left =
      obituary.was_leaving && obituary.reason.kind == ExitReason::Kind::exited && obituary.reason.code == 0;
  obituary.log = parts_.collector.finish_source(slot.log_source, obituary.sinks_by,
                                                {.died = !left, .task_id = obituary.begun.task_id});
  KINDRED_INJECTION_POINT("parent.bury.log_drained");
  parts_.shared_objects.owner_died(slot.owner, slot.index, slot.worker.process.pid());
  if (obituary.reason.kind == ExitReason::Kind::signalled && obituary.reason.signal == SIGKILL)
    obituary.oom_kills = oom_kills();
  obituary.memory = parts_.context.end_worker_group(slot.owner);
}

// What the worker had printed and had not told of yet becomes records, a line each.
void Burial::emit_captured(const WorkerSlot& slot, const TaskFacts& task) {
  for (const auto* end : {&slot.captured.out, &slot.captured.error}) {
    if (!*end) continue;
    const bool is_out = end == &slot.captured.out;
    const auto& printed =
        *reinterpret_cast<const PrintedTexts*>(slot.segment->crash_page().data() + printed_texts_offset);
    const std::string text =
        take_untold(is_out ? printed.out : printed.error, slot.segment->log_area(), end->get());
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t line = std::min(text.find('\n', at), text.size());
      LogRecord record;
      record.origin = is_out ? Origin::stdout : Origin::stderr;
      record.level = is_out ? Level::info : Level::warn;
      record.message = text.substr(at, line - at);
      record.worker = slot.index;
      record.incarnation = slot.incarnation;
      record.pid = record.tid = slot.worker.process.pid();
      record.task_id = task.task_id;
      record.task_name = task.task_name;
      record.attempt = task.attempt;
      parts_.collector.emit(std::move(record));
      at = line + 1;
    }
  }
}

DeathVerdict Burial::judge_death(WorkerSlot& slot, const Obituary& obituary) {
  const auto phase = slot.header().phase.load(std::memory_order_relaxed);
  const ExitReason& reason = obituary.reason;
  const DeathVerdict verdict =
      judge({.reason = reason,
             .killed_for = slot.kill_reason,
             .pool_ends = parts_.phase.kill_signal != 0,
             .was_leaving = obituary.was_leaving,
             .was_ready = obituary.was_ready,
             .front_was_cancelled = !slot.in_flight.empty() &&
                                    slot.in_flight.front().condemned == InFlight::Condemned::cancelled,
             .out_of_memory =
                 obituary.memory.kills > 0 || (oom_kills_seen_ && obituary.oom_kills > *oom_kills_seen_),
             .over_memory_limit = obituary.memory.kills > 0 && obituary.memory.over_limit > 0,
             .is_sandboxed = parts_.options.worker.sandbox.has_value(),
             .has_initializer = static_cast<bool>(parts_.initializer),
             .is_spawned = parts_.context.start_method() == StartMethod::spawn,
             .reached_initializer = phase != WorkerPhase::being_set_up,
             .initializer_failed = slot.last_words.initializer_failed,
             .bootstrap_failed = !slot.last_words.bootstrap_error.empty(),
             .lost_descriptors = reason.kind == ExitReason::Kind::exited &&
                                 reason.code == worker_exit::lost_descriptors &&
                                 phase == WorkerPhase::lost_descriptors});
  if (oom_kills_seen_) oom_kills_seen_ = std::max(*oom_kills_seen_, obituary.oom_kills);
  slot.last_words.loss_hint =
      text_of(verdict.hint, slot.last_words.protocol_error, obituary.crash.system_call);
  if (slot.last_words.loss_hint.empty()) slot.last_words.loss_hint = obituary.crash.explanation;
  return verdict;
}

// The words are read once: their writer is dead, but not its subprocesses.
bool Burial::is_first_lost(const WorkerSlot& slot, const InFlight& first, bool own_doing) const {
  return is_lost(
      {.state_says_begun = first.header->state.load(std::memory_order_acquire) != call_state::queued,
       .word_says_begun =
           slot.header().begun_attempt.load(std::memory_order_acquire) == first.task->attempt(),
       .condemned = first.condemned != InFlight::Condemned::no,
       .suspect = slot.ready && own_doing && first.task->is_suspect()});
}

// The dead worker had begun at most one call, which is returned; what was only dispatched to it goes to
// another worker.
std::optional<InFlight> Burial::sort_out_calls(Locked locked, WorkerSlot& slot, bool own_doing) {
  std::vector<InFlight> left;
  left.reserve(slot.in_flight.size());  // else a call would be in neither list where memory ends
  while (!slot.in_flight.empty()) {
    left.push_back(slot.in_flight.front());
    slot.in_flight.pop_front();
    parts_.slots.note_left(locked);
  }
  if (left.empty()) return {};
  const InFlight& first = left.front();
  if (slot.ready && own_doing) first.task->suspect();
  std::optional<InFlight> lost;
  if (is_first_lost(slot, first, own_doing)) lost = first;
  for (std::size_t i = left.size(); i-- > (lost ? 1U : 0U);) {
    TaskState& task = *left[i].task;
    KINDRED_ASSERT(&task.worker() == &slot);
    task.leave_worker();
    if (task.finished()) {
      task.unpin(locked);
    } else {
      parts_.pending.push_front(locked, task);
    }
  }
  return lost;
}

void Burial::note_death(Locked locked, WorkerSlot& slot, const Obituary& obituary,
                        const DeathVerdict& verdict, const TaskState* lost) {
  if (lost != nullptr) ++slot.stats.tasks_lost;
  slot.stats.records += obituary.log.records;
  slot.stats.dropped_records += obituary.log.dropped;
  parts_.notes.note_burial(locked, slot,
                           {.good_order = verdict.in_good_order,
                            .cancelled = verdict.for_cancelled,
                            .reason = verdict.reason,
                            .log = obituary.log,
                            .crash = obituary.crash,
                            .lost = lost});
  if (verdict.in_good_order) {
    ++slot.stats.recycled;
  } else {
    ++slot.stats.restarts;
    ++parts_.completion.totals(locked).restarts;
  }
}

std::string Burial::text_of_death(const WorkerSlot& slot, const Obituary& obituary,
                                  const DeathVerdict& verdict, const TaskState* lost) const {
  std::string text = "worker " + std::to_string(slot.index) + " (pid " +
                     std::to_string(slot.worker.process.pid()) + ") " + to_string(verdict.reason);
  if (verdict.only_replaced && lost == nullptr)
    text +=
        " because a task closed its socket to the program, or another descriptor of kindred's, and is replaced";
  if (lost != nullptr)
    text += " while running '" + parts_.log.name_of(*lost) + "' #" + std::to_string(lost->id);
  if (verdict.for_cancelled) text += ", which was cancelled";
  if (!obituary.was_ready) text += " before it was ready";
  if (slot.kill_reason == KillReason::silence)
    text +=
        ": it began nothing of what it was given for 2 s while tasks waited (stopped, or a task has overwritten its "
        "memory), and is replaced";
  const SourceEnd& log = obituary.log;
  if (log.torn + log.dropped != 0)
    text +=
        "; " + std::to_string(log.torn) + " log records torn, " + std::to_string(log.dropped) + " dropped";
  if (!obituary.crash.summary.empty()) text += "; " + obituary.crash.summary;
  if (!obituary.crash.frames.empty()) text += " in " + first_of_program(obituary.crash.frames);
  return text;
}

// Where a task was lost, the line that tells of the death is in the sinks before the task's future fails: the
// lock is given away meanwhile.
void Burial::tell_death(PoolGuard& guard, WorkerSlot& slot, const Obituary& obituary,
                        const DeathVerdict& verdict, const InFlight* lost) {
  TaskState* const task = lost != nullptr ? lost->task : nullptr;
  const bool expected = verdict.ours || verdict.for_cancelled;
  const bool only_replaced = verdict.only_replaced && task == nullptr;
  const auto attempt = task != nullptr ? static_cast<std::uint32_t>(task->ended_attempts() + 1) : 0;
  const Level level = expected ? Level::debug : only_replaced ? Level::warn : Level::error;
  parts_.log.note_of(guard, slot, level, text_of_death(slot, obituary, verdict, task), task, attempt,
                     obituary.crash.frames);
  if (task == nullptr || expected) return;
  guard.unlock();
  (void)parts_.collector.flush(obituary.sinks_by);
  guard.lock();
}

Burial::StartFailure Burial::start_failure_of(const WorkerSlot& slot, const Obituary& obituary,
                                              const DeathVerdict& verdict) const {
  const std::string index = std::to_string(slot.index);
  switch (verdict.start_failure) {
    case DeathVerdict::StartFailure::none: break;
    case DeathVerdict::StartFailure::initializer_threw: {
      TaskFacts facts = facts_about(slot.identity(), "initializer");
      facts.code = parts_.completion.code();
      Decoder decoder{parts_.context.id(), slot.last_words.failure_bytes};
      return {decode_exception(decoder, facts), "the initializer failed in worker " + index};
    }
    case DeathVerdict::StartFailure::bootstrap:
      return {std::make_exception_ptr(UsageError{slot.last_words.bootstrap_error}),
              "worker " + index + " could not be set up"};
    case DeathVerdict::StartFailure::initializer_timeout:
      return {std::make_exception_ptr(
                  TaskTimeout{facts_about(slot.identity(), parts_.initializer ? "initializer" : "start"),
                              *parts_.options.initializer_timeout, parts_.clock.now() - slot.started}),
              "the initializer of worker " + index + " ran over initializer_timeout"};
    case DeathVerdict::StartFailure::died_in_initializer:
      return {std::make_exception_ptr(
                  WorkerLost{{verdict.reason, facts_about(slot.identity(), "initializer"),
                              obituary.log.last_lines, obituary.crash.frames, slot.last_words.loss_hint}}),
              "worker " + index + " " + to_string(verdict.reason) + " in its initializer"};
    case DeathVerdict::StartFailure::died_before_entry:
      return {std::make_exception_ptr(UsageError{"worker " + index + " " + to_string(verdict.reason) +
                                                 " before it reached kindred::Entry. " +
                                                 mend_before_entry(verdict.reason)}),
              "a worker ended before it reached kindred::Entry"};
  }
  return {};
}

// Does this death break the pool, by `on_worker_death` or the restart limit? A task that ended in between
// clears the count: then it is no crash loop.
Burial::StartFailure Burial::breaking_of(const WorkerSlot& slot, const Obituary& obituary,
                                         const DeathVerdict& verdict, std::uint64_t runs_ended) {
  if (verdict.in_good_order || verdict.ours || verdict.only_replaced) return {};
  const auto worker_lost = [&] {
    return std::make_exception_ptr(
        WorkerLost{{verdict.reason, facts_about(slot.identity(), {}), obituary.log.last_lines,
                    obituary.crash.frames, slot.last_words.loss_hint}});
  };
  if (parts_.options.on_worker_death == OnWorkerDeath::break_pool)
    return {worker_lost(), "worker " + std::to_string(slot.index) + " " + to_string(verdict.reason)};
  if (std::exchange(runs_ended_seen_, runs_ended) != runs_ended) crashes_.note_success();
  const auto now = parts_.clock.now();
  if (verdict.counts_as_crash) crashes_.note_death(now);
  if (!crashes_.exceeded(now)) return {};
  return {worker_lost(), std::to_string(crashes_.deaths()) + " workers died within " +
                             std::to_string(std::chrono::duration<double>(crashes_.period()).count()) +
                             " s and no task succeeded in between (restart_limit): the last one " +
                             to_string(verdict.reason)};
}

void Burial::lose(Locked locked, const InFlight& attempt, const WorkerSlot& slot, const Obituary& obituary,
                  const DeathVerdict& verdict) {
  TaskState& task = *attempt.task;
  KINDRED_ASSERT(&task.worker() == &slot);
  task.leave_worker();
  if (task.finished()) return task.unpin(locked);  // cancelled by killing
  const AttemptId number = task.attempt();
  task.end_attempt();
  Completion& completion = parts_.completion;
  if (completion.try_again(locked, task)) return;
  ++completion.totals(locked).lost;
  const auto worker = slot.identity();
  if (attempt.condemned == InFlight::Condemned::timed_out) {
    return completion.finish_with(locked, task, Outcome::failure, [&] {
      return std::make_unique<StoredFailure<TaskTimeout>>(
          TaskTimeout{facts_of(task, completion.code(), &worker), *task.options->timeout,
                      std::max(*task.options->timeout, attempt.ran)});
    });
  }
  completion.finish_with(locked, task, Outcome::failure, [&]() -> std::unique_ptr<Failure> {
    auto failure = std::make_unique<StoredFailure<WorkerLost>>(
        WorkerLost{{verdict.reason, facts_of(task, completion.code(), &worker),
                    obituary.log.lines_of(task.id), obituary.crash.frames, slot.last_words.loss_hint}});
    if (!runs_items(task, *completion.code())) return failure;
    return std::make_unique<LostItems>(std::move(failure),
                                       read_items_left(*slot.segment, slot.memory.blocks, number));
  });
}

}  // namespace kindred::internal
