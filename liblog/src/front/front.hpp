#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "front/small_lock.hpp"
#include "kindred/internal/log_front.hpp"
#include "record/site.hpp"

namespace kindred::internal {

// States of `LaneState::closed`.
inline constexpr std::uint8_t lane_closed = 1;
inline constexpr std::uint8_t lane_reopened =
    2;  ///< open again: its thread has to tell the collector everything anew

struct SiteKeyHash {
  std::size_t operator()(const SiteKey& key) const noexcept {
    constexpr std::uint64_t spread = 0x9e37'79b9'7f4a'7c15U;
    const auto a = reinterpret_cast<std::uintptr_t>(key.address) * spread;
    const auto b = (reinterpret_cast<std::uintptr_t>(key.format) ^
                    reinterpret_cast<std::uintptr_t>(key.types) << 1U ^ std::uint64_t{key.shape} << 32U) *
                   spread;
    return (a ^ b >> 29U) * spread >> 7U;
  }
};

/// How a front of the parent's reaches its collector: a function and its argument, so that `attach_log` needs
/// none of it.
struct CollectorLink {
  void (*start)(void* collector) noexcept = nullptr;
  void* collector = nullptr;
};

/// A process's side of one log area: which threads have which lanes, which sites the dictionary has. Lives as
/// long as the process, because any thread may come by at any time, static destructors included; the parent's
/// are used again for a later executor.
class LogFront {
 public:
  /// `area` is formatted. `attribute_tasks`: records belong to the process's task.
  LogFront(std::span<std::byte> area, bool attribute_tasks) noexcept;
  LogFront(const LogFront&) = delete;
  LogFront& operator=(const LogFront&) = delete;

  /// Begins to take records, for the owner of `life`. `bell` must outlive `close`.
  void open(const ContextLife* life, const SharedBell& bell, CollectorLink link) noexcept;
  /// Takes none any more: from now on calls go to stderr. Returns when no call is within a record, or after
  /// `limit`.
  void close(std::chrono::milliseconds limit) noexcept;

  [[nodiscard]] LogControl& control() const noexcept { return *reinterpret_cast<LogControl*>(area_.data()); }
  [[nodiscard]] NamedLevels& named_levels() const noexcept {
    return *reinterpret_cast<NamedLevels*>(area_.data() + shape_.named_offset());
  }
  [[nodiscard]] const LogAreaShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::span<std::byte> area() const noexcept { return area_; }
  [[nodiscard]] LaneLines<>& lines(std::uint32_t lane) const noexcept {
    return LogAreaShape::lines(area_, lane);
  }
  [[nodiscard]] std::uint32_t serial() const noexcept { return serial_; }
  [[nodiscard]] bool belongs_to(const ContextLife* life) const noexcept {
    return owner_.load(std::memory_order_acquire) == life;
  }
  [[nodiscard]] bool is_open() const noexcept { return open_.load(std::memory_order_acquire); }
  /// Is this the log of a worker, which another process collects?
  [[nodiscard]] bool is_of_worker() const noexcept { return attribute_tasks_; }
  [[nodiscard]] bool inherited() const noexcept { return generation_ != fork_generation(); }

  [[nodiscard]] LaneState*
  take_lane() noexcept;  ///< one of its own for the calling thread; null: none is left
  void give_back_lane(LaneState& lane) noexcept;
  [[nodiscard]] LaneState* lock_shared_lane() noexcept;  ///< null: no memory
  void unlock_shared_lane(LaneState& lane) noexcept;
  [[nodiscard]] std::uint32_t find_site(const SiteKey& key, const SiteFacts& facts) noexcept;
  /// After `closed` was seen in a lane: has the front been opened again? Then the lane is told anew of
  /// everything.
  [[nodiscard]] bool reopened(LaneState& lane) noexcept;
  void ring() noexcept;
  /// The lane of signal handlers, made while memory may be asked for.
  bool make_raw_lane() noexcept;
  void write_raw(Level level, std::string_view text) noexcept;

  // --- the parent's: records that are to be in the sinks at once ---
  /// Log calls of this level and above return when their records are in the sinks (`LogOptions::flush_on`).
  [[nodiscard]] Level flush_level() const noexcept { return flush_level_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::chrono::milliseconds flush_limit() const noexcept {
    return std::chrono::milliseconds{flush_limit_ms_.load(std::memory_order_relaxed)};
  }
  /// `limit`: for each wait.
  void set_flush(Level level, std::chrono::milliseconds limit) noexcept;
  /// Waits until all that was committed before, in any process, is in every sink, flushed. False: the limit
  /// of `set_flush` passed. Async-signal-safe.
  bool flush_now() noexcept;
  /// The collector has a thread, which may just be starting.
  void collector_started() noexcept { collector_started_.store(true, std::memory_order_release); }
  /// For the collector: the number of the latest request to flush, and of the latest one that was done.
  [[nodiscard]] std::uint32_t flushes_asked() const noexcept {
    return flushes_asked_.load(std::memory_order_seq_cst);
  }
  [[nodiscard]] std::uint32_t flushes_done() const noexcept {
    return flushes_done_.load(std::memory_order_acquire);
  }
  void flushed(std::uint32_t number) noexcept;

  [[nodiscard]] std::chrono::milliseconds block_limit() const noexcept {
    return std::chrono::milliseconds{control().block_limit_ms};
  }

 private:
  [[nodiscard]] LaneState* make_lane(std::uint32_t index) noexcept;
  void watch_flushes(LaneState& lane) const noexcept;

  std::span<std::byte> area_;
  LogAreaShape shape_;
  std::uint32_t serial_;
  std::uint32_t generation_;
  bool attribute_tasks_;
  bool full_fence_;
  std::atomic<bool> open_{false};
  std::atomic<const ContextLife*> owner_{nullptr};
  std::atomic<const SharedBell*> bell_{nullptr};
  std::atomic<Level> flush_level_{Level::off};
  std::atomic<std::int64_t> flush_limit_ms_{0};
  std::atomic<bool> collector_started_{false};
  std::atomic<std::uint32_t> flushes_asked_{0};
  std::atomic<std::uint32_t> flushes_done_{0};  ///< a futex word
  SmallLock link_lock_;
  CollectorLink link_;

  SmallLock lock_;                      ///< of what follows
  std::array<LaneState*, 64> lanes_{};  ///< made once, and then there as long as this is
  std::array<bool, 64> taken_{};
  std::unordered_map<SiteKey, std::uint32_t, SiteKeyHash> sites_;
  std::uint32_t site_count_ = 0;

  SmallLock shared_lock_;  ///< held while the shared lane is written
  SmallLock raw_lock_;     ///< only tried
};

/// Opens a front of this process over private memory, for a collector in it: a former one of the same shape,
/// or a new one. Errors: `std::bad_alloc`.
[[nodiscard]] LogFront& open_local_front(const LogOptions& options, const ContextLife* life,
                                         const SharedBell& bell, CollectorLink link);
/// Closes it: `LogFront::close`.
void close_local_front(LogFront& front, std::chrono::milliseconds limit) noexcept;
/// Its collector has drained it: it may be opened again.
void keep_local_front(LogFront& front) noexcept;

/// Flushes all logs of this process, each for at most its limit; from then on each log call of this thread is
/// flushed, because the program is about to end. Called at exit. Async-signal-safe where `for_good` is false.
void flush_local_fronts(bool for_good) noexcept;
/// Has the logs of this process flushed at `exit` and `quick_exit`. Idempotent.
void flush_at_exit();
/// Has the logs say why the program ends, and flushed, before an uncaught exception or a fatal signal ends it
/// (`LogOptions::last_words`). Idempotent, for good.
void speak_last_words();

/// While an object of it lives, its thread is a collector's, and log calls of the thread go to stderr: in the
/// log it would wait for itself, or two logs for each other. In a worker they go to the worker's log, which
/// another process collects: so the sinks of a pool in a worker may log.
class CollectorThread {
 public:
  CollectorThread() noexcept;
  CollectorThread(const CollectorThread&) = delete;
  CollectorThread& operator=(const CollectorThread&) = delete;
  ~CollectorThread();
};

/// spdlog's own threads stayed in the parent when this process was forked: its registry must not wait for
/// them at exit.
void forget_spdlog_threads();

/// What this process logs where it has no log: by KINDRED_LOG_LEVEL, SPDLOG_LEVEL, else info.
[[nodiscard]] const struct LevelSettings& stderr_levels() noexcept;
[[nodiscard]] bool stderr_enabled(Level level) noexcept;
/// Writes a record to stderr as one line.
void write_to_stderr(const LogRecord& record) noexcept;
/// Writes a text and a newline to stderr, with characters that control a terminal replaced.
/// Async-signal-safe.
void write_raw_to_stderr(std::string_view text) noexcept;

}  // namespace kindred::internal
