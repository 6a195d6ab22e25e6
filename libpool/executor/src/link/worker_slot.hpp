#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "kindred/internal/ring.hpp"
#include "kindred/stats.hpp"
#include "link/circular_queue.hpp"
#include "link/kill_reason.hpp"
#include "link/memory_blocks.hpp"
#include "link/run_average.hpp"
#include "task/task_facts.hpp"
#include "task/task_state.hpp"

namespace kindred::internal {

/// One attempt at a task in one incarnation of a worker, in the order of its ring. It begins when the call is
/// published, and ends when its result is taken in, when the call is revoked, or with the worker's burial.
/// What is known of the attempt lives here and nowhere else, so that nothing of it reaches the next one.
struct InFlight {
  enum class Condemned : std::uint8_t { no, timed_out, cancelled };

  TaskState* task = nullptr;
  CallHeader* header = nullptr;
  std::uint64_t end = 0;  ///< the ring's cursor behind the call
  std::uint64_t dispatched_ticks = 0;
  /// When the parent first saw the call first in its ring, and looked at its limit.
  std::chrono::steady_clock::time_point front_since{};  ///< the epoch: not yet
  std::chrono::nanoseconds ran{0};                      ///< until its worker was killed for its limit
  Deadline killed_at{};  ///< it was terminated for its limit, and is killed then
  Condemned condemned = Condemned::no;
  bool stop_asked = false;
};

/// When the time limits of a worker's attempts are looked at next: before the first of them can be over. A
/// look costs a walk through the attempts, so most dispatches plan none: their limits are as long as the one
/// that is waited for.
class LimitLooks {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Is a look planned that comes before a limit of this length, counted from now, can be over? It may be
  /// false where there is.
  [[nodiscard]] bool are_looked_at_within(std::chrono::nanoseconds limit) const noexcept {
    return next_look_ && limit >= within_;
  }
  /// A look that is planned already and comes sooner stays.
  void look_within(std::chrono::nanoseconds limit, Time now) noexcept {
    next_look_ = next_look_ ? std::min(*next_look_, now + limit) : now + limit;
    within_ = limit;
  }
  void end() noexcept { next_look_.reset(); }
  [[nodiscard]] Deadline next_look() const noexcept { return next_look_; }

 private:
  Deadline next_look_;
  std::chrono::nanoseconds within_{0};  // of the latest that was too short for the look before
};

/// What the parent knows and holds of one incarnation of a worker: its segment, its rings and the calls in
/// them, its socket, its memories. A start begins with a fresh one, and the burial drops it as a whole: no
/// member is reset by hand, so nothing of one incarnation reaches the next one.
struct WorkerLink {
  KillReason kill_reason = KillReason::none;
  bool ready = false;       ///< it has said that it is initialised
  bool found_dead = false;  ///< by the poll; to be buried
  bool full = false;        ///< no room for another call until a result comes
  bool watched = false;     ///< its pidfd and socket are in the supervisor's poll
  std::uint32_t owner = 0;  ///< the number by which shared objects know it
  StartedWorker worker;
  std::shared_ptr<Segment> segment;
  RingWriter<> calls;
  RingReader<> results;
  CircularQueue<InFlight> in_flight;
  LimitLooks limits;
  SourceId log_source{};
  struct {
    std::uint64_t bits = 0;
    std::uint64_t epoch = 0;
  } arming;                          ///< when the worker rings: see `Armed`
  std::uint64_t progress_ticks = 0;  ///< when its call at hand may have become that at the earliest
  RunAverage average;                ///< of recent run times
  struct {
    std::uint64_t calls = 0;  ///< less those that were revoked
    std::size_t modules = 0;
    std::uint64_t memory_id = 0;  ///< of the latest attachment
  } sent;                         ///< to the worker: how many calls, which libraries and memories
  struct {
    std::unordered_map<std::uint64_t, std::shared_ptr<SharedMemory>> received;  ///< for results to come
    ResultBlocks blocks;
    bool ended = false;  ///< the parent's own memory ended when an announced one came
    /// Why an announced one is not there: the task's error, not the worker's fault.
    std::optional<SystemError> missing;
  } memory;
  std::chrono::steady_clock::time_point started{};
  std::chrono::steady_clock::time_point idle_since{};
  /// Since when it is silent: it had calls, and neither began nor ended one for long. It gets no more until
  /// it has passed those that were revoked.
  Deadline silent_since;
  struct {
    Deadline stopped_since;  ///< when it was found stopped by a signal
    Deadline mute_since;     ///< when its socket was closed, though it lives
    std::chrono::steady_clock::time_point look_whether_stopped{};
    unsigned forked_children = 0;  ///< processes that its tasks forked, and that told of themselves
  } untidy;
  struct {
    bool initializer_failed = false;
    bool finalizer_failed = false;
    std::string protocol_error;
    std::string bootstrap_error;           ///< what it said before it gave up
    std::vector<std::byte> failure_bytes;  ///< its initializer's exception, encoded
    std::string loss_hint;                 ///< what else is known of its death
  } last_words;
  struct {
    Descriptor out;
    Descriptor error;
  } captured;
  struct {
    bool was_asked_to = false;                         ///< to end, when it was found dead
    std::chrono::steady_clock::time_point leave_by{};  ///< leaving: killed when it passes
    std::chrono::steady_clock::time_point told_by{};   ///< dying: buried without the fork server's word
  } end;

  [[nodiscard]] bool silent() const noexcept { return silent_since.has_value(); }
  [[nodiscard]] SegmentHeader& header() const noexcept {
    KINDRED_ASSERT(segment != nullptr);
    return segment->header();
  }
  /// Where the task is in `in_flight`; `in_flight.size()` where it is not.
  [[nodiscard]] std::size_t position_of(const TaskState& task) noexcept {
    std::size_t position = 0;
    while (position < in_flight.size() && in_flight[position].task != &task) ++position;
    return position;
  }
};

/// One of the pool's slots for a worker, and the incarnation that fills it now. Guarded by the pool's lock,
/// except what the supervisor alone touches: `worker` while it starts and is buried.
struct WorkerSlot : WorkerLink {
  enum class State : std::uint8_t {
    empty,     ///< no process
    starting,  ///< the supervisor is making one
    alive,     ///< takes calls
    leaving,   ///< was asked to finish; takes no more calls
    dying      ///< found dead; being buried
  };
  using KillReason = internal::KillReason;

  int index = 0;
  State state = State::empty;
  std::uint32_t incarnation = 0;
  std::uint32_t next_incarnation = 0;
  std::uint64_t run_ticks = 0;    ///< of all incarnations
  std::uint64_t queue_ticks = 0;  ///< of all incarnations
  WorkerStats stats;

  [[nodiscard]] bool takes_calls() const noexcept { return state == State::alive; }
  [[nodiscard]] bool idle() const noexcept { return state == State::alive && in_flight.empty(); }
  [[nodiscard]] WorkerIdentity identity() const noexcept {
    return {.index = index, .pid = worker.process.pid(), .incarnation = incarnation};
  }
  /// Has it calls that a live process may run?
  [[nodiscard]] bool has_calls() const noexcept { return segment && !in_flight.empty(); }
  void end_incarnation() {
    state = State::empty;
    static_cast<WorkerLink&>(*this) = WorkerLink{};
  }
};

}  // namespace kindred::internal
