#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/call_site.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/log_area.hpp"
#include "kindred/internal/record_encoder.hpp"
#include "kindred/internal/shared_bell.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

class LogFront;

/// What a logger puts on its records: a name, and fields. Immutable, and sent once for as long as a lane
/// remembers it.
struct Binding {
  Binding(std::string logger_name, std::vector<Field> logger_fields);
  const std::uint64_t serial;  ///< of this process; never 0
  const std::string name;
  const std::vector<Field> fields;
  /// The level of `name` by the latest look: front's serial 32 | levels' generation 24 | level 8. Any thread.
  mutable std::atomic<std::uint64_t> level_seen{0};
};

/// Where a log call goes.
struct LogTarget {
  LogFront* front;         ///< null: this process has no log, so stderr
  const Binding* binding;  ///< may be null
};

// --- the task at hand

/// Names the task to which a record belongs. The name is copied, and cut after 248 bytes.
struct TaskIdentity {
  std::uint64_t task_id = 0;
  std::uint32_t attempt = 0;
  std::uint64_t function_reference = 0;  ///< names the task where `name` is empty: the parent resolves it
  std::string_view name;
};

/// The task of this process, written by the thread that runs tasks, read by every thread that logs: so
/// records of threads that a task starts are its records.
///
/// Invariant: `serial` is odd while the rest is being written, and grows by 2 with each change.
struct CurrentTask {
  std::atomic<std::uint64_t> serial{0};
  std::atomic<std::uint64_t> id{0};
  std::atomic<std::uint64_t> function{0};
  std::atomic<std::uint32_t> attempt{0};
  std::atomic<std::uint32_t> name_bytes{0};
  std::atomic<std::uint64_t> name[31]{};
};
void set_task_name(std::string_view name) noexcept;

/// A site as it is looked for.
struct SiteKey {
  const void* address = nullptr;
  const char* format = nullptr;
  const char* types = nullptr;  ///< address of the type list
  std::uint32_t shape = 0;      ///< see `site_shape`
  friend bool operator==(const SiteKey&, const SiteKey&) = default;
};

/// One thread's way into a lane.
struct alignas(128) LaneState {
  LaneWriter<> ring;
  std::uint64_t task_announced = 0;   ///< serial; what the collector knows of this lane
  std::uint64_t scope_announced = 0;  ///< serial
  std::uint64_t sequence = 0;         ///< of the latest record
  const std::atomic<std::uint64_t>* task_serial = nullptr;
  const std::atomic<std::uint32_t>* collector = nullptr;  ///< `LogControl::collector`
  std::atomic<std::uint8_t> closed{0};                    ///< not 0: the log was shut down meanwhile
  bool shared = false;                                    ///< many threads, under the front's lock
  bool pages_mapped = false;                              ///< of the lane, in a worker
  bool gave_up = false;  ///< a wait for room has timed out, when the collector was at `gave_up_at`
  std::uint64_t gave_up_at = 0;
  std::uint32_t thread = 0;         ///< tid as announced
  bool flushes = false;             ///< `flush_if_wanted` may have something to do
  std::uint64_t gap_announced = 0;  ///< drops that the collector has been told of
  LogFront* front = nullptr;

  static constexpr std::uint64_t nothing_announced = ~std::uint64_t{0};  ///< for the two serials
  static constexpr std::size_t site_slots = 64;
  struct alignas(32) SiteSlot {  // in one cache line
    const void* address = nullptr;
    const char* format = nullptr;
    const char* types = nullptr;
    std::uint32_t shape = 0;
    std::uint32_t id = 0;  ///< never `record_site::inlined`
    [[nodiscard]] bool is(const SiteKey& key) const noexcept {
      return address == key.address && format == key.format && types == key.types && shape == key.shape;
    }
  };
  SiteSlot sites[site_slots];
  /// The compiler lays the sites of one file's calls side by side, three words each. Since 3 does not divide
  /// the number of slots, 64 neighbours have a slot each.
  [[nodiscard]] static std::size_t site_slot(const void* address) noexcept {
    return reinterpret_cast<std::uintptr_t>(address) / sizeof(void*) % site_slots;
  }
  static constexpr std::size_t binding_slots = 32;
  std::uint64_t bindings[binding_slots + 1] = {};  ///< serials; slot 0 is none
  [[nodiscard]] static std::uint32_t binding_slot(const Binding& binding) noexcept {
    return 1 + static_cast<std::uint32_t>(binding.serial % binding_slots);
  }
};

/// What a log call of this process looks at first, in one cache line; and in the same page all else that the
/// log calls of the thread that runs tasks need of this process (see `LogAreaShape`).
struct alignas(4096) ProcessLog {
  /// The log of this process; null: none. In a worker its executor's; in any other process that of the only
  /// live executor.
  std::atomic<LogFront*> front;
  /// The word that says what this process logs: `LogControl::levels` of `front`, or that of stderr.
  std::atomic<const std::atomic<std::uint32_t>*> levels;
  CurrentTask task;
  LaneState task_lane;  ///< lane 0 of a worker
};
static_assert(sizeof(ProcessLog) == 4096);
extern constinit ProcessLog process_log;

extern constinit bool spdlog_is_bridged;
void keep_spdlog_bridged() noexcept;

/// All log records of this process belong to `task` until `leave_task`. Costs some stores to this process's
/// memory; nothing is sent unless something is logged. Threads: the one that runs tasks. Fork: worker only.
inline void enter_task(const TaskIdentity& task) noexcept {
  if (spdlog_is_bridged && task.task_id != 0) keep_spdlog_bridged();
  CurrentTask& now = process_log.task;
  const auto serial = now.serial.load(std::memory_order_relaxed);
  now.serial.store(serial + 1, std::memory_order_relaxed);
  // Order: release on each, so that the odd serial is seen before any of them; a reader that sees one of them
  // sees the odd serial too.
  now.id.store(task.task_id, std::memory_order_release);
  now.function.store(task.function_reference, std::memory_order_release);
  now.attempt.store(task.attempt, std::memory_order_release);
  if (!task.name.empty() || now.name_bytes.load(std::memory_order_relaxed) != 0) set_task_name(task.name);
  now.serial.store(serial + 2, std::memory_order_release);
}
inline void leave_task() noexcept { enter_task({}); }

// --- the process and its lanes

/// This process as its records name it.
struct LogIdentity {
  ContextId context;
  int worker = -1;
  std::uint32_t incarnation = 0;
  std::uint32_t pid = 0;
};

/// Makes this process log into `area`, which the parent formatted; the calling thread becomes the one with
/// lane 0. Whatever log the process inherited through a fork is forgotten, its locks with it: they may have
/// been held by threads that do not exist here. So are threads of spdlog's, which would be waited for at
/// exit. `bell` wakes the collector. Call once, in a worker's bootstrap. Threads: the only one. Fork: worker
/// only.
void attach_log(std::span<std::byte> area, SharedBell bell, const LogIdentity& identity);
/// Forgets the log that this process has, or inherited: its calls go to stderr from now on. Called by itself
/// in the child of any fork that runs the library's fork handlers. Threads: the only one.
void detach_log() noexcept;

/// Logs a line that this process wrote to stdout (level info) or stderr (warn) instead: its record has that
/// origin. Any thread.
void log_captured(Origin origin, std::string_view line);

/// Tells another process that shares the log area whether a thread committed its next record before it
/// died.
struct CommitMark {
  std::uint32_t offset =
      0;  ///< of the lane's cursor in the area; 0: cannot be told, because the thread shares its lane
  std::uint64_t published = 0;  ///< the cursor now
};
/// Call it right before the record is logged, on the thread that logs it.
[[nodiscard]] CommitMark next_commit() noexcept;
/// Was it committed? (Or, where records are being dropped, at least the note that says so.) `area` may hold
/// anything.
[[nodiscard]] bool was_committed(std::span<const std::byte> area, CommitMark mark) noexcept;
/// What the names that `log_captured` logs under say; no logger of a program's has them.
[[nodiscard]] inline Origin origin_of_logger(std::string_view name) noexcept {
  if (name.empty() || name.front() != '\1') return Origin::log;
  return name == "\1stdout" ? Origin::stdout : name == "\1stderr" ? Origin::stderr : Origin::log;
}

/// Calls `fork_it(argument)` while spdlog's registry is locked, so that a child that it forks does not
/// inherit the lock from another thread. `fork_it` must return in the child too. What stdio has buffered is
/// written before, so that no child writes it again.
void with_spdlog_registry_held(void (*fork_it)(void*), void* argument);
/// Leads spdlog's default logger, and every registered one, into this process's log: their sinks are
/// replaced; names, levels, source locations and thread ids are kept. The old sinks are leaked on purpose:
/// destroying them would write what the parent had buffered a second time. Loggers that are made later join
/// when they are registered. A lookup in the registry finds an asynchronous logger as a synchronous one.
/// Call after `attach_log`. Threads: the only one. Fork: worker only.
void bridge_spdlog();
/// Between two tasks of a worker: has the program made loggers, or given them patterns, since the last look,
/// so that some are not bridged? Then they are from now on. A dozen instructions where nothing has changed.
/// Threads: the one that runs tasks; others may log meanwhile.
void keep_spdlog_bridged() noexcept;

/// A thread's latest lane, so that finding it costs two loads. Trivial, so that it lives as long as the
/// thread, static destructors included.
struct alignas(32) ThreadLane {  // in one cache line
  static const char no_front;
  const void* front =
      &no_front;  ///< of `lane`; where there is none, nothing that `ProcessLog::front` can be, null included
  LaneState* lane = nullptr;
  std::atomic<std::uint64_t> scope_serial{
      0};  ///< written by other threads, too, where a scope ends elsewhere
  [[nodiscard]] std::uint64_t scope() const noexcept { return scope_serial.load(std::memory_order_relaxed); }
};
extern constinit thread_local ThreadLane thread_lane;

[[nodiscard]] inline bool level_passes(std::uint32_t levels, Level level) noexcept {
  // `off`, and whatever a cast made beyond it, passes nowhere.
  return static_cast<std::uint8_t>(level) >= static_cast<std::uint8_t>(levels) && level < Level::off;
}
[[nodiscard]] bool binding_enabled(LogFront* front, const Binding& binding, Level level) noexcept;

/// The lane for this thread, or null: stderr. Takes the front's lock where the lane is shared: see `LaneUse`.
[[nodiscard]] LaneState* find_lane(LogFront& front) noexcept;
void unlock_shared_lane(LaneState& lane) noexcept;
/// What `sites` of the lane does not know: registers the site if need be. Returns `record_site::inlined`
/// where the dictionary is full.
[[nodiscard]] std::uint32_t find_site(LaneState& lane, const SiteKey& key, const CallSite& site,
                                      std::string_view types, LevelCode level) noexcept;
/// Tells the collector what it does not know yet of thread, task, scope and drops. False: the record is
/// dropped, and counted.
[[nodiscard]] bool announce(LaneState& lane) noexcept;
/// Sends a binding to its slot of the lane. False: the record is dropped, and counted.
[[nodiscard]] bool announce_binding(LaneState& lane, const Binding& binding) noexcept;
/// There is no room: waits or drops, as the policy says. False: the record is dropped, and counted.
[[nodiscard]] bool wait_for_room(LaneState& lane, std::size_t bytes) noexcept;
[[nodiscard]] bool wait_for_room(LaneState& lane, std::size_t bytes,
                                 std::chrono::milliseconds at_least) noexcept;
void ring_collector(LaneState& lane) noexcept;
/// After a record of that level: waits until it is in the sinks, where the log's options ask for it.
void flush_if_wanted(LaneState& lane, LevelCode level) noexcept;
/// After a commit: rings where the collector sleeps, or naps while the lane fills.
///
/// Order: the load is after the commit by a compiler barrier here and the collector's heavy barrier there (or
/// full fences on both sides): either it sees the record before it sleeps, or we see that it sleeps.
inline void wake_collector(LaneState& lane) noexcept {
  const auto state = lane.collector->load(std::memory_order_seq_cst);
  // Awake or napping, both are usual: what neither needs must not lie on their way, where the next log call
  // would fetch it.
  if (state >= static_cast<std::uint32_t>(CollectorState::sleeping)) [[unlikely]]
    return ring_collector(lane);
  if (lane.ring.half_full() && state == static_cast<std::uint32_t>(CollectorState::napping)) [[unlikely]]
    ring_collector(lane);
}
/// A lane in which a record is begun, or why none is.
struct EnteredLane {
  enum class State : std::uint8_t {
    entered,  ///< write the record at `at`, and commit it
    dropped,  ///< there was no room; that is counted
    closed    ///< the log takes no records any more
  };
  State state = State::dropped;
  std::uint32_t binding_slot = 0;
  std::byte* at = nullptr;
  std::uint64_t now = 0;  ///< ticks
};
/// Begins a record of this many bytes, whatever must be done before: room is made, and the collector is told
/// what it does not know yet of thread, task, scope, drops and binding.
[[nodiscard]] EnteredLane enter_lane(LaneState& lane, const Binding* binding, std::size_t bytes) noexcept;
/// Writes what `write_record` cannot: a record larger than a lane allows, one whose site found no room, or
/// one that goes to stderr. `arguments` are encoded.
void write_encoded(const LogTarget& target, LaneState* lane, LevelCode level, const CallSite& site,
                   std::string_view types, std::span<const std::byte> arguments) noexcept;
/// Formats here, then logs the text; `fields` are the key-values. An exception of a formatter's becomes the
/// message.
void write_formatted(const LogTarget& target, LevelCode level, const CallSite& site,
                     fmt::format_args arguments, std::span<const Field> fields) noexcept;
/// Logs a text that is made already.
void write_message(const LogTarget& target, LevelCode level, const CallSite& site, std::string_view text,
                   std::span<const Field> fields) noexcept;

/// Uses the calling thread's lane for one record.
class LaneUse {
 public:
  explicit LaneUse(LogFront& front) noexcept : lane_{thread_lane.lane} {
    if (thread_lane.front != &front) [[unlikely]]
      lane_ = find_lane(front);
  }
  LaneUse(const LaneUse&) = delete;
  LaneUse& operator=(const LaneUse&) = delete;
  ~LaneUse() {
    if (lane_ != nullptr && lane_->shared) [[unlikely]]
      unlock_shared_lane(*lane_);
  }
  [[nodiscard]] LaneState* lane() const noexcept { return lane_; }

 private:
  LaneState* lane_;
};

}  // namespace kindred::internal
