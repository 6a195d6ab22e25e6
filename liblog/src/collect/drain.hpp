#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "collect/history.hpp"
#include "collect/record_clock.hpp"
#include "collect/sink_set.hpp"
#include "collect/source.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/collector.hpp"
#include "record/delivery.hpp"
#include "record/level_table.hpp"

namespace kindred::internal {

/// Ticks that no earlier or later instruction of this thread can slip past.
[[nodiscard]] inline std::uint64_t ordered_ticks() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_lfence();
  const auto now = ticks();
  __builtin_ia32_lfence();
#else
  asm volatile("isb" ::: "memory");
  const auto now = ticks();
  asm volatile("isb" ::: "memory");
#endif
  return now;
}

/// Counts of a log, for any thread to read.
struct DrainCounters {
  std::atomic<std::uint64_t> committed{0};
  std::atomic<std::uint64_t> delivered{0};
  std::atomic<std::uint64_t> held_back{0};
  std::atomic<std::uint64_t> emitted{0};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> torn{0};
  std::atomic<std::uint64_t> late{0};
  std::atomic<std::uint64_t> corrupt_sources{0};
  std::atomic<std::uint64_t> unreadable{0};
  std::atomic<std::uint64_t> bytes{0};
};

/// A record that the parent made.
struct EmittedRecord {
  std::uint64_t tick = 0;
  std::uint64_t ordinal = 0;
  LogRecord record;
};

/// Where threads of the parent put records that they made.
class Desk {
 public:
  void put(LogRecord&& record, std::uint64_t at);
  /// Moves what is there to `out`.
  void take(std::vector<EmittedRecord>& out);
  [[nodiscard]] bool empty() const noexcept { return count_.load(std::memory_order_relaxed) == 0; }

 private:
  std::mutex lock_;
  std::vector<EmittedRecord> records_;
  std::uint64_t last_ = 0;
  std::atomic<std::size_t> count_{0};
};

/// The collector's work without its thread: rounds that take records out of the lanes of all sources, in
/// order, and hand them to the sinks. A round looks at all lanes, merges what is older than the watermark,
/// and publishes what it did. Threads: one at a time.
class Drain {
 public:
  Drain(const LogOptions& options, CollectorHooks hooks, std::shared_ptr<History> history);

  /// Before the first round: measures the clock, which may take some milliseconds.
  void begin();
  void add_source(std::unique_ptr<Source> source);
  [[nodiscard]] Source* find_source(SourceId id) noexcept;
  /// Takes what is left of a source whose process is dead and which a round has drained; forgets it.
  SourceEnd end_source(SourceId id);

  struct Round {
    std::uint64_t began = 0;      ///< ticks
    std::uint64_t watermark = 0;  ///< everything older has been delivered
    std::size_t records = 0;
    bool pending = false;  ///< records wait for the watermark
  };
  /// One round. `commands` is called twice: before the lanes are looked at, so that no source is missed whose
  /// records the watermark will pass; and after it, before anything is delivered, so that a thread that added
  /// a sink before it committed a record finds the record in it. `force`: waits for no lane (what comes later
  /// is marked late).
  Round round(bool force, const std::function<void()>& commands);
  /// Has anything been published since the last round? Cheap. It may miss what was published just now: call
  /// it only where a round or a heavy barrier follows, which finds that.
  [[nodiscard]] bool stirred() const noexcept;
  void set_state(CollectorState state) noexcept;  ///< for the producers
  [[nodiscard]] CollectorState state() const noexcept { return state_; }
  /// Reports drops that no record of their lane has reported. For quiet moments.
  void report_quiet_drops();
  void release_flight(const std::function<bool(const KeptRecord&)>& wanted);
  void set_flight(std::size_t bytes);

  Desk desk;
  SinkSet sinks;
  DrainCounters counters;
  LevelSettings levels;  ///< to tell which records are the flight recorder's
  std::unordered_map<int, Level> worker_levels;
  std::function<void(LogRecord&)> on_record;

 private:
  /// Numbers that no other log of this process uses: a formatter keeps texts under them, and may serve
  /// several logs one after another.
  [[nodiscard]] static std::uint64_t own_facts_ids() noexcept;
  enum class Taken : std::uint8_t { delivered, gone, corrupt };
  /// A record that was taken out of its lane, in the memory where it is to be kept.
  struct Encoded {
    std::byte* entry = nullptr;  ///< room for the head that is kept, then the record's bytes
    std::size_t arguments = 0;   ///< bytes
    std::size_t bytes = 0;       ///< of all that is kept
    std::size_t offset = 0;      ///< of the arguments, from behind that head
    const Site* site = nullptr;
    [[nodiscard]] std::span<const std::byte> argument_bytes() const noexcept {
      return {entry + sizeof(KeptRecord) + offset, arguments};
    }
  };
  /// What the records of one source that are delivered one after the other add to its counts: at their end,
  /// and not with each.
  struct Run {
    Run(const Source& its_source, DrainCounters& its_counters) noexcept
        : source{*its_source.counters}, all{its_counters} {}
    Run(const Run&) = delete;
    Run& operator=(const Run&) = delete;
    ~Run() {
      SourceCounters::add(source.records, records);
      SourceCounters::add(source.bytes, bytes);
      SourceCounters::add(all.bytes, bytes);
    }
    SourceCounters& source;
    DrainCounters& all;
    std::uint64_t records = 0;
    std::uint64_t bytes = 0;
  };
  struct Head {
    std::uint64_t tick;
    Source* source;
    LaneInput* lane;
    /// For a heap with the oldest first.
    static bool is_younger(const Head& a, const Head& b) noexcept { return a.tick > b.tick; }
  };

  // --- a round: drain.cpp ---
  std::uint64_t look_at_lanes(std::uint64_t now, bool force);
  std::uint64_t look_at(Source& source, LaneInput& lane, std::uint64_t now, bool force);
  LaneInput& lane_of(Source& source, std::uint32_t index);
  std::uint64_t bound_of(LaneInput& lane, bool entering, std::uint64_t now, bool force) const noexcept;
  void take_emitted();
  std::size_t merge(std::uint64_t now, std::uint64_t watermark);
  [[nodiscard]] bool is_pending() const noexcept;
  void publish();

  // --- what comes next in a lane, and controls: drain_head.cpp ---
  /// Finds the next record. False where there is none.
  bool load_head(Source& source, LaneInput& lane, std::uint64_t now) {
    return lane.has_head || load_plain_head(source, lane, now) || load_any_head(source, lane, now);
  }
  bool load_any_head(Source& source, LaneInput& lane, std::uint64_t now);
  /// As `load_head`, where an ordinary record comes next; false: something else may come.
  static bool load_plain_head(const Source& source, LaneInput& lane, std::uint64_t now) noexcept {
    if (!lane.reader.peek(lane.head) || lane.head.site >= record_site::first_control || lane.large.open)
        [[unlikely]]
      return false;
    KINDRED_ASSERT(lane.last_tick >= source.added_at);
    lane.tick = std::max(lane.head.ticks, lane.last_tick);
    if (lane.tick > now) [[unlikely]]
      return false;
    lane.has_head = true;
    lane.head_position = lane.reader.position();
    lane.fetch_ahead();
    return true;
  }
  bool apply_control(Source& source, LaneInput& lane);
  bool apply_thread(Source& source, LaneInput& lane, ByteReader& control);
  bool apply_task(LaneInput& lane, ByteReader& control);
  bool take_piece(LaneInput& lane);
  const std::string& task_name(std::uint64_t function);

  // --- one record to the sinks: drain_delivery.cpp. What each record passes is one function, when compiled
  // ---
  std::size_t deliver_oldest(std::uint64_t now, std::uint64_t until);
  inline Taken deliver_head(Source& source, LaneInput& lane, Run& run);
  Taken deliver_long(Source& source, LaneInput& lane, std::size_t payload, std::size_t bytes, Run& run);
  /// `keep`: the record's place is in the history; else it is in scratch memory.
  template <bool keep>
  inline Taken deliver(Source& source, LaneInput& lane, Encoded encoded, Run& run);
  inline bool take_head(LaneInput& lane, std::size_t payload, std::byte* entry);
  bool take_large(LaneInput& lane, std::size_t payload, std::byte* entry);
  const Site* turn_to_site(Source& source, LaneInput& lane, std::uint32_t index, Encoded& encoded);
  static std::span<const std::byte> site_before(std::span<const std::byte> payload) noexcept;
  static inline void put_kept(const LaneInput& lane, const Encoded& encoded) noexcept;
  Taken hold_back(Encoded encoded, bool is_kept);
  void keep_cut(Delivery& delivery);
  Taken deliver_special(Source& source, LaneInput& lane);
  Taken take_gap(Source& source, LaneInput& lane, ByteReader& bytes);
  Taken deliver_raw(Source& source, LaneInput& lane, ByteReader& bytes);
  bool is_for_flight(const LaneInput& lane) const noexcept;
  void deliver_emitted(EmittedRecord& emitted);
  void keep_emitted(const LogRecord& record);
  void to_sinks(const LogRecord& record);
  void to_sinks(Delivery& delivery) {
    if (on_record) [[unlikely]]
      return to_sinks_patched(delivery);
    sinks.write(delivery);
  }
  void to_sinks_patched(Delivery& delivery);
  static void give_back_memory(LogRecord& record, TextBuffer& scratch);
  bool mark_late(std::uint64_t tick) noexcept {
    if (tick >= last_tick_) [[likely]] {
      last_tick_ = tick;
      return false;
    }
    SourceCounters::add(counters.late, 1);
    return true;
  }

  // --- what is told about sources: drain_notes.cpp ---
  void note(Source& source, Level level, std::string message, std::uint64_t tick);
  void note_drops(Source& source, LaneInput& lane, std::uint64_t dropped_in_all, std::uint64_t tick);
  void note_unreadable(Source& source, std::uint64_t tick);
  void note_raw_lost(Source& source);
  void set_corrupt(Source& source, const char* what);
  /// A record, or whatever stands in its place, makes no sense. A worker may have written anything anywhere:
  /// its log ends here. The parent is trusted: what is lost is this record; it is counted, and told.
  Taken lose(Source& source, const char* what);
  Taken lose_head(Source& source, LaneInput& lane, const char* what);

  LogAreaShape shape_;
  std::chrono::milliseconds hold_limit_;
  std::uint64_t hold_ticks_ = 0;
  CollectorHooks hooks_;
  std::shared_ptr<History> history_;
  std::unique_ptr<History> flight_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::unordered_map<std::uint64_t, std::string> task_names_;
  std::vector<std::pair<SourceId, std::string>> corrupt_news_;
  RecordClock clock_;
  std::uint64_t last_tick_ = 0;         ///< of the youngest record delivered
  std::uint64_t previous_round_ = 0;    ///< when the former round began
  std::vector<Head> heads_;             ///< a heap, the oldest first
  std::vector<EmittedRecord> emitted_;  ///< by tick
  /// Parts of the record at hand.
  struct {
    std::vector<std::byte> bytes;
    TextBuffer message;
    Arguments arguments;
    LogRecord patched;
  } scratch_;
  std::uint64_t facts_ids_ = own_facts_ids();  ///< given to lanes so far
  CollectorState state_ = CollectorState::absent;
};

/// Adds to a counter that only the collector's thread writes.
inline void add(std::atomic<std::uint64_t>& counter, std::uint64_t count) noexcept {
  SourceCounters::add(counter, count);
}

}  // namespace kindred::internal
