#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/injection.hpp"

#if defined(__SANITIZE_THREAD__)
#define KINDRED_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KINDRED_THREAD_SANITIZER 1
#endif
#endif
#ifndef KINDRED_THREAD_SANITIZER
#define KINDRED_THREAD_SANITIZER 0
#endif

namespace kindred::internal {

/// The shared words of a lane. Each line is written by one side (`consumed` by both where the oldest records
/// may be dropped).
///
///     producer's line   | published, bit 0: entering | dropped | waits |
///     consumer's line   | consumed                   | moved           |
///
/// Cursors count bytes ever; records are multiples of 8, so bit 0 of `published` is free to say "a record is
/// being written": one store commits a record and leaves, and one load sees both.
template <std::unsigned_integral Cursor = std::uint64_t>
struct LaneLines {
  alignas(128) std::atomic<Cursor> published{0};
  std::atomic<std::uint64_t> dropped{0};  ///< records given up so far
  std::atomic<std::uint32_t> waits{0};    ///< the producer sleeps on `moved`
  alignas(128) std::atomic<Cursor> consumed{0};
  std::atomic<std::uint32_t> moved{0};  ///< raised when `consumed` has grown while the producer waits
};

/// A record in a lane. Sizes are multiples of 8; a record never wraps.
///
///     +--------+------------------+------------------+
///     | slot 8 | size 24          | site 32          |   slot: the binding (logger name and fields); 0: none
///     +--------+------------------+------------------+
///     | ticks 64                                     |   not in controls
///     +----------------------------------------------+
///     | arguments, one after the other, unaligned    |
///     +----------------------------------------------+
///
/// Sites from `first_control` up are ours. Controls change what the collector knows of the lane, and are no
/// records themselves.
namespace record_site {
inline constexpr std::uint32_t first_control = 0xffff'ff00U;
inline constexpr std::uint32_t padding = 0xffff'ff00U;  ///< up to the end of the lap (or block)
inline constexpr std::uint32_t thread =
    0xffff'ff01U;  ///< u32 tid, u32 reset, u64 next sequence, u64 dropped so far, u64 pid
inline constexpr std::uint32_t task = 0xffff'ff02U;   ///< u64 id, u64 function, u32 attempt, u32 bytes, name
inline constexpr std::uint32_t scope = 0xffff'ff03U;  ///< u32 count, fields
inline constexpr std::uint32_t binding =
    0xffff'ff04U;  ///< for the slot in its first word: u32 bytes, name, u32 count, fields
inline constexpr std::uint32_t first_timed = 0xffff'ff80U;
inline constexpr std::uint32_t gap = 0xffff'ff80U;  ///< u64 dropped so far, u64 next sequence
inline constexpr std::uint32_t inlined =
    0xffff'ff81U;  ///< u32 bytes, the site as in the dictionary, then the arguments
inline constexpr std::uint32_t raw = 0xffff'ff82U;  ///< u32 level, u32 tid, text: from a signal handler
inline constexpr std::uint32_t begin =
    0xffff'ff83U;  ///< u64 bytes in all, then the first piece of a record that is larger than a lane
inline constexpr std::uint32_t more = 0xffff'ff84U;  ///< u64 bytes before, then the next piece
}  // namespace record_site

inline constexpr std::uint32_t record_size_mask = 0x00ff'ffffU;
inline constexpr unsigned record_slot_shift = 24;
inline constexpr std::size_t record_head_bytes = 16;
inline constexpr std::size_t control_head_bytes = 8;

[[nodiscard]] constexpr std::size_t round_to_record(std::size_t bytes) noexcept {
  return (bytes + 7) & ~std::size_t{7};
}
/// Is it a message, which counts when it is dropped?
[[nodiscard]] constexpr bool is_message(std::uint32_t site) noexcept {
  return site < record_site::first_control || site == record_site::inlined || site == record_site::raw ||
         site == record_site::begin;
}

/// The producer's end of a lane. All state it relies on is its own; of the collector it reads one cursor.
///
/// With `overwrite`, the lane is cut into eight blocks that no record spans. Where there is no room, the
/// producer gives up the block with the oldest records: it moves `consumed` to the block's end by
/// compare-and-swap, which is also how the collector claims each record after it has copied it; so each
/// record is either the collector's or counted as dropped, never both. A block begins with controls that say
/// all that those of earlier blocks said, because they may be gone: see `begun_block`.
///
/// Threads: one at a time.
template <std::unsigned_integral Cursor = std::uint64_t>
class LaneWriter {
 public:
  LaneWriter() = default;
  LaneWriter(std::span<std::byte> room, LaneLines<Cursor>& lines, bool overwrite, bool full_fence) noexcept
      : room_{room.data()},
        mask_{room.size() - 1},
        head_{lines.published.load(std::memory_order_relaxed)},
        room_end_{head_},
        lines_{&lines},
        consumed_{lines.consumed.load(std::memory_order_relaxed)},
        largest_{room.size() / (overwrite ? 32 : 4)},
        care_{static_cast<std::uint8_t>(stale | (full_fence ? full_fence_needed : 0))},
        overwrite_{overwrite} {}

  /// Returns where `bytes` (a multiple of 8, at most `largest()`) can be written in one piece; null where
  /// there is no room now.
  [[nodiscard]] std::byte* reserve(std::size_t bytes) noexcept {
    if (static_cast<Cursor>(room_end_ - head_) < bytes) [[unlikely]] {
      if (!make_room(bytes)) return nullptr;
    }
    return place(head_);
  }
  /// As `reserve`, but never at the cost of records that are unread.
  [[nodiscard]] std::byte* reserve_unread(std::size_t bytes) noexcept {
    const bool overwrite = std::exchange(keep_unread_, true);
    std::byte* const at = reserve(bytes);
    keep_unread_ = overwrite;
    return at;
  }
  [[nodiscard]] std::size_t largest() const noexcept { return largest_; }
  [[nodiscard]] const std::atomic<Cursor>& published() const noexcept { return lines_->published; }
  [[nodiscard]] std::size_t capacity() const noexcept { return mask_ + 1; }
  [[nodiscard]] std::span<std::byte> room() const noexcept { return {room_, capacity()}; }

  /// Says that a record is being written, then returns its time.
  ///
  /// Order: the store of `entering` comes before the clock is read, in this thread's program order; the
  /// collector's `heavy_barrier()` turns that into an order that it can rely on (see order_and_watermark.md).
  /// Release, because padding and controls in front of the record become visible with it.
  [[nodiscard]] std::uint64_t enter() noexcept {
    if ((care_ & full_fence_needed) == 0) [[likely]]
      return enter_plain(head_);
    lines_->published.exchange(static_cast<Cursor>(head_ | 1U), std::memory_order_seq_cst);
#if defined(__x86_64__)
    __builtin_ia32_lfence();
#elif defined(__aarch64__)
    // The counter is no memory, so the exchange alone does not come before its reading: `dsb` waits until the
    // store is visible, `isb` keeps the counter from being read ahead of that.
    asm volatile("dsb ish\n\tisb" ::: "memory");
#endif
    return read_clock();
  }
  /// Makes the record of `bytes` at the reserved place visible, and leaves.
  /// Crash: before this store the record does not exist (and `entering` says that one was begun); after it,
  /// it is committed.
  void commit(std::size_t bytes) noexcept {
    KINDRED_INJECTION_POINT("log.before_commit");
    head_ = static_cast<Cursor>(head_ + bytes);
    leave();
    KINDRED_INJECTION_POINT("log.committed");
  }
  /// Can a record of that size be written now, by the functions that follow, with nothing to be done before?
  [[nodiscard]] bool is_plain(std::size_t bytes) const noexcept {
    return static_cast<Cursor>(room_end_ - head_) >= bytes && care_ == 0;
  }
  [[nodiscard]] Cursor head() const noexcept { return head_; }
  [[nodiscard]] std::byte* place(Cursor head) const noexcept {
    return room_ + (static_cast<std::size_t>(head) & mask_);
  }
  [[nodiscard]] std::uint64_t enter_plain(Cursor head) noexcept {
    lines_->published.store(static_cast<Cursor>(head | 1U), std::memory_order_release);
    return read_clock();
  }
  void commit_plain(Cursor head, std::size_t bytes) noexcept {
    KINDRED_INJECTION_POINT("log.before_commit");
    head_ = static_cast<Cursor>(head + bytes);
    leave_plain(head_);
    KINDRED_INJECTION_POINT("log.committed");
  }
  void leave_plain(Cursor head) noexcept {
    lines_->published.store(head,
                            std::memory_order_release);  // Order: pairs with the acquire in LaneReader::look
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  /// Leaves without a record.
  void leave() noexcept {
    if ((care_ & full_fence_needed) == 0) [[likely]]
      return leave_plain(head_);
    lines_->published.exchange(head_, std::memory_order_seq_cst);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  /// Makes a piece of a larger record visible: more is to come before `commit`.
  void commit_piece(std::size_t bytes) noexcept {
    head_ = static_cast<Cursor>(head_ + bytes);
    lines_->published.store(static_cast<Cursor>(head_ | 1U), std::memory_order_release);
  }
  /// Passes over a control at the reserved place: it becomes visible together with the record behind it.
  void pass(std::size_t bytes) noexcept { head_ = static_cast<Cursor>(head_ + bytes); }

  void count_dropped(std::uint64_t records) noexcept {
    lines_->dropped.store(lines_->dropped.load(std::memory_order_relaxed) + records,
                          std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t dropped() const noexcept {
    return lines_->dropped.load(std::memory_order_relaxed);
  }
  /// Has a new block begun since `clear_stale`? Then all controls are to be written again before the next
  /// record.
  [[nodiscard]] bool begun_block() const noexcept { return (care_ & block_begun) != 0; }
  /// Is the collector to be told thread, task and scope before the next record? So it is at first, and after
  /// `make_stale` or when a block has begun.
  [[nodiscard]] bool is_stale() const noexcept { return (care_ & (stale | block_begun)) != 0; }
  void make_stale() noexcept { care_ |= stale; }
  /// It is being told.
  void clear_stale() noexcept { care_ &= full_fence_needed | never_plain; }
  /// Each record is written the careful way, because something may be to be done after it.
  void make_careful() noexcept { care_ |= never_plain; }
  /// Is more than half of the lane unread, by the latest look?
  [[nodiscard]] bool half_full() const noexcept {
    return static_cast<Cursor>(head_ - consumed_) > capacity() / 2;
  }
  [[nodiscard]] Cursor consumed() const noexcept { return consumed_; }
  /// Has the next `reserve` read anew how far the collector has come.
  void forget_room() noexcept { room_end_ = head_; }

  /// Sleeps until the collector has taken something more. Returns false where the deadline passed first.
  /// `nudge` wakes the collector.
  template <class Nudge>
  bool wait_for_consumer(Deadline deadline, Nudge&& nudge) noexcept {
    const auto seen = lines_->moved.load(std::memory_order_acquire);
    // Order: seq_cst on both sides: either the collector sees `waits`, or we see that it has moved (pairs
    // with LaneReader::release).
    lines_->waits.store(1, std::memory_order_seq_cst);
    bool in_time = true;
    if (lines_->consumed.load(std::memory_order_seq_cst) == consumed_) {
      nudge();
      in_time = futex_wait(lines_->moved, seen, deadline);
    }
    lines_->waits.store(0, std::memory_order_relaxed);
    return in_time;
  }

 private:
  // In `care_`.
  static constexpr std::uint8_t full_fence_needed = 1;  ///< for good: the collector's barrier is none of ours
  static constexpr std::uint8_t block_begun = 2;
  static constexpr std::uint8_t stale = 4;
  static constexpr std::uint8_t never_plain = 8;  ///< for good

  static std::uint64_t read_clock() noexcept {
    KINDRED_INJECTION_POINT("log.entered");
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const auto now = ticks();
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return now;
  }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return overwrite_ ? capacity() / 8 : capacity(); }
  [[nodiscard]] std::size_t free() const noexcept {
    return capacity() - static_cast<Cursor>(head_ - consumed_);
  }

  void refresh() noexcept {
    // Order: acquire, pairs with LaneReader::release: the collector has read the bytes that are overwritten
    // now.
    consumed_ = lines_->consumed.load(std::memory_order_acquire);
  }

  bool make_room(std::size_t bytes) noexcept {
    for (;;) {
      const std::size_t at = static_cast<std::size_t>(head_) & mask_;
      const std::size_t to_end = block_bytes() - (at & (block_bytes() - 1));
      const std::size_t needed = bytes <= to_end ? bytes : to_end + bytes;
      refresh();
      if (free() < needed) {
        if (!overwrite_ || keep_unread_) return false;
        KINDRED_INJECTION_POINT("log.lane_full.before_giving_up");  // the collector may drain the lane here
        give_up_oldest_block();
        continue;
      }
      if (bytes > to_end) {
        const std::uint32_t padding[2] = {static_cast<std::uint32_t>(to_end), record_site::padding};
        std::memcpy(room_ + at, padding, sizeof padding);
        head_ = static_cast<Cursor>(head_ + to_end);
        continue;
      }
      if (overwrite_ && to_end == block_bytes()) care_ |= block_begun;
      // A look at the collector's cursor each eighth of the lane is enough to nudge it in time. And no record
      // that is larger than allowed fits into that.
      std::size_t open = free() < to_end ? free() : to_end;
      const std::size_t step = capacity() / 8 < largest_ ? capacity() / 8 : largest_;
      if (open > step) open = bytes > step ? bytes : step;
      room_end_ = static_cast<Cursor>(head_ + open);
      return true;
    }
  }

  void give_up_oldest_block() noexcept {
    // Only where the collector still stands where there was too little room. If it has moved since, there may
    // be room enough, and its block may not even be full: then this does nothing, and the caller looks again.
    Cursor from = consumed_;
    const Cursor to = static_cast<Cursor>((from & ~static_cast<Cursor>(block_bytes() - 1)) + block_bytes());
    // Order: acq_rel: the winner owns the bytes up to `to`; the loser's copy is discarded.
    if (!lines_->consumed.compare_exchange_strong(from, to, std::memory_order_acq_rel)) return;
    std::uint64_t given_up = 0;
    for (Cursor position = from; position != to;) {
      std::uint32_t head[2];
      std::memcpy(head, room_ + (static_cast<std::size_t>(position) & mask_), sizeof head);
      if (is_message(head[1])) ++given_up;
      position = static_cast<Cursor>(position + (head[0] & record_size_mask));
    }
    count_dropped(given_up);
  }

  std::byte* room_ = nullptr;
  std::size_t mask_ = 0;
  Cursor head_ = 0;  ///< end of what was written; behind `published` only between a pass and the next commit
  Cursor room_end_ = 0;  ///< up to here can be written without a look
  LaneLines<Cursor>* lines_ = nullptr;
  Cursor consumed_ = 0;  ///< by the latest look
  std::size_t largest_ = 0;
  std::uint8_t care_ =
      stale | full_fence_needed;  ///< what the plain way does not do; 0, as mostly, and one look tells
  bool overwrite_ = false;
  bool keep_unread_ = false;
};

/// The first words of a record, read once and checked.
struct RecordHead {
  std::uint32_t size = 0;  ///< in the lane
  std::uint32_t site = 0;
  std::uint64_t ticks = 0;  ///< 0 in controls
  std::uint8_t slot = 0;
};

/// The collector's end. It reads each word of the producer's once and checks it: a producer that lies is
/// `corrupt()`, and nothing is read out of bounds. Threads: one at a time.
template <std::unsigned_integral Cursor = std::uint64_t>
class LaneReader {
 public:
  LaneReader() = default;
  LaneReader(std::span<const std::byte> room, LaneLines<Cursor>& lines, bool overwrite) noexcept
      : room_{room.data()}, mask_{room.size() - 1}, lines_{&lines}, overwrite_{overwrite} {}

  /// Reads the producer's word: all records before it can be taken. Returns whether the producer is within a
  /// record.
  bool look() noexcept {
    const Cursor word =
        lines_->published.load(std::memory_order_acquire);  // Order: pairs with LaneWriter::leave
    if (overwrite_ && !resync()) return false;
    const auto published = static_cast<Cursor>(word & ~Cursor{1});
    auto ahead = static_cast<Cursor>(published - position_);
    if (overwrite_ && ahead > std::numeric_limits<Cursor>::max() / 2)
      ahead = 0;  // it gave up records since we read the word
    if ((published & 7U) != 0 || ahead < static_cast<Cursor>(known_ - position_) || ahead > capacity())
        [[unlikely]] {
      corrupt_ = true;
      return false;
    }
    known_ = static_cast<Cursor>(position_ + ahead);
    return (word & 1U) != 0;
  }
  /// Has the word changed since the last `look`? Any time, cheap.
  [[nodiscard]] bool stirred() const noexcept {
    return static_cast<Cursor>(lines_->published.load(std::memory_order_relaxed) & ~Cursor{1}) != known_;
  }
  /// Begins where the former reader of a lane has ended. Only for lanes of the own process: the word is
  /// trusted.
  void begin_at_consumed() noexcept {
    position_ = known_ = released_ = lines_->consumed.load(std::memory_order_acquire);
  }
  /// Passes over all that was published by the latest look, because it cannot be read, and is not `corrupt()`
  /// any more. Only for lanes of the own process, whose producer is trusted to write sense again.
  void skip_unreadable() noexcept {
    corrupt_ = false;
    position_ = known_;
    if (!overwrite_) return;
    Cursor consumed = lines_->consumed.load(std::memory_order_acquire);
    // Order: as in `take`: where the producer gives up records meanwhile, its cursor counts, not ours.
    if (!lines_->consumed.compare_exchange_strong(consumed, position_, std::memory_order_acq_rel))
      position_ = known_ = static_cast<Cursor>(consumed & ~Cursor{7});
  }
  [[nodiscard]] Cursor known() const noexcept { return known_; }
  [[nodiscard]] Cursor position() const noexcept { return position_; }

  /// Reads the next record's head. False where there is none before the latest look, or the producer lies.
  [[nodiscard]] bool peek(RecordHead& head) noexcept {
    for (;;) {
      if (overwrite_ && !resync()) return false;
      if (position_ == known_) return false;
      const std::size_t at = static_cast<std::size_t>(position_) & mask_;
      std::uint32_t words[2];
      copy(words, room_ + at, sizeof words);
      head.size = words[0] & record_size_mask;
      head.slot = static_cast<std::uint8_t>(words[0] >> record_slot_shift);
      head.site = words[1];
      const bool timed = head.site < record_site::first_control || head.site >= record_site::first_timed;
      const std::size_t available = static_cast<Cursor>(known_ - position_);
      const std::size_t to_end = capacity() - at;
      if (head.size < (timed ? record_head_bytes : control_head_bytes) || head.size % 8 != 0 ||
          head.size > available || head.size > to_end) [[unlikely]] {
        if (overwrite_ && lines_->consumed.load(std::memory_order_acquire) != position_)
          continue;  // given up while we read it
        corrupt_ = true;
        return false;
      }
      head.ticks = 0;
      if (timed) copy(&head.ticks, room_ + at + 8, sizeof head.ticks);
      return true;
    }
  }
  /// Copies the record that `peek` showed, and passes over it. False where the producer has given it up
  /// meanwhile.
  [[nodiscard]] bool take(const RecordHead& head, std::byte* target) noexcept {
    copy(target, room_ + (static_cast<std::size_t>(position_) & mask_), head.size);
    const auto next = static_cast<Cursor>(position_ + head.size);
    if (overwrite_) {
      Cursor expected = position_;
      // Order: acq_rel, pairs with LaneWriter::give_up_oldest_block: success says that no producer wrote to
      // the bytes while they were copied.
      if (!lines_->consumed.compare_exchange_strong(expected, next, std::memory_order_acq_rel)) return false;
    }
    position_ = next;
    return true;
  }
  /// Tells the producer how far we are, and wakes it if it waits.
  void release() noexcept {
    if (!overwrite_) {
      if (released_ == position_) return;
      released_ = position_;
      // Order: seq_cst, pairs with LaneWriter::wait_for_consumer; also releases the bytes we have read.
      lines_->consumed.exchange(position_, std::memory_order_seq_cst);
    }
    if (lines_->waits.load(std::memory_order_seq_cst) != 0) {
      lines_->moved.fetch_add(1, std::memory_order_release);
      futex_wake(lines_->moved, 1);
    }
  }
  /// How much has been passed over and not yet released.
  [[nodiscard]] std::size_t unreleased() const noexcept { return static_cast<Cursor>(position_ - released_); }
  [[nodiscard]] std::uint64_t dropped() const noexcept {
    return lines_->dropped.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool entering() const noexcept {
    return (lines_->published.load(std::memory_order_acquire) & 1U) != 0;
  }
  [[nodiscard]] bool corrupt() const noexcept { return corrupt_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return mask_ + 1; }

 private:
  /// Follows the producer where it has given up records. False where its cursor makes no sense.
  [[nodiscard]] bool resync() noexcept {
    const Cursor consumed = lines_->consumed.load(std::memory_order_acquire);
    if (consumed == position_) return true;
    const auto forward = static_cast<Cursor>(consumed - position_);
    if ((consumed & 7U) != 0 || forward > std::numeric_limits<Cursor>::max() / 2) [[unlikely]] {
      corrupt_ = true;
      return false;
    }
    position_ = consumed;
    if (forward > static_cast<Cursor>(known_ - (position_ - forward)))
      known_ = position_;  // beyond our last look
    return true;
  }

  void copy(void* target, const std::byte* source, std::size_t bytes) const noexcept {
    if (overwrite_)
      copy_unsteady(target, source, bytes);
    else
      std::memcpy(target, source, bytes);
  }
  // Where records are overwritten the producer may write what this reads; what was read then is thrown away
  // (as in a seqlock).
#if KINDRED_THREAD_SANITIZER
  __attribute__((no_sanitize("thread"), noinline)) static void copy_unsteady(void* target,
                                                                             const std::byte* source,
                                                                             std::size_t bytes) noexcept {
    for (std::size_t i = 0; i < bytes; ++i)
      static_cast<volatile std::byte*>(target)[i] = static_cast<const volatile std::byte*>(source)[i];
  }
#else
  static void copy_unsteady(void* target, const std::byte* source, std::size_t bytes) noexcept {
    std::memcpy(target, source, bytes);
  }
#endif

  const std::byte* room_ = nullptr;
  std::size_t mask_ = 0;
  LaneLines<Cursor>* lines_ = nullptr;
  Cursor position_ = 0;
  Cursor known_ = 0;
  Cursor released_ = 0;
  bool overwrite_ = false;
  bool corrupt_ = false;
};

}  // namespace kindred::internal
