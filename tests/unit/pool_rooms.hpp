#pragma once

// The rooms of a pool without a process: a worker is a segment whose other end the test plays, the supervisor
// is a list of what it was asked for, and time is what the test says.

#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "dispatch/dispatcher.hpp"
#include "dispatch/load.hpp"
#include "dispatch/result_intake.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/message_socket.hpp"
#include "kindred/internal/segment.hpp"
#include "link/bells.hpp"
#include "link/call_writer.hpp"
#include "link/lifecycle_log.hpp"
#include "link/memory_blocks.hpp"
#include "link/worker_control.hpp"
#include "link/worker_slots.hpp"
#include "task/backpressure.hpp"
#include "task/completion.hpp"
#include "task/pending_tasks.hpp"
#include "task/pool_clock.hpp"
#include "task/pool_guard.hpp"
#include "task/task_store.hpp"
#include "watch/watch_notes.hpp"

namespace kindred::test {

using namespace kindred::internal;
using namespace std::chrono_literals;
using TaskOutcome = kindred::internal::Outcome;  // not that of a map's item
using SteadyTime = std::chrono::steady_clock::time_point;

[[nodiscard]] inline ResultHeader result_of(std::uint64_t task_id, ResultKind kind = ResultKind::value,
                                            std::uint16_t flags = 0) {
  ResultHeader result{};
  result.task_id = task_id;
  result.kind = kind;
  result.flags = flags;
  return result;
}

/// Notes what the rooms set going above them.
struct NotedEvents final : PoolEvents {
  void wake_leader(Locked) noexcept override { ++leader_wakes; }
  void wake_followers(Locked, const FutureState& state) noexcept override { woken.push_back(&state); }
  void all_ended(Locked) noexcept override { ++ends; }
  void wake_supervisor(Locked) override { ++supervisor_wakes; }
  void wake_supervisor_at(Locked, Time at) override { looks.push_back(at); }
  void end_queue_limit(Locked locked, TaskState& task) noexcept override {
    if (on_end_queue_limit) on_end_queue_limit(locked, task);
  }
  void look_at_log(Locked) noexcept override { ++log_looks; }

  int leader_wakes = 0;
  std::vector<const FutureState*> woken;
  int ends = 0;
  int supervisor_wakes = 0;
  std::vector<Time> looks;
  std::function<void(Locked, TaskState&)> on_end_queue_limit;
  int log_looks = 0;
};

/// A worker's end of its segment and socket, played by the test: it begins calls and writes results into the
/// rings, as a worker does.
class WorkerEnd {
 public:
  WorkerEnd(std::shared_ptr<Segment> segment, MessageSocket socket)
      : segment_{std::move(segment)},
        socket_{std::move(socket)},
        calls_{segment_->call_room(), header().calls},
        results_{segment_->result_room(), header().results} {}

  [[nodiscard]] const MessageSocket& socket() const noexcept { return socket_; }
  void close_socket() noexcept { socket_.close(); }
  /// Sends a message to the parent.
  void say(WorkerMessage kind, const std::string& rest = {}) const {
    std::string message(sizeof kind, '\0');
    std::memcpy(message.data(), &kind, sizeof kind);
    message += rest;
    REQUIRE(socket_.send(std::as_bytes(std::span{message.data(), message.size()})) ==
            MessageSocket::Sent::yes);
  }
  /// Begins the next call that was not revoked, and returns its task's id; 0: there is none.
  std::uint64_t begin() {
    for (;;) {
      const auto message = calls_.next();
      if (message.empty()) return 0;
      call_ = reinterpret_cast<CallHeader*>(const_cast<std::byte*>(message.data()));
      std::uint32_t expected = call_state::queued;
      if (!call_->state.compare_exchange_strong(expected, call_state::begun)) {
        calls_.release();
        continue;
      }
      header().begun_ticks = begun_ticks_ = ticks();
      header().begun_attempt = attempt_id(call_->task_id, call_->attempt);
      return call_->task_id;
    }
  }
  /// Ends the call that was begun, with these bytes for a value. `ran`: ticks.
  void end(const std::string& value, std::uint64_t ran = 1'000) {
    const std::uint64_t task_id = call_->task_id;
    call_->state = call_state::done;
    ResultHeader result = result_of(task_id);
    result.begun_ticks = begun_ticks_;
    result.ended_ticks = begun_ticks_ + ran;
    result.value_bytes = static_cast<std::uint32_t>(value.size());
    write(result, value);
    header().begun_attempt = 0;
    call_ = nullptr;
    calls_.release();
  }
  /// Ends the call that was begun, with an exception.
  void fail(const std::exception_ptr& thrown) {
    std::vector<std::byte> bytes(4096);
    Encoder encoder{ContextId{}, bytes, nullptr, nullptr};
    encode_exception(encoder, thrown, TaskPhase::running);
    ResultHeader result = result_of(call_->task_id, ResultKind::failure);
    result.begun_ticks = begun_ticks_;
    result.ended_ticks = ticks();
    result.value_bytes = static_cast<std::uint32_t>(encoder.size());
    call_->state = call_state::done;
    write(result, {reinterpret_cast<const char*>(bytes.data()), encoder.size()});
    header().begun_attempt = 0;
    call_ = nullptr;
    calls_.release();
  }
  /// Writes any result.
  void write(ResultHeader result, const std::string& value) {
    const auto space = results_.reserve(sizeof result + round_to_ring(value.size()));
    REQUIRE(!space.empty());
    std::uint32_t size = 0;
    std::memcpy(&size, space.data(), sizeof size);  // the ring's own
    result.size = size;
    std::memcpy(space.data(), &result, sizeof result);
    if (!value.empty()) std::memcpy(space.data() + sizeof result, value.data(), value.size());
    results_.publish(sizeof result + round_to_ring(value.size()));
  }
  /// Is there a call that was begun and not ended?
  [[nodiscard]] bool runs() const noexcept { return call_ != nullptr; }
  /// Says that the call which was begun has run for this time.
  void run_for(std::chrono::nanoseconds time) noexcept {
    begun_ticks_ =
        ticks() - static_cast<std::uint64_t>(static_cast<double>(time.count()) * ticks_per_nanosecond());
    header().begun_ticks = begun_ticks_;
  }
  [[nodiscard]] SegmentHeader& header() const noexcept { return segment_->header(); }

 private:
  std::shared_ptr<Segment> segment_;
  MessageSocket socket_;
  RingReader<> calls_;
  RingWriter<> results_;
  CallHeader* call_ = nullptr;
  std::uint64_t begun_ticks_ = 0;
};

/// A worker slot whose process is the test itself.
class PlayedWorker : public WorkerEnd {
 public:
  explicit PlayedWorker(WorkerSlot& slot) : WorkerEnd{fill(slot)}, slot_{&slot} {}

  [[nodiscard]] WorkerSlot& slot() const noexcept { return *slot_; }

 private:
  static WorkerEnd fill(WorkerSlot& slot) {
    slot.segment = std::make_shared<Segment>(Segment::create({}));
    SegmentHeader& header = slot.header();
    slot.calls = RingWriter<>{slot.segment->call_room(), header.calls};
    slot.results = RingReader<>{slot.segment->result_room(), header.results};
    auto [parent, worker] = MessageSocket::pair();
    slot.worker.socket = std::move(parent);
    slot.memory.blocks = ResultBlocks{slot.segment, [] {}};
    slot.incarnation = slot.next_incarnation++;
    slot.state = WorkerSlot::State::alive;
    slot.ready = true;
    return {slot.segment, std::move(worker)};
  }

  WorkerSlot* slot_;
};

/// Tasks, links and dispatch, put together as `PoolCore` does it.
class PlayedPool : public FutureHome {
 public:
  explicit PlayedPool(std::size_t max_workers = 1, std::size_t max_pending = 0) : backpressure{max_pending} {
    slots.set_max(max_workers);
  }
  virtual ~PlayedPool() {
    PoolGuard guard{mutex};
    phase.closed = true;
    for (WorkerSlot& slot : slots.all(guard)) {
      while (!slot.in_flight.empty()) {
        TaskState& task = *slot.in_flight.front().task;
        slot.in_flight.pop_front();
        slots.note_left(guard);
        task.leave_worker();
        if (!task.finished()) completion.finish_cancelled(guard, task, "by the end of the test");
      }
    }
    completion.cancel_pending(guard);
  }

  PlayedWorker& add_worker() {
    PoolGuard guard{mutex};
    WorkerSlot* const slot = slots.free_slot(guard);
    REQUIRE(slot != nullptr);
    return *workers.emplace_back(std::make_unique<PlayedWorker>(*slot));
  }
  /// A task that is submitted and nowhere yet. The handle keeps it.
  StateHandle make_task(const std::string& arguments = {}, std::optional<TaskOptions> options = {},
                        CodeReference entry = 0) {
    PoolGuard guard{mutex};
    auto* const task = ::new (cells.take(guard)) TaskState{this, ++last_id, entry, 0};
    task->submitted_ticks = ticks();
    if (options) task->options = new SharedOptions{*options};
    task->store(std::as_bytes(std::span{arguments.data(), arguments.size()}));
    completion.note_submitted(guard, *task);
    return StateHandle{task};
  }
  StateHandle submit(const std::string& arguments = {}, std::optional<TaskOptions> options = {}) {
    StateHandle handle = make_task(arguments, std::move(options));
    PoolGuard guard{mutex};
    dispatcher.dispatch_or_enqueue(guard, task_of(handle), ticks());
    return handle;
  }
  /// Ends tasks that nothing else ends: an open one is never destroyed.
  void end(Locked locked, std::initializer_list<const StateHandle*> open) {
    for (const StateHandle* task : open) completion.finish_with_value(locked, task_of(*task));
  }
  bool collect() {
    PoolGuard guard{mutex};
    return dispatcher.collect_results(guard);
  }
  static TaskState& task_of(const StateHandle& handle) { return static_cast<TaskState&>(*handle.get()); }
  static std::string value_of(const StateHandle& handle) {
    const auto bytes = task_of(handle).bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  NotedEvents events;
  std::vector<LogRecord> records;
  std::vector<std::uint64_t> flights;
  std::uint64_t last_id = 0;

  TaskStore cells;
  PoolPhase phase;
  CallbackRunner callbacks;
  PoolMutex mutex{false, callbacks, [this](std::uint64_t task) { flights.push_back(task); }};
  PendingTasks pending;
  Backpressure backpressure;
  std::shared_ptr<const CodeBook> code = std::make_shared<CodeBook>();
  Completion completion{code, true, phase, pending, mutex.deferred(), callbacks, events};
  PoolClock clock;
  WorkerSlots slots;
  Bells bells;
  WorkerControl control{false, 5s, clock, slots};
  LifecycleLog log{
      {.level = [] { return Level::trace; }, .emit = [this](LogRecord record) { records.push_back(record); }},
      1,
      code};
  CallBlocks blocks{[] {}};
  std::uint64_t max_tasks_per_worker = 0;
  CallWriter writer{*code, clock, blocks, max_tasks_per_worker, slots, control, bells, completion, events};
  PoolWatch watch;
  WatchNotes notes{watch, *code, ticks_per_nanosecond()};
  Load load{ticks_per_nanosecond(), completion};
  ResultIntake intake{ContextId{}, clock, log, slots, control, load, completion, pending, notes};
  Dispatcher dispatcher{
      {clock, slots, control, bells, load, writer, intake, pending, completion, phase, backpressure, events},
      {}};
  std::vector<std::unique_ptr<PlayedWorker>> workers;

 private:
  bool wait(FutureState&, kindred::internal::Deadline) override { return false; }
  void add_callback(FutureState& state, std::function<void()> action, const void* owner) override {
    PoolGuard guard{mutex};
    if (completion.add_callback(guard, state, action, owner)) return;
    action();
  }
  void add_continuation(FutureState& state, std::function<void(Locked)> action, const void* owner) override {
    PoolGuard guard{mutex};
    if (!completion.add_continuation(guard, state, action, owner)) action(guard);
  }
  void withdraw(FutureState& state, const void* owner) noexcept override {
    Continuations withdrawn;
    PoolGuard guard{mutex};
    completion.withdraw(guard, state, owner, withdrawn);
  }
  bool cancel(TaskState&, Running) override { return false; }
  [[nodiscard]] bool is_running(const TaskState&) const override { return false; }
  [[nodiscard]] TaskFacts facts_of(const TaskState& task) const override {
    return kindred::internal::facts_of(task, completion.code());
  }
  [[nodiscard]] std::vector<LogRecord> log_of(std::uint64_t) override { return {}; }
  [[nodiscard]] bool drop_last_of_open(TaskState& task) noexcept override {
    PoolGuard guard{mutex};
    if (!task.drop(guard)) return false;
    const bool ours = task.finished();
    if (!ours) task.forget(guard);
    return ours;
  }
  void give_back_cell(void* cell) noexcept override { (void)cells.give_back(cell); }
};

}  // namespace kindred::test
