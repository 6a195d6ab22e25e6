#include "kindred/internal/collector.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "collect/collector_state.hpp"
#include "front/logger_access.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/service_thread.hpp"
#include "kindred/sink_options.hpp"

namespace kindred::internal {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto quiet_before_sleep = 10ms;  ///< without a record, until the thread sleeps without a timeout
constexpr std::chrono::microseconds first_nap = 200us;
constexpr std::chrono::microseconds longest_nap = 1ms;
constexpr std::size_t busy_round = 256;  ///< records: after a round of this many there is no nap
constexpr auto busy_flush = 100ms;       ///< how long sinks may buffer while there is no pause
constexpr auto finish_patience = 1ms;    ///< how long a dead worker's records wait for the living

LevelSettings settings_of(const LogOptions& options) {
  LevelSettings settings;
  for (const char* const variable : {"KINDRED_LOG_LEVEL", "SPDLOG_LEVEL"}) {
    if (const char* const text = std::getenv(variable); text != nullptr && *text != '\0') {
      settings = parse_level_settings(variable, text);
      break;
    }
  }
  if (options.level) settings = {*options.level, {}};
  return settings;
}

}  // namespace

Collector::State::State(std::shared_ptr<ContextLife> its_life, const LogOptions& its_options)
    : life{std::move(its_life)},
      options{its_options},
      shape{its_options},
      history{std::make_shared<History>(its_options.keep_bytes)},
      levels{settings_of(its_options), its_options.flight_recorder} {}

// --- tickets

bool Collector::State::send(const std::shared_ptr<Ticket>& ticket) {
  if (!tickets.put(ticket)) return false;
  bell.ring();
  return true;
}

bool Collector::State::command(std::function<void(Drain&)> run_it) {
  auto ticket = std::make_shared<Ticket>();
  ticket->run = std::move(run_it);
  return send(ticket);
}

bool Collector::State::wait_moving(const Ticket& ticket, Deadline deadline) const {
  const auto so_far = [this] {
    return progress.load(std::memory_order_relaxed) +
           drain->counters.delivered.load(std::memory_order_relaxed) +
           drain->counters.emitted.load(std::memory_order_relaxed);
  };
  auto moved = so_far();
  auto since = Clock::now();
  for (;;) {
    auto until = since + options.flush_limit;
    const bool own = !deadline || until < *deadline;
    if (!own) until = *deadline;
    if (ticket.wait(until)) return true;
    if (!own) return false;
    const auto now = so_far();
    if (now == moved) return false;
    moved = now;
    since = Clock::now();
  }
}

void Collector::State::start() {
  if (started.load(std::memory_order_acquire)) return;
  const std::lock_guard hold{thread_lock};
  if (started.load(std::memory_order_relaxed)) return;
  if (tickets.is_closed()) return;
  try {
    thread = std::thread{[self = shared_from_this()] { self->run(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the log's collector"};
  }
  started.store(true, std::memory_order_release);
  front->collector_started();
}

void Collector::State::ring_if_sleeping() const noexcept {
  // The parent's own log area says what the collector does, as every other area does.
  auto& word = front->control().collector;
  auto expected = static_cast<std::uint32_t>(CollectorState::sleeping);
  if (word.load(std::memory_order_seq_cst) == expected &&
      word.compare_exchange_strong(expected, static_cast<std::uint32_t>(CollectorState::awake)))
    bell.ring();
}

// --- the thread

void Collector::State::take_tickets() {
  if (tickets.empty()) return;
  for (auto& ticket : tickets.take()) {
    if (ticket->kind == Ticket::Kind::command) {
      ticket->run(*drain);
      ticket->complete();
      continue;
    }
    if (ticket->kind == Ticket::Kind::finish) {
      if (Source* const source = drain->find_source(ticket->source)) source->ended = true;
    }
    ticket->accepted = ordered_ticks();
    waiting.push_back(std::move(ticket));
  }
}

/// Notes that log calls, or the program's end, wait for all that was committed until now.
void Collector::State::take_flushes() noexcept {
  if (flush_wanted_at != 0) return;
  const auto asked = front->flushes_asked();
  if (asked == flush_number) return;
  flush_number = asked;
  flush_wanted_at = ordered_ticks();
}

bool Collector::State::must_force() const noexcept {
  static const auto patience = static_cast<std::uint64_t>(
      ticks_per_nanosecond() * std::chrono::duration<double, std::nano>(finish_patience).count());
  for (const auto& ticket : waiting) {
    if (ticket->kind == Ticket::Kind::finish && ticks() - ticket->accepted > patience) return true;
  }
  return false;
}

/// Completes what the round has fulfilled. Returns whether the thread is to end.
bool Collector::State::settle(const Drain::Round& round) {
  bool flushed = false;
  bool ended = false;
  if (flush_wanted_at != 0 && round.watermark >= flush_wanted_at) {
    drain->report_quiet_drops();
    drain->sinks.flush_all();
    flushed = true;
    flush_wanted_at = 0;
    front->flushed(flush_number);
  }
  for (auto ticket = waiting.begin(); ticket != waiting.end();) {
    if (round.watermark < (*ticket)->accepted) {
      ++ticket;
      continue;
    }
    const std::shared_ptr<Ticket> fulfilled = std::move(*ticket);
    ticket = waiting.erase(ticket);
    if (fulfilled->kind == Ticket::Kind::finish) {
      const Source* const source = drain->find_source(fulfilled->source);
      if (options.flight_recorder && fulfilled->death.died && source != nullptr) {
        drain->release_flight(
            [identity = source->identity, task = fulfilled->death.task_id](const KeptRecord& kept) {
              return kept.worker == identity.worker && kept.incarnation == identity.incarnation &&
                     (kept.task_id == task || kept.task_id == 0);
            });
      }
      fulfilled->end = drain->end_source(fulfilled->source);
      levels.remove(fulfilled->source);
    }
    if (fulfilled->kind == Ticket::Kind::drain && fulfilled->run) fulfilled->run(*drain);
    if (fulfilled->kind != Ticket::Kind::drain && !flushed) {
      drain->report_quiet_drops();
      drain->sinks.flush_all();
      flushed = true;
    }
    if (fulfilled->kind == Ticket::Kind::stop) ended = true;
    progress.fetch_add(1, std::memory_order_relaxed);
    fulfilled->complete();
  }
  return ended;
}

void Collector::State::sleep_until_something(Clock::time_point quiet_since, std::chrono::microseconds& nap,
                                             bool pending) {
  const auto now = Clock::now();
  if (pending || !waiting.empty() || now - quiet_since < quiet_before_sleep) {
    drain->set_state(CollectorState::napping);
    if (tickets.empty() && front->flushes_asked() == flush_number)
      bell.wait(now + (pending || !waiting.empty() ? first_nap : nap));
    nap = std::min(nap * 2, longest_nap);
  } else {
    drain->report_quiet_drops();
    if (drain->sinks.dirty()) drain->sinks.flush();
    drain->set_state(CollectorState::sleeping);
    // Order: a thread that commits after this barrier sees `sleeping`, and rings; what was committed before
    // is seen here.
    heavy_barrier();
    if (!drain->stirred() && tickets.empty() && front->flushes_asked() == flush_number)
      bell.wait(drain->sinks.told_by());
  }
  wakeups.fetch_add(1, std::memory_order_relaxed);
}

void Collector::State::run() {
  begin_service_thread("kindred-log");
  const CollectorThread log_calls_here_go_to_stderr;
  thread_tid.store(thread_id(), std::memory_order_relaxed);
  auto quiet_since = Clock::now();
  auto flushed = quiet_since;
  auto nap = first_nap;
  unsigned held = 0;  // rounds that ended with records waiting for a thread in the middle of its own
  drain->begin();
  flush_number = front->flushes_done();
  for (;;) {
    // After a nap, drain without announcing `awake`: if little is found we nap again, and producers are
    // spared two writes to the shared word.
    if (drain->state() != CollectorState::napping) drain->set_state(CollectorState::awake);
    const Drain::Round round = drain->round(must_force(), [this] {
      take_tickets();
      take_flushes();
    });
    if (settle(round)) break;
    // Tickets, and records younger than the round, are served by the next round at once; if a
    // lane is within a record, its thread is let run first.
    if (!waiting.empty() || round.pending || flush_wanted_at != 0) {
      held = round.watermark < round.began ? held + 1 : 0;
      if (held < 16) {
        if (held != 0) yield_cpu();
        continue;
      }
    }
    if (round.records >= busy_round) {
      drain->set_state(CollectorState::awake);
      quiet_since = Clock::now();
      nap = first_nap;
      if (quiet_since - flushed > busy_flush) {
        drain->sinks.flush();
        flushed = Clock::now();
      }
      yield_cpu();  // on few cores the producers are to have their turn, so that the next round is worth it
      continue;
    }
    if (drain->sinks.dirty()) {
      drain->sinks.flush();
      flushed = Clock::now();
      progress.fetch_add(1, std::memory_order_relaxed);
    }
    if (round.records != 0) {
      quiet_since = Clock::now();
      nap = first_nap;
    }
    sleep_until_something(quiet_since, nap, round.pending);
  }
  end_thread();
}

/// What is left when the thread ends: no thread waits any longer, and what is lost is told on stderr.
void Collector::State::end_thread() {
  drain->sinks.remove_all();
  history->close();
  front->flushed(front->flushes_asked());
  thread_tid.store(0, std::memory_order_relaxed);
  for (const auto& ticket : tickets.close()) {
    if (ticket->kind == Ticket::Kind::command) ticket->run(*drain);
    ticket->complete();
  }
  for (const auto& ticket : waiting) ticket->complete();
  waiting.clear();
  std::vector<EmittedRecord> too_late;
  drain->desk.take(too_late);
  for (const EmittedRecord& emitted : too_late) {
    if (emitted.record.level >= Level::warn) write_to_stderr(emitted.record);
  }
}

// --- the collector

Collector::Collector(CollectorKey, std::shared_ptr<ContextLife> life, LogOptions options,
                     CollectorHooks hooks) {
  options.validate();
  state_ = std::make_shared<State>(std::move(life), options);
  State& state = *state_;
  const auto start = [](void* its_state) noexcept {
    try {
      static_cast<State*>(its_state)->start();
    } catch (const std::exception&) {
      // There is no caller to tell; the next record tries again.
    }
  };
  state.drain = std::make_unique<Drain>(options, std::move(hooks), state.history);
  state.drain->levels = settings_of(options);
  if (options.flight_recorder) state.drain->set_flight(options.flight_bytes);
  const SourceId parent{state.last_id.fetch_add(1) + 1};
  auto counters = std::make_shared<SourceCounters>();
  state.front =
      &open_local_front(options, state.life.get(), state.bell, {.start = start, .collector = &state});
  flush_at_exit();
  if (options.last_words) speak_last_words();
  state.logger = LoggerAccess::bound(*state.front, state.life);
  state.levels.add({parent, -1, &state.front->control(), &state.front->named_levels(), nullptr, counters});
  if (options.flight_recorder) {
    state.levels.on_change([&state](const LevelSettings& settings, const LevelBoard::WorkerLevels& workers) {
      state.command([settings, workers](Drain& drain) {
        drain.levels = settings;
        drain.worker_levels = workers;
      });
    });
  }
  auto source =
      std::make_unique<Source>(parent, SourceIdentity{.worker = -1, .incarnation = 0, .pid = process_id()},
                               state.front->area(), state.shape, nullptr, std::move(counters));
  source->added_at = ticks();
  state.drain->add_source(std::move(source));
}

Collector::~Collector() { shutdown(Clock::now() + state_->options.flush_limit); }

SourceId Collector::add_source(std::span<std::byte> area, const SourceIdentity& identity,
                               std::shared_ptr<const void> keep_alive) {
  State& state = *state_;
  if (area.size() < state.shape.total_bytes()) {
    throw UsageError{fmt::format("a log area has {} bytes, and {} are needed. Allot log_area_bytes(options).",
                                 area.size(), state.shape.total_bytes())};
  }
  format_log_area(area, state.options);
  const SourceId id{state.last_id.fetch_add(1) + 1};
  auto counters = std::make_shared<SourceCounters>();
  auto source = std::make_shared<std::unique_ptr<Source>>(
      std::make_unique<Source>(id, identity, area, state.shape, keep_alive, counters));
  (*source)->added_at = ticks();
  auto* const named =
      reinterpret_cast<NamedLevels*>(area.data() + LogAreaShape{state.options}.named_offset());
  state.levels.add({id, identity.worker, reinterpret_cast<LogControl*>(area.data()), named,
                    std::move(keep_alive), std::move(counters)});
  state.start();
  state.command([source](Drain& drain) { drain.add_source(std::move(*source)); });
  return id;
}

void Collector::set_source_pid(SourceId id, std::uint32_t pid) {
  state_->command([id, pid](Drain& drain) {
    if (Source* const source = drain.find_source(id)) source->set_pid(pid);
  });
}

SourceEnd Collector::finish_source(SourceId id, Deadline deadline, Death death) {
  State& state = *state_;
  if (state.on_own_thread()) {
    throw UsageError{
        "finish_source was called on the log's own thread, which it would wait for. Call it from another one."};
  }
  auto ticket = std::make_shared<Ticket>();
  ticket->kind = Ticket::Kind::finish;
  ticket->source = id;
  ticket->death = death;
  if (!state.send(ticket)) return {};
  if (ticket->wait(deadline)) return std::move(ticket->end);
  SourceEnd end;
  end.complete = false;
  if (const auto counters = state.levels.counters_of(id)) {
    end.records = counters->records.load(std::memory_order_relaxed);
    end.dropped = counters->dropped.load(std::memory_order_relaxed);
  }
  return end;
}

LogSourceStats Collector::source_stats(SourceId id) const {
  const auto counters = state_->levels.counters_of(id);
  if (!counters) return {};
  return {.records = counters->records.load(std::memory_order_relaxed),
          .dropped = counters->dropped.load(std::memory_order_relaxed),
          .torn = counters->torn.load(std::memory_order_relaxed),
          .late = counters->late.load(std::memory_order_relaxed),
          .bytes = counters->bytes.load(std::memory_order_relaxed)};
}

void Collector::look_again() noexcept { state_->ring_if_sleeping(); }
int Collector::bell_fd() const noexcept { return state_->bell.fd(); }
StartMethod Collector::start_method() const noexcept { return state_->life->id.start_method(); }

void Collector::emit(LogRecord&& record, std::uint64_t at) { state_->emit(std::move(record), at); }

void Collector::State::emit(LogRecord&& record, std::uint64_t at) {
  if (tickets.is_closed()) {
    if (record.time.time_since_epoch().count() == 0)
      record.time = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
    if (record.level >= Level::warn) write_to_stderr(record);
    return;
  }
  drain->desk.put(std::move(record), at);
  start();
  ring_if_sleeping();
}

const Logger& Collector::logger() const noexcept { return state_->logger; }

void Collector::set_level(Level level) { state_->levels.set(level); }
void Collector::set_level(std::string_view logger, Level level) { state_->levels.set(logger, level); }
void Collector::set_level(int worker, Level level) { state_->levels.set(worker, level); }
Level Collector::level() const noexcept { return state_->levels.level(); }

SinkId Collector::add_sink(std::unique_ptr<Sink> sink, SinkOptions options) {
  State& state = *state_;
  const SinkId id{state.last_id.fetch_add(1) + 1};
  struct Held {
    std::unique_ptr<Sink> sink;
    SinkOptions options;
  };
  auto held = std::make_shared<Held>(Held{std::move(sink), std::move(options)});
  state.start();
  if (!state.command([id, held](Drain& drain) {
        drain.sinks.add(id, std::move(held->sink), std::move(held->options));
      })) {
    throw UsageError{"a sink was added to a log that is shut down. Add sinks while the executor lives."};
  }
  return id;
}

bool Collector::remove_sink(SinkId id) {
  State& state = *state_;
  if (state.on_own_thread()) {
    // The sink may be the one that is running now: it gets no further record, and goes when it has returned.
    state.drain->sinks.retire(id);
    return state.command([id](Drain& drain) { drain.sinks.remove(id); });
  }
  if (!state.started.load(std::memory_order_acquire)) return false;
  flush();
  auto ticket = std::make_shared<Ticket>();
  auto found = std::make_shared<std::atomic<bool>>(false);
  ticket->run = [id, found](Drain& drain) { found->store(drain.sinks.remove(id)); };
  return state.send(ticket) && state.wait_moving(*ticket, {}) && found->load();
}

void Collector::remove_sinks() {
  State& state = *state_;
  if (state.on_own_thread()) {
    state.drain->sinks.retire_all();
    state.command([](Drain& drain) { drain.sinks.remove_all(); });
    return;
  }
  if (!state.started.load(std::memory_order_acquire)) return;
  flush();
  auto ticket = std::make_shared<Ticket>();
  ticket->run = [](Drain& drain) { drain.sinks.remove_all(); };
  if (state.send(ticket)) state.wait_moving(*ticket, {});
}

void Collector::on_record(std::function<void(LogRecord&)> fn) {
  state_->start();
  state_->command([held = std::move(fn)](Drain& drain) { drain.on_record = held; });
}

bool Collector::flush(Deadline deadline) {
  State& state = *state_;
  if (state.on_own_thread()) {
    throw UsageError{
        "flush was called from a sink or an on_record function, on the log's own thread: it would wait for itself. Call it from "
        "another thread."};
  }
  if (!state.started.load(std::memory_order_acquire)) return true;
  auto ticket = std::make_shared<Ticket>();
  ticket->kind = Ticket::Kind::flush;
  if (!state.send(ticket)) return true;
  return state.wait_moving(*ticket, deadline);
}

std::vector<LogRecord> Collector::records_of_task(std::uint64_t task_id) {
  State& state = *state_;
  if (state.started.load(std::memory_order_acquire) && !state.on_own_thread()) {
    auto ticket = std::make_shared<Ticket>();
    ticket->kind = Ticket::Kind::drain;
    if (state.send(ticket)) state.wait_moving(*ticket, {});
  }
  std::vector<std::byte> bytes;
  state.history->copy_task(task_id, bytes);
  std::vector<LogRecord> records;
  TextBuffer scratch;
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint32_t size = 0;
    std::memcpy(&size, bytes.data() + at, sizeof size);
    LogRecord record;
    if (read_kept({bytes.data() + at, size}, record, scratch)) records.push_back(std::move(record));
    at += size;
  }
  return records;
}

void Collector::release_flight(std::uint64_t task_id) {
  if (!state_->options.flight_recorder) return;
  // As a flush would: what the task has logged until now is to be in the recorder before it is searched.
  auto ticket = std::make_shared<Ticket>();
  ticket->kind = Ticket::Kind::drain;
  ticket->run = [task_id](Drain& drain) {
    drain.release_flight([task_id](const KeptRecord& kept) { return kept.task_id == task_id; });
  };
  state_->send(ticket);
}

LogStats Collector::stats() const {
  const State& state = *state_;
  const DrainCounters& counters = state.drain->counters;
  LogStats stats;
  stats.committed = counters.committed.load(std::memory_order_relaxed);
  stats.delivered = counters.delivered.load(std::memory_order_relaxed);
  stats.held_back = counters.held_back.load(std::memory_order_relaxed);
  stats.emitted = counters.emitted.load(std::memory_order_relaxed);
  stats.dropped = counters.dropped.load(std::memory_order_relaxed);
  stats.torn = counters.torn.load(std::memory_order_relaxed);
  stats.late = counters.late.load(std::memory_order_relaxed);
  stats.corrupt_sources = counters.corrupt_sources.load(std::memory_order_relaxed);
  stats.unreadable = counters.unreadable.load(std::memory_order_relaxed);
  stats.bytes = counters.bytes.load(std::memory_order_relaxed);
  stats.wakeups = state.wakeups.load(std::memory_order_relaxed);
  state.drain->sinks.append_stats(stats.sinks);
  return stats;
}

void Collector::offer_at_tail(std::string word, TailAnswer answer) {
  state_->tail_answers.emplace_back(std::move(word), std::move(answer));
}

int Collector::offer_tail() noexcept {
  State& state = *state_;
  if (state.tail != nullptr) return state.tail->fd();
  if (!state.options.tail) return -1;
  try {
    state.tail = std::make_unique<TailServer>(state.life->id, state.history, [&state] {
      return state.levels.targets() - 1;  // but for the parent
    });
    // Weak, because a visitor's thread may outlive the log where a sink hangs.
    state.tail->offer(std::string{TailRequest::set_level},
                      [weak = state.weak_from_this()](const TailRequest& request, TailVisit& visit) {
                        if (const auto its_state = weak.lock()) its_state->answer_set_level(request, visit);
                      });
    for (auto& [word, answer] : state.tail_answers) state.tail->offer(word, std::move(answer));
    state.tail_answers.clear();
    return state.tail->fd();
  } catch (const std::exception& error) {
    // A convenience: what the program is for does not depend on it.
    try {
      LogRecord record;
      record.level = Level::debug;
      record.message = fmt::format("this log is not offered to kindred-tail: {}", error.what());
      record.origin = Origin::lifecycle;
      if (level() <= Level::debug) emit(std::move(record));
    } catch (const std::exception&) {}
    return -1;
  }
}

bool Collector::answer_tail() noexcept {
  try {
    LogRecord record;
    record.level = Level::warn;
    record.message = state_->tail->answer();
    record.origin = Origin::lifecycle;
    if (!record.message.empty()) emit(std::move(record));
  } catch (const std::exception&) {
    // No memory or no thread for a guest: he sees his connection end.
  }
  return state_->tail->offered();
}

void Collector::withdraw_tail() noexcept { state_->tail->withdraw(); }

bool Collector::shutdown(Deadline deadline) {
  State& state = *state_;
  {
    const std::lock_guard hold{state.thread_lock};
    if (std::exchange(state.shut, true)) return true;
  }
  const struct EndTails {
    State& state;
    ~EndTails() {
      if (state.tail != nullptr) state.tail->end(!state.on_own_thread());
    }
  } when_all_is_delivered{state};
  close_local_front(*state.front, 100ms);
  if (!state.started.load(std::memory_order_acquire)) {
    (void)state.tickets.close();
    state.history->close();
    keep_local_front(*state.front);
    return true;
  }
  auto ticket = std::make_shared<Ticket>();
  ticket->kind = Ticket::Kind::stop;
  state.send(ticket);
  if (state.on_own_thread()) {
    state.thread.detach();  // it ends after the record at hand
    return true;
  }
  if (ticket->wait(deadline)) {
    state.thread.join();
    keep_local_front(*state.front);
    return true;
  }
  state.thread.detach();
  write_raw_to_stderr(fmt::format(
      "kindred: the log of {} was not delivered to its end: a sink took nothing until the deadline. {} records were "
      "delivered; those behind them are lost unless the sink goes on while the program runs.",
      to_string(state.life->id), state.drain->counters.delivered.load(std::memory_order_relaxed)));
  return false;
}

}  // namespace kindred::internal
