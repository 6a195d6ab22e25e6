#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/doorbell.hpp"
#include "kindred/internal/lane.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"
#include "record/site.hpp"

namespace kindred::internal {

/// A record as it is kept: encoded, with all that its lane knew. Behind it follow the arguments and then the
/// texts, in the order of the counts.
struct KeptRecord {
  std::uint32_t bytes;      ///< of all, a multiple of 8
  std::uint32_t arguments;  ///< bytes; `padding`: nothing up to the end of the lap
  const Site* site;
  std::int64_t time;  ///< ns of the system clock
  std::uint64_t task_id;
  std::uint64_t sequence;
  std::int32_t worker;
  std::uint32_t incarnation;
  std::uint32_t pid;
  std::uint32_t tid;
  std::uint32_t attempt;
  std::uint32_t scope_bytes;    ///< encoded fields
  std::uint32_t binding_bytes;  ///< encoded fields
  std::uint16_t logger_bytes;
  std::uint16_t task_name_bytes;
  std::uint32_t arguments_offset;  ///< from behind this head
  Origin origin;
  bool late;
  bool taken;  ///< out of the flight recorder
  std::uint8_t spare;
  // A record is copied in with its head from the lane, which these two are written over.
  std::uint64_t previous_of_task;  ///< `History`'s own: the position, +1, of the task's record before this
  std::uint64_t room;
  static constexpr std::uint32_t padding = 0xffff'ffffU;
};
static_assert(sizeof(KeptRecord) % 8 == 0);

/// What is kept of a record beside its bytes and its site, whose members stay 0.
[[nodiscard]] KeptRecord kept_of(const LogRecord& record) noexcept;

/// Reads a kept record. `bytes` is private, or the history's own on the collector's thread. False where its
/// arguments make no sense.
bool read_kept(std::span<const std::byte> bytes, LogRecord& record, TextBuffer& scratch);

/// The latest records of a log, in a fixed amount of memory: the oldest are forgotten for the newest.
///
/// Threads: one writes (the collector's); any thread reads.
class History {
 public:
  explicit History(std::size_t bytes);

  /// The sites of the records that are kept here.
  [[nodiscard]] SiteTable& sites() noexcept { return sites_; }

  // --- the collector's thread ---
  [[nodiscard]] std::size_t longest() const noexcept { return capacity_ / 8; }
  /// Returns room for a record of up to `bytes` (at most `longest()`), in one piece.
  [[nodiscard]] std::byte* reserve(std::size_t bytes) {
    bytes = round_to_record(bytes);
    return bytes <= room_ ? memory_.get() + head_offset_ : make_room(bytes);
  }
  /// As `reserve`; null for a record longer than `longest()`.
  [[nodiscard]] std::byte* reserve_if_short(std::size_t bytes) {
    if (bytes <= room_) [[likely]]
      return memory_.get() + head_offset_;
    return bytes <= longest() ? make_room(bytes) : nullptr;
  }
  /// The record of `bytes` in the reserved room is complete. Returns its position.
  std::uint64_t commit(std::size_t bytes) noexcept {
    const std::uint64_t position = head_;
    note_latest_of_task(position);
    KINDRED_ASSERT(bytes <= room_);
    head_ += bytes;
    head_offset_ += bytes;
    room_ -= bytes;
    if (head_offset_ == capacity_) head_offset_ = 0;
    ++head_ordinal_;
    if (head_ >= next_mark_) [[unlikely]]
      set_mark();
    return position;
  }
  /// Shows readers what was committed.
  void publish() noexcept;
  /// The record at a position, if it is still there.
  [[nodiscard]] const KeptRecord* at(std::uint64_t position) const noexcept;
  /// Calls `fn` with each record, oldest first.
  void each(const std::function<void(KeptRecord&)>& fn);

  // --- any thread ---
  void close() noexcept;  ///< there will be no more
  struct Place {
    std::uint64_t position = 0;
    std::uint64_t ordinal = 0;  ///< of the record there, from 0
  };
  [[nodiscard]] Place oldest() const;
  [[nodiscard]] Place newest() const;  ///< behind the latest
  /// Copies the records from `place` on to `out`, up to about `max_bytes`, passes over them, and returns how
  /// many before them were forgotten.
  std::uint64_t copy(Place& place, std::vector<std::byte>& out, std::size_t max_bytes) const;
  /// Copies all records of a task. Costs what its records cost, not what is kept.
  void copy_task(std::uint64_t task_id, std::vector<std::byte>& out) const;
  /// Sleeps until there is something at `place`. Returns false where there never will be.
  bool wait_beyond(const Place& place) const;
  /// For a reader that waits for something else as well. Returns what there is at `place`; where that is
  /// nothing yet, calls `sleep` once, which is to return when the bell rings, or whenever it likes. The bell
  /// is one of those that `hear` was given.
  enum class Next : std::uint8_t { something, nothing, closed };
  Next next(const Place& place, const std::function<void()>& sleep) const;
  void hear(const Doorbell& bell);
  void stop_hearing(const Doorbell& bell) noexcept;

 private:
  /// The position, +1, of the latest record of the tasks that share a place by their ids; 0: none yet.
  using LatestOfTask = std::atomic<std::uint64_t>;
  [[nodiscard]] LatestOfTask& latest_of(std::uint64_t task_id) const noexcept {
    return latest_of_task_[task_id & (task_places_ - 1)];
  }
  void note_latest_of_task(std::uint64_t position) noexcept {
    auto& record = *reinterpret_cast<KeptRecord*>(memory_.get() + head_offset_);
    if (record.task_id == 0) return;
    LatestOfTask& latest = latest_of(record.task_id);
    record.previous_of_task = latest.load(std::memory_order_relaxed);
    // Order: pairs with the acquire in `copy_task`: the record and the one that it names are whole.
    latest.store(position + 1, std::memory_order_release);
  }
  std::byte* make_room(std::size_t bytes);
  void set_mark() noexcept;
  void forget(std::size_t bytes);
  void tell_readers() noexcept;
  [[nodiscard]] const KeptRecord& record_at(std::uint64_t position) const noexcept {
    return *reinterpret_cast<const KeptRecord*>(memory_.get() + position % capacity_);
  }

  SiteTable sites_;
  std::size_t capacity_;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t task_places_;  // a power of two
  std::unique_ptr<LatestOfTask[]> latest_of_task_;

  // The collector's.
  std::uint64_t head_ = 0;  ///< behind the latest
  std::size_t head_offset_ = 0;
  /// Free bytes behind the head in one piece, of which records are made without a look: `longest()` at most.
  std::size_t room_ = 0;
  std::uint64_t head_ordinal_ = 0;
  std::uint64_t tail_ = 0;  ///< as `begin_.position`
  // Some positions where a record begins, a part of the capacity apart, from the oldest on.
  std::array<Place, 64> marks_{};
  std::uint64_t marks_begin_ = 0;
  std::uint64_t marks_end_ = 0;
  std::uint64_t next_mark_ = 0;  ///< position from which on the next mark is set

  mutable std::mutex lock_;  ///< of what follows; bytes between begin and end change only under it
  Place begin_;
  Place end_;
  bool closed_ = false;
  std::vector<const Doorbell*> bells_;
  mutable std::atomic<std::uint32_t> waiting_{0};
  mutable std::atomic<std::uint32_t> published_{0};  ///< a futex word, raised where a thread waits
};

}  // namespace kindred::internal
