#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kindred/internal/ring.hpp"
#include "kindred/internal/shared_memory.hpp"

namespace kindred::internal {

/// How far a worker has come.
enum class WorkerPhase : std::uint32_t {
  being_set_up,
  in_initializer,
  working,
  in_finalizer,
  lost_descriptors  ///< it ends because a task has closed what kindred needs
};

/// One attempt at a task, as one number: 48 bits of the task's id, 16 of the attempt (1 for the first). What
/// a worker and the parent say of "the call at hand" names the attempt, never the task alone: a task may be
/// tried again in the same worker. 0: none.
using AttemptId = std::uint64_t;
inline constexpr unsigned attempt_bits = 16;
[[nodiscard]] constexpr AttemptId attempt_id(std::uint64_t task_id, std::uint16_t attempt) noexcept {
  return task_id << attempt_bits | attempt;
}
[[nodiscard]] constexpr std::uint64_t task_of(AttemptId attempt) noexcept { return attempt >> attempt_bits; }

/// The shared memory of one worker incarnation. Only that worker and the parent map it.
///
///     +--------------------+ 0
///     | SegmentHeader      |  the shared words, one cache line per writer and purpose
///     +--------------------+ header_bytes (one page)
///     | call ring          |  parent writes, worker reads
///     +--------------------+
///     | result ring        |  worker writes, parent reads
///     +--------------------+
///     | crash page         |  the worker's signal handler writes, the parent reads it once the worker is
///     dead
///     +--------------------+
///     | log area           |  liblog's: control page, site dictionary, lanes
///     +--------------------+
///
/// The parent never reads back what it wrote here: its own state is in its own memory. What the worker wrote
/// is read once and checked.
/// How far a call that runs many items (a map's chunk) has come. The worker writes these words; the parent
/// reads them once the worker is dead, and checks them.
///
/// Results of whole items stay where the worker wrote them: `kept_bytes` bytes. They begin `at` bytes from
/// this struct, in the part of the result ring that is not published yet; or, where `at` is negative, in the
/// result block of place `-at - 1`, which the parent has.
struct ItemProgress {
  std::atomic<AttemptId> attempt;         ///< whose items these are
  std::atomic<std::uint64_t> done;        ///< items that have run and whose results were written whole
  std::atomic<std::uint64_t> kept;        ///< of these, whose results are here; `all`: every one
  std::atomic<std::uint64_t> each;        ///< bytes of each result where all are of one size; else 0
  std::atomic<std::uint64_t> kept_bytes;  ///< where `each` is not 0: the bytes before the first result
  std::atomic<std::int64_t> at;
  static constexpr std::uint64_t all = UINT64_MAX;
};

struct SegmentHeader {
  static constexpr std::uint64_t magic_value = 0x6b696e6472656431;  // "kindred1"

  // Written by the parent before the worker starts, read by the worker.
  std::uint64_t magic;
  std::uint64_t call_bytes;
  std::uint64_t result_bytes;
  std::uint64_t log_offset;
  std::uint64_t log_bytes;
  double ticks_per_nanosecond;  ///< as the parent has measured it: a worker need not

  RingCursors<> calls;    ///< published: parent; consumed: worker
  RingCursors<> results;  ///< published: worker; consumed: parent

  // --- parent's lines ---
  /// The word the worker sleeps on; the parent raises it to wake it.
  alignas(64) std::atomic<std::uint32_t> wake;
  std::atomic<std::uint32_t> command;  ///< `Command` bits
  /// May the worker spin before it sleeps? Nanoseconds; 0: sleep at once. The parent lets as many spin as
  /// there are spare cores.
  std::atomic<std::uint32_t> spin_nanoseconds;
  std::atomic<std::uint32_t> parent_cpu;  ///< where the thread that submits or waits runs, +1
  std::atomic<std::uint32_t> mail;        ///< raised where an idle worker is to read its socket
  /// The core, +1, that this worker shares with another busy worker although there are cores enough; 0: none.
  /// A worker that runs there goes to another core and stores 0.
  std::atomic<std::uint32_t> crowded_cpu;

  /// When the worker is to ring: see `Armed`.
  alignas(64) std::atomic<std::uint64_t> armed;

  /// The attempt that was asked to stop, for `stop_requested()`.
  alignas(64) std::atomic<AttemptId> stop_attempt;
  std::atomic<std::uint32_t> stop_signal;  ///< raised with each asking; what a stop token's watcher sleeps on

  /// Blocks for large results that no future reads any more, a bit each. Set by the parent; the process that
  /// clears a bit, worker or parent, owns the block.
  alignas(64) std::atomic<std::uint64_t> free_result_blocks;

  // --- worker's lines ---
  /// Not 0: it must be woken. Set by the worker, taken back by whoever wakes it.
  alignas(64) std::atomic<std::uint32_t> sleeps;
  std::atomic<std::uint32_t>
      cpu;  ///< where the worker ran last, +1; a worker that is busy says so every 100 us
  std::atomic<WorkerPhase> phase;
  /// When the task at hand began, in ticks: written after its call was claimed.
  alignas(64) std::atomic<std::uint64_t> begun_ticks;
  std::atomic<AttemptId> begun_attempt;  ///< the attempt at hand; 0: the worker is idle
  alignas(64) ItemProgress items;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
              std::atomic<std::uint32_t>::is_always_lock_free);

/// What the parent asks of a worker as a whole.
enum class Command : std::uint32_t {
  none = 0,
  finish = 1
};  // finish: run what is in the ring, then the finalizer, then exit

/// The word `armed`: which thread of the parent wants to be rung, and when. The worker rings once per arming
/// (`epoch`), by the bell named.
///
///     63          32 31        3   2       1        0
///    +--------------+-----------+------+--------+--------+
///    | epoch        | low water | dry  | service| waiter |
///    +--------------+-----------+------+--------+--------+
///
/// waiter: a thread sleeps in get() and wants every result; service: the supervisor wants every result
/// (callbacks); dry: ring the supervisor when calls in the ring have fallen to `low water` or less.
struct Armed {
  static constexpr std::uint64_t waiter = 1;
  static constexpr std::uint64_t service = 2;
  static constexpr std::uint64_t dry = 4;
  static constexpr unsigned low_water_shift = 3;
  static constexpr std::uint64_t low_water_mask = (1U << 29U) - 1;
  static constexpr unsigned epoch_shift = 32;
};

/// A call in the call ring; the name and then the arguments follow.
///
///     queued --(worker)--> begun --(worker)--> done
///        |                   |
///        (parent) revoked    (parent) condemned: the worker is about to be killed, and must not publish
struct CallHeader {
  std::uint32_t size;  ///< of the whole message, by the ring
  std::atomic<std::uint32_t> state;
  std::uint64_t task_id;
  std::uint64_t entry;     ///< code reference of the typed entry function
  std::uint64_t function;  ///< code reference of the user's function pointer, or 0
  std::uint16_t attempt;
  std::uint16_t attachments;  ///< how many shared memories were sent along, by id, at the end of the message
  std::uint16_t flags;
  std::uint16_t name_bytes;
  std::uint32_t
      argument_bytes;  ///< in the ring; with `call_is_external` a `BlockReference` stands there instead
  std::uint32_t spare;
};
static_assert(sizeof(CallHeader) == 48);
inline constexpr std::uint16_t call_is_external = 1;

/// Where large arguments or results lie: the first `bytes` bytes of a shared memory that was sent before, by
/// the number it was sent under. One that is kept stays mapped for further calls or results; any other is
/// named once.
struct BlockReference {
  std::uint64_t memory_id;
  std::uint64_t bytes;
};
inline constexpr std::uint64_t memory_is_kept = std::uint64_t{1} << 63U;  // in a memory_id

namespace call_state {
inline constexpr std::uint32_t queued = 0;
inline constexpr std::uint32_t begun = 1;
inline constexpr std::uint32_t revoked = 2;
inline constexpr std::uint32_t condemned = 3;
inline constexpr std::uint32_t done = 4;
}  // namespace call_state

enum class ResultKind : std::uint8_t { value = 1, failure = 2 };

/// A result in the result ring; the encoded value or failure follows.
struct ResultHeader {
  std::uint32_t size;
  ResultKind kind;
  std::uint8_t spare;
  std::uint16_t flags;
  std::uint64_t task_id;
  std::uint64_t begun_ticks;
  std::uint64_t ended_ticks;
  std::uint32_t
      value_bytes;  ///< in the ring; with `result_is_external` a `BlockReference` stands there instead
  std::uint32_t attachments;  ///< shared memories that were sent along, by id, at the end of the message
};
static_assert(sizeof(ResultHeader) == 40);
inline constexpr std::uint16_t result_is_external = 1;
inline constexpr std::uint16_t result_asks_recycle = 2;  ///< the worker's memory has grown over its limit

/// Sizes of a segment's parts, all multiples of a page; ring sizes are powers of two.
struct SegmentShape {
  std::size_t call_bytes = 64 * 1024;
  std::size_t result_bytes = 64 * 1024;
  std::size_t log_bytes = 0;
};

/// A mapped segment, on either side.
class Segment {
 public:
  static constexpr std::size_t header_bytes = 4096;
  static constexpr std::size_t crash_bytes = 4096;

  Segment() = default;
  [[nodiscard]] static Segment create(const SegmentShape& shape);  ///< parent. Errors: `SystemError`
  [[nodiscard]] static Segment adopt(Descriptor fd,
                                     std::size_t bytes);  ///< worker. Errors: `SystemError`, `UsageError`

  [[nodiscard]] SegmentHeader& header() const noexcept {
    return *reinterpret_cast<SegmentHeader*>(memory_.bytes().data());
  }
  [[nodiscard]] std::span<std::byte> call_room() const noexcept {
    return memory_.bytes().subspan(header_bytes, shape_.call_bytes);
  }
  [[nodiscard]] std::span<std::byte> result_room() const noexcept {
    return memory_.bytes().subspan(header_bytes + shape_.call_bytes, shape_.result_bytes);
  }
  [[nodiscard]] std::span<std::byte> crash_page() const noexcept {
    return memory_.bytes().subspan(header_bytes + shape_.call_bytes + shape_.result_bytes, crash_bytes);
  }
  [[nodiscard]] std::span<std::byte> log_area() const noexcept {
    return memory_.bytes().subspan(header_bytes + shape_.call_bytes + shape_.result_bytes + crash_bytes,
                                   shape_.log_bytes);
  }
  [[nodiscard]] int fd() const noexcept { return memory_.fd(); }
  [[nodiscard]] std::size_t size() const noexcept { return memory_.size(); }
  void close_descriptor() noexcept { memory_.close_descriptor(); }
  explicit operator bool() const noexcept { return static_cast<bool>(memory_); }

 private:
  SharedMemory memory_;
  SegmentShape shape_;
};

}  // namespace kindred::internal
