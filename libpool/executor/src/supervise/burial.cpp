#include <algorithm>
#include <csignal>
#include <new>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/injection.hpp"
#include "lost_items.hpp"
#include "pool_core.hpp"
#include "pool_part.hpp"

// A dead worker's burial: its last words are taken in, its obituary is gathered, a verdict is reached, and
// what follows from the verdict is done. All under the lock, except where the comments in pool_core.hpp say
// that the lock is given away.
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
    case DeathVerdict::Hint::out_of_memory:
      return "The kernel killed a process of this cgroup for want of memory just now (oom_kill in its "
             "memory.events): use fewer workers, or smaller tasks.";
    case DeathVerdict::Hint::maybe_out_of_memory: return "The kernel may have reclaimed memory: see dmesg.";
  }
  return {};
}

}  // namespace

struct PoolCore::Obituary {
  ExitReason reason;
  CrashReport crash;
  SourceEnd log;
  std::uint64_t oom_kills = 0;
  SteadyTime sinks_by{};  ///< a sink that hangs holds the burial up once
  bool was_leaving = false;
  bool was_ready = false;
};

void PoolCore::bury(Lock& lock, WorkerSlot& slot) {
  if (!begin_burial(lock, slot)) return;
  const Obituary obituary = take_obituary(lock, slot);
  const DeathVerdict verdict = judge_death(slot, obituary);
  KINDRED_INJECTION_POINT("parent.bury.before_hand_back");
  const std::optional<InFlight> lost = sort_out_calls(slot, verdict.own_doing);
  // Whoever ended the pool could not revoke them: the worker claimed, falsely, that it had begun one.
  if (broken_) fail_waiting([this] { return std::make_unique<SharedFailure>(broken_->make()); });
  if (lost) ++slot.stats.tasks_lost;
  slot.stats.records += obituary.log.records;
  slot.stats.dropped_records += obituary.log.dropped;
  watch_burial(slot, verdict.in_good_order, verdict.for_cancelled, verdict.reason, obituary.log,
               obituary.crash, lost ? lost->task : nullptr);
  if (verdict.in_good_order) {
    ++slot.stats.recycled;
  } else {
    ++slot.stats.restarts;
    ++totals_.restarts;
    try {
      tell_death(lock, slot, obituary, verdict, lost ? &*lost : nullptr);
    } catch (const std::bad_alloc&) {  // the log lacks the line; the task gets its end all the same
      if (!lock.owns_lock()) lock.lock();
    }
  }
  const StartFailure start_failure = start_failure_of(slot, obituary, verdict);
  const std::string name = "worker " + std::to_string(slot.index) + " ";
  const auto worker_lost = [&, who = facts_about(slot, {}), hint = slot.last_words.loss_hint] {
    return std::make_exception_ptr(
        WorkerLost{{verdict.reason, who, obituary.log.last_lines, obituary.crash.frames, hint}});
  };
  KINDRED_INJECTION_POINT("parent.bury.handed_back");
  if (lost) lose(*lost, slot, obituary, verdict);
  clear(slot);

  if (start_failure.cause) return break_pool(lock, start_failure.cause, start_failure.text);
  if (!verdict.in_good_order && !verdict.ours && !verdict.only_replaced) {
    if (options_.on_worker_death == OnWorkerDeath::break_pool)
      return break_pool(lock, worker_lost(), name + to_string(verdict.reason));
    const auto now = steady_clock::now();
    if (verdict.counts_as_crash) crashes_.note_death(now);
    if (crashes_.exceeded(now)) {
      return break_pool(lock, worker_lost(),
                        std::to_string(crashes_.deaths()) + " workers died within " +
                            std::to_string(std::chrono::duration<double>(crashes_.period()).count()) +
                            " s and no task succeeded in between (restart_limit): the last one " +
                            to_string(verdict.reason));
    }
  }
  refill();
  want_workers_now();
}

bool PoolCore::begin_burial(Lock& lock, WorkerSlot& slot) {
  if (slot.state != WorkerSlot::State::dying) {
    KINDRED_INJECTION_POINT("parent.bury.begun");
    // The last words: what was committed before the death counts, so both are drained before anything fails.
    take_messages(slot);
    (void)pump_slot(slot);
    slot.end.was_asked_to = slot.state == WorkerSlot::State::leaving;
    slot.end.told_by = steady_clock::now() + reaping_limit;
    if (slot.watched) {
      poll_->remove(slot.worker.process.pidfd());
      poll_->remove(slot.worker.socket.fd());
      slot.watched = false;
    }
    slot.state = WorkerSlot::State::dying;
  }
  flush_afterwards(lock);
  const bool known = context_.launcher().end_is_known(slot.worker.process);
  lock.lock();
  return known || died_by_our_kill(slot) || slot.end.told_by <= steady_clock::now();
}

// Then nobody has to say how it ended.
bool PoolCore::died_by_our_kill(const WorkerSlot& slot) const noexcept {
  const bool gently = slot.kill_reason == KillReason::task && options_.terminate_grace;
  return (slot.kill_reason != KillReason::none && !gently) || kill_all_ == SIGKILL;
}

PoolCore::Obituary PoolCore::take_obituary(Lock& lock, WorkerSlot& slot) {
  Obituary obituary;
  obituary.was_ready = slot.ready;
  obituary.was_leaving = slot.end.was_asked_to;
  TaskFacts begun;
  begun.task_id = 0;
  if (!slot.in_flight.empty()) {
    begun = facts(*slot.in_flight.front().task, &slot);
    ++begun.attempt;
  }
  flush_afterwards(lock);

  KINDRED_INJECTION_POINT("parent.bury.drained");
  obituary.reason = context_.launcher().exit_reason(slot.worker.process);
  if (obituary.reason.kind == ExitReason::Kind::lost && died_by_our_kill(slot))
    obituary.reason = {.kind = ExitReason::Kind::signalled, .signal = SIGKILL};
  launching_.tidy_at = context_.launcher().tidy_up();
  KINDRED_INJECTION_POINT("parent.bury.reaped");
  const auto warning = context_.launcher().take_warning();
  obituary.crash = read_crash_report(slot.segment->crash_page(), context_.code());
  drain_captured(slot, begun);
  obituary.sinks_by = steady_clock::now() + options_.log.flush_limit;
  const bool left =
      obituary.was_leaving && obituary.reason.kind == ExitReason::Kind::exited && obituary.reason.code == 0;
  obituary.log =
      collector_.finish_source(slot.log_source, obituary.sinks_by, {.died = !left, .task_id = begun.task_id});
  KINDRED_INJECTION_POINT("parent.bury.log_drained");
  if (shared_objects_) shared_objects_->owner_died(slot.owner, slot.index, slot.worker.process.pid());
  if (obituary.reason.kind == ExitReason::Kind::signalled && obituary.reason.signal == SIGKILL)
    obituary.oom_kills = oom_kills();

  lock.lock();
  if (warning) note(Level::warn, *warning);
  slot.found_dead = false;  // Where memory ended before this line, the burial begins anew.
  return obituary;
}

DeathVerdict PoolCore::judge_death(WorkerSlot& slot, const Obituary& obituary) {
  const DeathVerdict verdict =
      judge({.reason = obituary.reason,
             .killed_for = slot.kill_reason,
             .pool_ends = kill_all_ != 0,
             .was_leaving = obituary.was_leaving,
             .was_ready = obituary.was_ready,
             .front_was_cancelled = !slot.in_flight.empty() &&
                                    slot.in_flight.front().condemned == InFlight::Condemned::cancelled,
             .out_of_memory = oom_kills_seen_ && obituary.oom_kills > *oom_kills_seen_,
             .is_sandboxed = options_.worker.sandbox.has_value(),
             .has_initializer = static_cast<bool>(initializer_),
             .is_spawned = context_.start_method() == StartMethod::spawn,
             .reached_initializer =
                 slot.header().phase.load(std::memory_order_relaxed) != WorkerPhase::being_set_up,
             .initializer_failed = slot.last_words.initializer_failed,
             .bootstrap_failed = !slot.last_words.bootstrap_error.empty(),
             .lost_descriptors =
                 obituary.reason.kind == ExitReason::Kind::exited &&
                 obituary.reason.code == worker_exit::lost_descriptors &&
                 slot.header().phase.load(std::memory_order_relaxed) == WorkerPhase::lost_descriptors});
  if (oom_kills_seen_) oom_kills_seen_ = std::max(*oom_kills_seen_, obituary.oom_kills);
  slot.last_words.loss_hint =
      text_of(verdict.hint, slot.last_words.protocol_error, obituary.crash.system_call);
  if (slot.last_words.loss_hint.empty()) slot.last_words.loss_hint = obituary.crash.explanation;
  return verdict;
}

// The dead worker had begun at most one call, which is returned; what was only dispatched to it goes to
// another worker.
std::optional<InFlight> PoolCore::sort_out_calls(WorkerSlot& slot, bool own_doing) {
  std::vector<InFlight> left;
  left.reserve(slot.in_flight.size());  // else a call would be in neither list where memory ends
  while (!slot.in_flight.empty()) {
    left.push_back(slot.in_flight.front());
    slot.in_flight.pop_front();
    --in_flight_;
  }
  if (left.empty()) return {};
  const InFlight& first = left.front();
  // Read once: their writer is dead, but not its subprocesses.
  const bool state_says_begun = first.header->state.load(std::memory_order_acquire) != call_state::queued;
  const bool word_says_begun =
      slot.header().begun_attempt.load(std::memory_order_acquire) == first.task->attempt();
  if (slot.ready && own_doing) first.task->suspect();
  std::optional<InFlight> lost;
  if (is_lost({.state_says_begun = state_says_begun,
               .word_says_begun = word_says_begun,
               .condemned = first.condemned != InFlight::Condemned::no,
               .suspect = slot.ready && own_doing && first.task->is_suspect()}))
    lost = first;
  for (std::size_t i = left.size(); i-- > (lost ? 1U : 0U);) {
    TaskState& task = *left[i].task;
    task.leave_worker();
    if (task.finished()) {
      task.unpin();
    } else {
      waiting_.push_front(task);
    }
  }
  return lost;
}

void PoolCore::tell_death(Lock& lock, WorkerSlot& slot, const Obituary& obituary, const DeathVerdict& verdict,
                          const InFlight* lost) {
  std::string text = "worker " + std::to_string(slot.index) + " (pid " +
                     std::to_string(slot.worker.process.pid()) + ") " + to_string(verdict.reason);
  TaskState* const task = lost != nullptr ? lost->task : nullptr;
  const bool only_replaced = verdict.only_replaced && task == nullptr;
  if (only_replaced)
    text +=
        " because a task closed its socket to the program, or another descriptor of kindred's, and is replaced";
  if (task != nullptr) text += " while running '" + task_name(*task) + "' #" + std::to_string(task->id);
  if (verdict.for_cancelled) text += ", which was cancelled";
  if (!obituary.was_ready) text += " before it was ready";
  if (slot.kill_reason == WorkerSlot::KillReason::silence)
    text +=
        ": it began nothing of what it was given for 2 s while tasks waited (stopped, or a task has overwritten its memory), and is replaced";
  const SourceEnd& log = obituary.log;
  if (log.torn + log.dropped != 0)
    text +=
        "; " + std::to_string(log.torn) + " log records torn, " + std::to_string(log.dropped) + " dropped";
  if (!obituary.crash.summary.empty()) text += "; " + obituary.crash.summary;
  if (!obituary.crash.frames.empty()) text += " in " + first_of_program(obituary.crash.frames);
  const bool expected = verdict.ours || verdict.for_cancelled;
  const auto attempt = task != nullptr ? static_cast<std::uint32_t>(task->ended_attempts() + 1) : 0;
  const Level level = expected ? Level::debug : only_replaced ? Level::warn : Level::error;
  note(level, std::move(text), &slot, task, attempt, obituary.crash.frames);
  if (task == nullptr || expected) return;
  // The line that tells of the death is in the sinks, too, before its future fails.
  flush_afterwards(lock);
  (void)collector_.flush(obituary.sinks_by);
  lock.lock();
}

TaskFacts PoolCore::facts_about(const WorkerSlot& slot, std::string what) const {
  TaskFacts facts;
  facts.task_name = std::move(what);
  facts.worker = slot.index;
  facts.pid = slot.worker.process.pid();
  facts.incarnation = slot.incarnation;
  return facts;
}

PoolCore::StartFailure PoolCore::start_failure_of(const WorkerSlot& slot, const Obituary& obituary,
                                                  const DeathVerdict& verdict) const {
  const std::string index = std::to_string(slot.index);
  switch (verdict.start_failure) {
    case DeathVerdict::StartFailure::none: break;
    case DeathVerdict::StartFailure::initializer_threw: {
      TaskFacts who = facts_about(slot, "initializer");
      who.code = context_.shared_code();
      Decoder decoder{context_.id(), slot.last_words.failure_bytes};
      return {decode_exception(decoder, who), "the initializer failed in worker " + index};
    }
    case DeathVerdict::StartFailure::bootstrap:
      return {std::make_exception_ptr(UsageError{slot.last_words.bootstrap_error}),
              "worker " + index + " could not be set up"};
    case DeathVerdict::StartFailure::initializer_timeout:
      return {std::make_exception_ptr(TaskTimeout{facts_about(slot, initializer_ ? "initializer" : "start"),
                                                  *options_.initializer_timeout,
                                                  steady_clock::now() - slot.started}),
              "the initializer of worker " + index + " ran over initializer_timeout"};
    case DeathVerdict::StartFailure::died_in_initializer:
      return {std::make_exception_ptr(
                  WorkerLost{{verdict.reason, facts_about(slot, "initializer"), obituary.log.last_lines,
                              obituary.crash.frames, slot.last_words.loss_hint}}),
              "worker " + index + " " + to_string(verdict.reason) + " in its initializer"};
    case DeathVerdict::StartFailure::died_before_entry:
      return {std::make_exception_ptr(UsageError{"worker " + index + " " + to_string(verdict.reason) +
                                                 " before it reached kindred::Entry. " +
                                                 mend_before_entry(verdict.reason)}),
              "a worker ended before it reached kindred::Entry"};
  }
  return {};
}

void PoolCore::lose(const InFlight& entry, const WorkerSlot& slot, const Obituary& obituary,
                    const DeathVerdict& verdict) {
  TaskState& task = *entry.task;
  task.leave_worker();
  if (task.finished()) return task.unpin();  // cancelled by killing
  const AttemptId attempt = task.attempt();
  task.end_attempt();
  if (try_again(task)) return;
  ++totals_.lost;
  if (entry.condemned == InFlight::Condemned::timed_out) {
    return finish_with(task, Outcome::failure, [&] {
      return std::make_unique<StoredFailure<TaskTimeout>>(TaskTimeout{
          facts(task, &slot), *task.options->timeout, std::max(*task.options->timeout, entry.ran)});
    });
  }
  finish_with(task, Outcome::failure, [&]() -> std::unique_ptr<Failure> {
    auto failure = std::make_unique<StoredFailure<WorkerLost>>(
        WorkerLost{{verdict.reason, facts(task, &slot), obituary.log.lines_of(task.id), obituary.crash.frames,
                    slot.last_words.loss_hint}});
    if (!runs_items(task, context_.code())) return failure;
    return std::make_unique<LostItems>(std::move(failure),
                                       read_items_left(*slot.segment, slot.memory.blocks, attempt));
  });
}

void PoolCore::clear(WorkerSlot& slot) {
  KINDRED_ASSERT(slot.in_flight.empty());
  KINDRED_ASSERT(slot.state == WorkerSlot::State::dying);
  slot.end_incarnation();
  changed_.notify_all();
}

}  // namespace kindred::internal
