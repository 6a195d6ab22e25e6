#include "supervise/starter.hpp"

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/injection.hpp"
#include "link/sent_memories.hpp"
#include "link/worker_control.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

// How long the log may take to end its source for a worker that never started.
constexpr std::chrono::seconds source_limit{1};
// How long a worker may spin before it sleeps, where there is a core to spare.
constexpr std::uint32_t spin_nanoseconds = 200'000;

}  // namespace

struct Starter::StartInHand {
  WorkerSlot* slot;
  AskedWorker asked = {};
  std::shared_ptr<Segment> segment = {};
  std::optional<SourceId> source = {};
  struct {
    Descriptor out_read, out_write;
    Descriptor error_read, error_write;
  } captures = {};
};

Starter::Starter(Parts parts) : parts_{std::move(parts)} {}
Starter::~Starter() = default;

void Starter::check(PoolGuard& guard, Time now) {
  check_start_in_hand(guard);
  for (;;) {
    switch (next_start_step(facts(guard), now)) {
      case StartStep::none: return;
      case StartStep::want_none: return parts_.slots.want_no_more(guard);
      case StartStep::end_fork_server: return end_slow_launcher(guard);
      case StartStep::prepare: break;
    }
    if (!prepare_launcher(guard)) return;
    parts_.slots.want_one_less(guard);
    begin_start(guard, *parts_.slots.free_slot(guard));
  }
}

StartFacts Starter::facts(Locked locked) const {
  return {.is_wanted = parts_.slots.wanted(locked) != 0,
          .is_in_hand = start_ != nullptr,
          .has_use = !parts_.phase.ended && has_use(locked),
          .has_slot = parts_.slots.has_free_slot(locked),
          .may_start = backoff_.next_start(),
          .preparing_since = preparing_since_,
          .preload_limit = parts_.options.preload_timeout};
}

// Would another worker have anything to do?
bool Starter::has_use(Locked locked) const {
  return !parts_.phase.broken && !(parts_.phase.closed && parts_.completion.outstanding(locked) == 0);
}

Deadline Starter::next(Locked locked) const {
  return start_ ? Deadline{start_->asked.answer_by} : next_start_look(facts(locked));
}

// A fork server may preload for long. Nothing here waits for it: its socket is polled, and tells when it is
// ready.
bool Starter::prepare_launcher(PoolGuard& guard) {
  std::exception_ptr failure;
  bool ready = false;
  guard.unlock();
  try {
    ready = parts_.context.prepare_launcher();
  } catch (...) {
    failure = std::current_exception();
  }
  guard.lock();
  if (!failure && !ready) {
    if (!preparing_since_) preparing_since_ = parts_.clock.now();
    return false;
  }
  preparing_since_.reset();
  // Meanwhile the wish may have been dropped, and the slots have become fewer.
  if (!failure) return parts_.slots.wanted(guard) != 0 && parts_.slots.has_free_slot(guard);
  parts_.slots.want_one_less(guard);
  fail(guard, failure);
  return false;
}

void Starter::end_slow_launcher(Locked locked) {
  parts_.context.end_launcher();
  preparing_since_.reset();
  parts_.slots.want_one_less(locked);
  const double limit = std::chrono::duration<double>(*parts_.options.preload_timeout).count();
  fail(locked,
       std::make_exception_ptr(UsageError{
           "the fork server did not come to an end of ExecutorOptions::preload within preload_timeout, " +
           std::to_string(limit) + " s, and was killed. Preload less, or raise preload_timeout."}));
}

// Asks for a worker, and adopts it if it is there within a moment, as nearly always.
void Starter::begin_start(PoolGuard& guard, WorkerSlot& slot) {
  KINDRED_ASSERT(slot.state == WorkerSlot::State::empty);
  KINDRED_ASSERT(!start_);
  start_ = std::make_unique<StartInHand>(StartInHand{.slot = &slot});
  slot.state = WorkerSlot::State::starting;
  slot.owner = next_owner_++;
  guard.unlock();
  std::exception_ptr failure;
  try {
    ask_and_greet(*start_);
  } catch (...) {
    failure = std::current_exception();
  }
  guard.lock();
  go_on(guard, std::move(failure));
}

void Starter::ask_and_greet(StartInHand& start) {
  const WorkerSlot& slot = *start.slot;
  start.asked = parts_.context.ask_for_worker();  // it comes up while the rest is made here
  start.segment =
      std::make_shared<Segment>(Segment::create({.log_bytes = log_area_bytes(parts_.options.log)}));
  start.source = parts_.collector.add_source(
      start.segment->log_area(), {.worker = slot.index, .incarnation = slot.next_incarnation, .pid = 0},
      start.segment);
  const auto captures = open_captures(start);
  parts_.context.greet_worker(start.asked, slot.index, slot.next_incarnation, slot.owner, *start.segment,
                              parts_.collector.bell_fd(), captures, worker_main_);
}

// Returns the ends of the pipes that stdout and stderr become, for `Context::greet_worker`; empty: they
// become none.
std::vector<int> Starter::open_captures(StartInHand& start) const {
  if (!parts_.options.worker.capture_output) return {};
  auto& ends = start.captures;
  std::tie(ends.out_read, ends.out_write) = make_capture_pipe();
  std::tie(ends.error_read, ends.error_write) = make_capture_pipe();
  return {ends.out_read.get(), ends.out_write.get(), ends.error_read.get(), ends.error_write.get()};
}

// Continues a start that the fork server had not answered, or gives it up where no worker is wanted any more.
void Starter::check_start_in_hand(PoolGuard& guard) {
  if (!start_) return;
  if (parts_.phase.kill_signal == 0 && has_use(guard)) return go_on(guard, nullptr);
  WorkerSlot& slot = *start_->slot;
  guard.unlock();
  drop_start();
  guard.lock();
  slot.end_incarnation();
  parts_.ending.notify_changed();
}

void Starter::drop_start() {
  const auto start = std::move(start_);
  KINDRED_ASSERT(start->slot->state == WorkerSlot::State::starting);
  if (parts_.context.has_launcher()) parts_.context.launcher().give_up(std::move(start->asked));
  (void)parts_.context.end_worker_group(start->slot->owner);
  if (start->source) (void)parts_.collector.finish_source(*start->source, steady_clock::now() + source_limit);
}

// `failure` is null: the worker was asked for, and greeted.
void Starter::go_on(PoolGuard& guard, std::exception_ptr failure) {
  guard.unlock();
  WorkerSlot& slot = *start_->slot;
  std::optional<StartedWorker> worker;
  if (!failure) {
    try {
      worker = parts_.context.launcher().started(start_->asked);
      if (worker) begin_work(*start_, *worker);
    } catch (...) {
      failure = std::current_exception();
    }
  }
  std::optional<std::string> warning;
  if (parts_.context.has_launcher()) warning = parts_.context.launcher().take_warning();
  if (failure) {
    if (worker) start_->asked.process = std::move(worker->process);
    drop_start();
  }
  guard.lock();
  if (warning) parts_.log.note(Level::warn, *warning);
  if (failure) {
    slot.end_incarnation();
    parts_.ending.notify_changed();
    fail(guard, failure);
  } else if (worker) {
    const auto done = std::move(start_);
    adopt(guard, *done, std::move(*worker));
  }
}

void Starter::begin_work(StartInHand& start, const StartedWorker& worker) {
  parts_.collector.set_source_pid(*start.source, worker.process.pid());
  start.segment->close_descriptor();
  // All of them fit: its socket is empty, and the initializer and the finalizer have a limit each.
  (void)send_memories(worker.socket, 1, start_attachments_);
}

void Starter::adopt(Locked locked, StartInHand& start, StartedWorker worker) {
  WorkerSlot& slot = *start.slot;
  backoff_.note_success();
  KINDRED_ASSERT(slot.state == WorkerSlot::State::starting);
  KINDRED_ASSERT(!slot.segment);
  KINDRED_ASSERT(!slot.watched);
  KINDRED_ASSERT(slot.in_flight.empty());
  slot.segment = std::move(start.segment);
  slot.log_source = *start.source;
  slot.worker = std::move(worker);
  slot.captured.out = std::move(start.captures.out_read);
  slot.captured.error = std::move(start.captures.error_read);
  slot.incarnation = slot.next_incarnation++;
  SegmentHeader& header = slot.header();
  KINDRED_INJECTION_POINT("parent.start.adopted");
  slot.calls = RingWriter<>{slot.segment->call_room(), header.calls};
  slot.results = RingReader<>{slot.segment->result_room(), header.results};
  slot.sent.modules = parts_.context.modules_told();
  slot.sent.memory_id = start_attachments_.size();
  slot.memory.blocks = ResultBlocks{slot.segment, parts_.block_freed};
  slot.started = slot.idle_since = parts_.clock.now();
  // As many workers may spin as there are cores beyond the one that waits for them.
  const bool spins = parts_.options.spin && static_cast<unsigned>(slot.index) + 1 < parts_.usable_cpus;
  header.spin_nanoseconds.store(spins ? spin_nanoseconds : 0U, std::memory_order_relaxed);
  slot.state = WorkerSlot::State::alive;
  listen_to(locked, slot);
  parts_.log.note_of(locked, slot, Level::debug,
                     "worker " + std::to_string(slot.index) + " (pid " +
                         std::to_string(slot.worker.process.pid()) + ") started by " +
                         std::string{to_string(parts_.context.start_method())} +
                         (slot.incarnation == 0 ? "" : ", incarnation " + std::to_string(slot.incarnation)));
  if (parts_.phase.kill_signal != 0) WorkerControl::signal(locked, slot, parts_.phase.kill_signal);
  parts_.notes.note_worker(locked, slot, true);
  parts_.dispatcher.refill(locked);
}

void Starter::listen_to(Locked locked, WorkerSlot& slot) {
  try {
    parts_.poll.hear_worker(slot);
    slot.watched = true;
  } catch (const SystemError&) {
    WorkerControl::kill(locked, slot, KillReason::shutdown);
    slot.watched = slot.found_dead = true;
    parts_.wake_supervisor();  // nothing else tells it of this death
  }
}

void Starter::fail(Locked locked, const std::exception_ptr& failure) {
  std::string text;
  bool hopeless = false;
  try {
    std::rethrow_exception(failure);
  } catch (const ServerLost&) {
    return parts_.slots.want_another(locked);  // at once: the launcher has counted how often it came to that
  } catch (const UsageError& error) {
    text = error.what();
    hopeless = true;  // preload threw, or builds differ: it will not be better the next time
  } catch (const std::exception& error) {
    text = error.what();
  }
  if (!backoff_.note_failure(parts_.clock.now(), hopeless, parts_.slots.live(locked)))
    return parts_.ending.break_pool(locked, failure, "no worker could be started");
  parts_.log.note(Level::warn, "a worker could not be started, and is tried again: " + text);
  parts_.slots.want_another(locked);
}

}  // namespace kindred::internal
