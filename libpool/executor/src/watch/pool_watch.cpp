#include "watch/pool_watch.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/tail_request.hpp"
#include "kindred/internal/tail_visit.hpp"
#include "pool_core.hpp"

// What the pool notes and tells for kindred-view, kindred-top, metrics and traces.
namespace kindred::internal {
namespace {

std::uint64_t between(std::uint64_t begin, std::uint64_t end) noexcept {
  return end > begin ? end - begin : 0;
}

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

std::string state_of(const WorkerSlot& slot, bool runs) {
  switch (slot.state) {
    case WorkerSlot::State::empty: return "empty";
    case WorkerSlot::State::starting: return "starting";
    case WorkerSlot::State::dying: return "dying";
    case WorkerSlot::State::leaving: return runs ? "running" : "leaving";
    case WorkerSlot::State::alive: break;
  }
  if (!slot.ready) return "initializing";
  return runs ? "running" : "idle";
}

}  // namespace

TaskNameEntry& PoolCore::name_entry(const TaskState& task) {
  if (task.options && !task.options->name.empty()) return watch_->names.of_name(task.options->name);
  return watch_->names.of_code(task.function != 0 ? task.function : task.entry);
}

/// A result lies in a worker's ring and is about to be taken. Its times are the worker's word: they move
/// these numbers and nothing else.
void PoolCore::watch_result(WorkerSlot& slot, std::span<const std::byte> message) noexcept {
  ResultHeader result;
  if (message.size() < sizeof result || slot.in_flight.empty()) return;
  std::memcpy(&result, message.data(), sizeof result);
  const TaskState& task = *slot.in_flight.front().task;
  if (task.id != result.task_id || task.finished()) return;
  PoolWatch& watch = *watch_;
  const auto ran = between(result.begun_ticks, result.ended_ticks);
  const auto queued = between(task.submitted_ticks, result.begun_ticks);
  const auto run_nanoseconds = static_cast<std::uint64_t>(static_cast<double>(ran) / ticks_a_nanosecond_);
  const auto queue_nanoseconds =
      static_cast<std::uint64_t>(static_cast<double>(queued) / ticks_a_nanosecond_);
  const bool failed = result.kind == ResultKind::failure;
  watch.run_time.add(run_nanoseconds);
  watch.queue_time.add(queue_nanoseconds);
  TaskNameEntry* name = nullptr;
  try {
    name = &name_entry(task);
  } catch (const std::bad_alloc&) {
    return;
  }
  ++name->ended;
  if (failed) ++name->failed;
  name->run_nanoseconds += run_nanoseconds;
  name->queue_nanoseconds += queue_nanoseconds;
  name->longest_nanoseconds = std::max(name->longest_nanoseconds, run_nanoseconds);
  if (watch.feed) {
    watch.feed->put({.kind = TraceEvent::Kind::run,
                     .outcome = failed ? TraceEvent::Outcome::failure : TraceEvent::Outcome::value,
                     .attempt = static_cast<std::uint16_t>(task.ended_attempts() + 1),
                     .worker = slot.index,
                     .name = name,
                     .task_id = task.id,
                     .submitted = task.submitted_ticks,
                     .begun = result.begun_ticks,
                     .ended = result.begun_ticks + ran});
  }
}

/// After results were taken in: tells the trace how many tasks wait, at most once a millisecond, and looks
/// whether anybody still wants all this.
void PoolCore::watch_queue() noexcept {
  PoolWatch& watch = *watch_;
  const auto now = ticks();
  if (!watch.feed) {
    if (!watch.always && now > watch.until) watching_ = false;
    return;
  }
  if (now - watch.counters_told_at < static_cast<std::uint64_t>(ticks_of(1e6))) return;
  watch.counters_told_at = now;
  watch.feed->put({.kind = TraceEvent::Kind::counters,
                   .task_id = live_workers(),
                   .submitted = waiting_.size(),
                   .begun = now,
                   .ended = in_flight_});
}

/// The calling thread runs a callback of a task, and submits another one.
void PoolCore::watch_submit(std::uint64_t task_id, std::uint64_t now) noexcept {
  const auto cause = task_of_running_callback();
  if (cause == 0 || !watch_->feed) return;
  watch_->feed->put({.kind = TraceEvent::Kind::caused, .task_id = task_id, .submitted = cause, .begun = now});
}

void PoolCore::watch_worker(const WorkerSlot& slot, bool started) noexcept {
  if (!watch_->feed) return;
  watch_->feed->put({.kind = started ? TraceEvent::Kind::worker_started : TraceEvent::Kind::worker_died,
                     .worker = slot.index,
                     .task_id = slot.worker.process.pid(),
                     .submitted = slot.incarnation,
                     .begun = ticks()});
}

void PoolCore::watch_run_without_end(const WorkerSlot& slot, const TaskState& task, bool lost) noexcept {
  try {
    TaskNameEntry& name = name_entry(task);
    if (lost) ++name.lost;
    if (!watch_->feed) return;
    const auto now = ticks();
    watch_->feed->put({.kind = TraceEvent::Kind::run,
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

void PoolCore::watch_burial(const WorkerSlot& slot, bool good_order, bool cancelled, const ExitReason& reason,
                            const SourceEnd& end, const CrashReport& crash, const TaskState* lost) {
  watch_worker(slot, false);
  if (lost != nullptr && !lost->finished()) watch_run_without_end(slot, *lost, true);
  if (good_order) return;
  auto death = std::make_shared<WorkerDeath>();
  death->time = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  death->worker = slot.index;
  death->incarnation = slot.incarnation;
  death->pid = slot.worker.process.pid();
  death->kind = label_of(reason, slot.kill_reason, cancelled);
  death->reason = to_string(reason);
  if (lost != nullptr) {
    death->task_id = lost->id;
    death->task_name = task_name(*lost);
  }
  death->hint = slot.last_words.loss_hint;
  death->crash = crash.summary;
  death->stack = crash.frames;
  death->last_lines = end.last_lines;
  ++watch_->restarts_by_kind[death->kind];
  watch_->deaths.push_back(std::move(death));
  if (watch_->deaths.size() > PoolWatch::deaths_kept) watch_->deaths.pop_front();
}

WorkerView PoolCore::look_at(WorkerSlot& slot, std::uint64_t now) const {
  WorkerView view;
  const TaskState* running = nullptr;
  for (std::size_t i = 0; slot.segment && i < slot.in_flight.size(); ++i) {
    const auto state = slot.in_flight[i].header->state.load(std::memory_order_relaxed);
    if (state == call_state::begun || state == call_state::condemned)
      running = slot.in_flight[i].task;
    else if (state == call_state::queued)
      ++view.handed;
    else if (state == call_state::done)
      ++view.untaken;
  }
  view.state = state_of(slot, running != nullptr);
  if (running == nullptr) return view;
  view.runs = true;
  if (running->options && !running->options->name.empty())
    view.task_name = running->options->name;
  else
    view.task_code = running->function != 0 ? running->function : running->entry;
  const SegmentHeader& header = slot.header();
  if (header.begun_attempt.load(std::memory_order_relaxed) == running->attempt()) {
    const auto begun = header.begun_ticks.load(std::memory_order_relaxed);
    view.running_nanoseconds =
        static_cast<std::uint64_t>(static_cast<double>(now - std::min(begun, now)) / ticks_a_nanosecond_);
  }
  return view;
}

/// Under the lock.
void PoolCore::look_at_all(PoolView& view, std::vector<std::optional<SourceId>>& sources) {
  view.stats = count_all(sources);
  const auto now = ticks();
  for (const auto& slot : slots_) {
    view.workers.push_back(look_at(*slot, now));
    view.stats.running -= std::min(view.stats.running, view.workers.back().untaken);
    if (!view.workers.back().runs) view.stats.per_worker[view.workers.size() - 1].running_task = 0;
  }
  view.queue_time = watch_->queue_time;
  view.run_time = watch_->run_time;
  for (const auto& name : watch_->names.all()) {
    view.names.push_back({name.given, name.code, name.ended, name.failed, name.lost, name.run_nanoseconds,
                          name.queue_nanoseconds, name.longest_nanoseconds});
  }
  view.deaths.assign(watch_->deaths.begin(), watch_->deaths.end());
  view.restarts_by_kind = watch_->restarts_by_kind;
  view.trace_lost = watch_->trace_lost + (watch_->feed ? watch_->feed->lost() : 0);
  view.broken = broken_ ? broken_text_ : std::string{};
  view.closed = closed_;
  view.since = watch_->since;
}

PoolView PoolCore::look_inside() {
  PoolView view;
  view.pid = owner_pid_;
  view.serial = context_.id().serial();
  view.start_method = to_string(context_.start_method());
  view.program = executable_path();
  view.level = to_string(collector_.level());
  view.max_workers = max_workers();
  view.now = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  std::vector<std::optional<SourceId>> sources;
  {
    Lock lock{mutex_};
    watch_->until = ticks() + static_cast<std::uint64_t>(ticks_of(PoolWatch::patience_nanoseconds));
    watching_ = true;
    (void)pump();  // the program may wait for none of its results, and they are done
    look_at_all(view, sources);
    flush_afterwards(lock);
  }
  add_log_and_memory(view.stats, sources);
  const auto name_of = [this](CodeReference code) {
    const auto [at, fresh] = watch_->known_code.try_emplace(code);
    if (fresh) at->second = name_of_code(code);
    return at->second;
  };
  for (std::size_t i = 0; i < view.workers.size(); ++i) {
    WorkerView& worker = view.workers[i];
    if (worker.task_code != 0) worker.task_name = name_of(worker.task_code);
    if (view.stats.per_worker[i].pid != 0)
      worker.cpu_nanoseconds = processor_nanoseconds(view.stats.per_worker[i].pid);
  }
  for (TaskNameView& name : view.names) {
    if (name.code != 0) name.name = name_of(name.code);
  }
  return view;
}

/// Sends what the pool is like, a JSON object a line, again and again until the visitor goes; once where the
/// request says so.
void PoolCore::answer_pool(ViewGate& gate, const TailRequest& request, TailVisit& visit) {
  std::chrono::nanoseconds every = std::chrono::seconds{1};
  bool once = false;
  for (const auto& field : request.others) {
    if (const auto* const number = std::get_if<std::int64_t>(&field.value);
        field.key == "every_ms" && number != nullptr)
      every = std::chrono::milliseconds{std::clamp<std::int64_t>(*number, 100, 3'600'000)};
    if (const auto* const flag = std::get_if<bool>(&field.value); field.key == "once" && flag != nullptr)
      once = *flag;
  }
  TextBuffer out;
  for (;;) {
    out.clear();
    {
      const std::scoped_lock open{gate.lock};
      if (gate.pool == nullptr) break;
      append_view_json(gate.pool->look_inside(), out);
    }
    out.push_back('\n');
    if (!visit.send(out.view())) return;
    if (once) return;
    if (!visit.pause(std::chrono::steady_clock::now() + every)) break;
  }
  static_cast<void>(visit.send(std::string{tail_answer::end} + "\n"));
}

void PoolCore::answer_metrics(ViewGate& gate, TailVisit& visit) {
  TextBuffer out;
  {
    const std::scoped_lock open{gate.lock};
    if (gate.pool == nullptr) return;
    append_view_metrics(gate.pool->look_inside(), out);
  }
  out.append(std::string{tail_answer::done} + "\n");
  static_cast<void>(visit.send(out.view()));
}

std::string PoolCore::metrics_text() {
  const std::scoped_lock open{view_gate_->lock};
  TextBuffer out;
  append_view_metrics(look_inside(), out);
  out.append("# EOF\n");
  return std::string{out.view()};
}

void PoolCore::trace(const std::string& path, std::uint64_t max_bytes) {
  require_here("executor");
  const std::scoped_lock files{watch_->files_lock};
  end_trace();
  if (path.empty()) return;
  auto feed = std::make_shared<TraceFeed>();
  watch_->trace = std::make_unique<TraceWriter>(
      TraceWriter::Setup{.path = path,
                         .max_bytes = max_bytes,
                         .pid = owner_pid_,
                         .program = executable_path(),
                         .ticks_a_nanosecond = ticks_a_nanosecond_,
                         .feed = feed,
                         .records = collector_.records(false),
                         .name_of_code = [this](CodeReference code) { return name_of_code(code); }});
  const std::scoped_lock lock{mutex_};
  watch_->feed = std::move(feed);
  watching_ = true;
}

/// Under `files_lock`.
void PoolCore::end_trace() noexcept {
  if (!watch_->trace) return;
  {
    Lock lock{mutex_};
    (void)pump();
    for (const auto& slot : slots_) {
      if (!slot->segment || slot->in_flight.empty()) continue;
      const InFlight& first = slot->in_flight.front();
      if (first.header->state.load(std::memory_order_relaxed) == call_state::begun)
        watch_run_without_end(*slot, *first.task, false);
    }
    watch_->feed.reset();
    flush_afterwards(lock);
  }
  const auto lost = watch_->trace->end();
  watch_->trace.reset();
  const std::scoped_lock lock{mutex_};
  watch_->trace_lost += lost;
}

void PoolCore::begin_watching() {
  watch_->since = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  if (!options_.trace.empty())
    trace(options_.trace, static_cast<std::uint64_t>(options_.trace_bytes.value()));
  if (!options_.metrics_file.empty()) {
    watching_ = watch_->always = true;
    watch_->metrics_file = std::make_unique<MetricsFile>(options_.metrics_file, options_.metrics_interval,
                                                         [this] { return metrics_text(); });
  }
  const std::scoped_lock open{view_gate_->lock};
  view_gate_->pool = this;
  collector_.offer_at_tail("pool", [gate = view_gate_](const TailRequest& request, TailVisit& visit) {
    answer_pool(*gate, request, visit);
  });
  collector_.offer_at_tail(
      "metrics", [gate = view_gate_](const TailRequest&, TailVisit& visit) { answer_metrics(*gate, visit); });
}

/// The workers have gone. All that was logged is in the log.
void PoolCore::end_watching() noexcept {
  {
    const std::scoped_lock files{watch_->files_lock};
    end_trace();
    watch_->metrics_file.reset();
  }
  const std::scoped_lock open{view_gate_->lock};
  view_gate_->pool = nullptr;
}

}  // namespace kindred::internal
