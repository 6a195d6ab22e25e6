#include "pool/pool_window.hpp"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/tail_request.hpp"
#include "kindred/internal/tail_visit.hpp"
#include "task/task_facts.hpp"

namespace kindred::internal {
namespace {

std::string state_of(const WorkerSlot& slot, bool runs) {
  if (slot.state == WorkerSlot::State::empty) return "empty";
  if (slot.state == WorkerSlot::State::dying) return "dying";
  // A new worker may run a task before its message that it is ready was read.
  if (runs) return "running";
  if (slot.state == WorkerSlot::State::starting) return "starting";
  if (slot.state == WorkerSlot::State::leaving) return "leaving";
  return slot.ready ? "idle" : "initializing";
}

}  // namespace

PoolStats PoolWindow::count_all(Locked locked, Sources& sources) const {
  PoolStats all = parts_.completion.totals(locked);
  all.pending = parts_.pending.size();
  const auto nanoseconds = [](std::uint64_t count) {
    return std::chrono::nanoseconds{
        static_cast<std::int64_t>(static_cast<double>(count) / ticks_per_nanosecond())};
  };
  for (const WorkerSlot& slot : parts_.slots.all(locked)) {
    WorkerStats one = slot.stats;
    one.incarnation = slot.incarnation;
    one.pid = slot.worker.process.pid();
    one.run_time = nanoseconds(slot.run_ticks);
    one.queue_time = nanoseconds(slot.queue_ticks);
    sources.push_back(slot.segment ? std::optional{slot.log_source} : std::nullopt);
    for (std::size_t i = 0; slot.segment && i < slot.in_flight.size(); ++i) {
      const bool queued =
          slot.in_flight[i].header->state.load(std::memory_order_relaxed) == call_state::queued;
      (queued ? all.pending : all.running) += 1;
      if (!queued) one.running_task = slot.in_flight[i].task->id;
    }
    all.per_worker.push_back(one);
  }
  all.failed = all.submitted - all.done - all.lost - all.cancelled - parts_.completion.outstanding(locked);
  all.workers = parts_.slots.live(locked);
  all.run_time = nanoseconds(parts_.load.sums(locked).run);
  all.queue_time = nanoseconds(parts_.load.sums(locked).queue);
  all.supervisor_wakeups = parts_.supervisor.wakeups(locked);
  return all;
}

void PoolWindow::add_log_and_memory(PoolStats& all, const Sources& sources) const {
  for (std::size_t i = 0; i < all.per_worker.size(); ++i) {
    WorkerStats& one = all.per_worker[i];
    if (one.pid != 0) all.rss_bytes += one.rss_bytes = resident_bytes(one.pid);
    if (!sources[i]) continue;
    const LogSourceStats log = parts_.collector.source_stats(*sources[i]);
    one.records += log.records;
    one.dropped_records += log.dropped;
  }
  all.log = parts_.collector.stats();
}

WorkerView PoolWindow::look_at(Locked, const WorkerSlot& slot, std::uint64_t now) const {
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
        static_cast<std::uint64_t>(static_cast<double>(now - std::min(begun, now)) / parts_.load.ticks_of(1));
  }
  return view;
}

void PoolWindow::look_at_all(Locked locked, PoolView& view, Sources& sources) {
  view.stats = count_all(locked, sources);
  const auto now = ticks();
  for (const WorkerSlot& slot : parts_.slots.all(locked)) {
    view.workers.push_back(look_at(locked, slot, now));
    view.stats.running -= std::min(view.stats.running, view.workers.back().untaken);
    if (!view.workers.back().runs) view.stats.per_worker[view.workers.size() - 1].running_task = 0;
  }
  view.queue_time = parts_.watch.queue_time;
  view.run_time = parts_.watch.run_time;
  for (const auto& name : parts_.watch.names.all()) {
    view.names.push_back({name.given, name.code, name.ended, name.failed, name.lost, name.run_nanoseconds,
                          name.queue_nanoseconds, name.longest_nanoseconds});
  }
  view.deaths.assign(parts_.watch.deaths.begin(), parts_.watch.deaths.end());
  view.restarts_by_kind = parts_.watch.restarts_by_kind;
  view.trace_lost = parts_.watch.trace_lost + (parts_.watch.feed ? parts_.watch.feed->lost() : 0);
  view.broken = parts_.phase.broken ? parts_.phase.broken_text : std::string{};
  view.closed = parts_.phase.closed;
  view.since = parts_.watch.since;
}

PoolStats PoolWindow::stats() {
  PoolStats all;
  Sources sources;
  {
    PoolGuard guard{parts_.mutex};
    (void)parts_.dispatcher.collect_results(guard);
    all = count_all(guard, sources);
  }
  add_log_and_memory(all, sources);
  return all;
}

PoolView PoolWindow::look_inside() {
  PoolView view;
  view.pid = parts_.parent_pid;
  view.serial = parts_.context.id().serial();
  view.start_method = to_string(parts_.context.start_method());
  view.program = executable_path();
  view.level = to_string(parts_.collector.level());
  view.max_workers = parts_.slots.max();
  view.now = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  Sources sources;
  {
    PoolGuard guard{parts_.mutex};
    parts_.watch.until =
        ticks() + static_cast<std::uint64_t>(parts_.load.ticks_of(PoolWatch::patience_nanoseconds));
    parts_.notes.count_results(guard);
    (void)parts_.dispatcher.collect_results(
        guard);  // the program may wait for none of its results, and they are done
    look_at_all(guard, view, sources);
  }
  add_log_and_memory(view.stats, sources);
  const auto name_of = [this](CodeReference code) {
    const auto [at, fresh] = parts_.watch.known_code.try_emplace(code);
    if (fresh) at->second = internal::name_of_code(parts_.context.code(), code);
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
void PoolWindow::answer_pool(Gate& gate, const TailRequest& request, TailVisit& visit) {
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
      if (gate.window == nullptr) break;
      append_view_json(gate.window->look_inside(), out);
    }
    out.push_back('\n');
    if (!visit.send(out.view())) return;
    if (once) return;
    if (!visit.pause(std::chrono::steady_clock::now() + every)) break;
  }
  static_cast<void>(visit.send(std::string{tail_answer::end} + "\n"));
}

void PoolWindow::answer_metrics(Gate& gate, TailVisit& visit) {
  TextBuffer out;
  {
    const std::scoped_lock open{gate.lock};
    if (gate.window == nullptr) return;
    append_view_metrics(gate.window->look_inside(), out);
  }
  out.append(std::string{tail_answer::done} + "\n");
  static_cast<void>(visit.send(out.view()));
}

std::string PoolWindow::metrics_text() {
  const std::scoped_lock open{gate_->lock};
  TextBuffer out;
  append_view_metrics(look_inside(), out);
  out.append("# EOF\n");
  return std::string{out.view()};
}

void PoolWindow::trace(const std::string& path, std::uint64_t max_bytes) {
  const std::scoped_lock files{parts_.watch.files_lock};
  end_trace();
  if (path.empty()) return;
  auto feed = std::make_shared<TraceFeed>();
  parts_.watch.trace = std::make_unique<TraceWriter>(
      TraceWriter::Setup{.path = path,
                         .max_bytes = max_bytes,
                         .pid = parts_.parent_pid,
                         .program = executable_path(),
                         .ticks_a_nanosecond = parts_.load.ticks_of(1),
                         .feed = feed,
                         .records = parts_.collector.records(false),
                         .name_of_code = [this](CodeReference code) {
                           return internal::name_of_code(parts_.context.code(), code);
                         }});
  PoolGuard guard{parts_.mutex};
  parts_.notes.trace_to(guard, std::move(feed));
}

/// With `files_lock`.
void PoolWindow::end_trace() noexcept {
  if (!parts_.watch.trace) return;
  {
    PoolGuard guard{parts_.mutex};
    (void)parts_.dispatcher.collect_results(guard);
    for (const WorkerSlot& slot : parts_.slots.all(guard)) {
      if (!slot.has_calls()) continue;
      const InFlight& first = slot.in_flight.front();
      if (first.header->state.load(std::memory_order_relaxed) == call_state::begun)
        parts_.notes.note_run_without_end(guard, slot, *first.task, false);
    }
    parts_.notes.end_trace(guard);
  }
  const auto lost = parts_.watch.trace->end();
  parts_.watch.trace.reset();
  PoolGuard guard{parts_.mutex};
  parts_.watch.trace_lost += lost;
}

void PoolWindow::begin() {
  parts_.watch.since =
      std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  if (!parts_.options.trace.empty())
    trace(parts_.options.trace, static_cast<std::uint64_t>(parts_.options.trace_bytes.value()));
  if (!parts_.options.metrics_file.empty()) {
    parts_.watch.always = true;
    {
      PoolGuard guard{parts_.mutex};
      parts_.notes.count_results(guard);
    }
    parts_.watch.metrics_file = std::make_unique<MetricsFile>(
        parts_.options.metrics_file, parts_.options.metrics_interval, [this] { return metrics_text(); });
  }
  const std::scoped_lock open{gate_->lock};
  gate_->window = this;
  parts_.collector.offer_at_tail("pool", [gate = gate_](const TailRequest& request, TailVisit& visit) {
    answer_pool(*gate, request, visit);
  });
  parts_.collector.offer_at_tail(
      "metrics", [gate = gate_](const TailRequest&, TailVisit& visit) { answer_metrics(*gate, visit); });
}

/// The workers have gone. All that was logged is in the log.
void PoolWindow::end() noexcept {
  {
    const std::scoped_lock files{parts_.watch.files_lock};
    end_trace();
    parts_.watch.metrics_file.reset();
  }
  const std::scoped_lock open{gate_->lock};
  gate_->window = nullptr;
}

}  // namespace kindred::internal
