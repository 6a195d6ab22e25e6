#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "kindred/internal/assert.hpp"
#include "watch/task_names.hpp"

namespace kindred::internal {

/// Something that a trace shows. Times are in ticks.
struct TraceEvent {
  enum class Kind : std::uint8_t {
    run,             ///< a task's run ended: `submitted`, `begun`, `ended`
    caused,          ///< `task_id` was submitted by a callback of task `submitted`
    worker_started,  ///< at `begun`: `task_id` is its pid, `submitted` its incarnation
    worker_died,     ///< at `begun`: the same
    counters         ///< at `begun`: `submitted` pending, `ended` handed, `task_id` workers
  };
  enum class Outcome : std::uint8_t { value, failure, lost, running };

  Kind kind = Kind::run;
  Outcome outcome = Outcome::value;
  std::uint16_t attempt = 0;
  std::int32_t worker = -1;
  const TaskNameEntry* name = nullptr;  ///< lives as long as the pool
  std::uint64_t task_id = 0;
  std::uint64_t submitted = 0;
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;
};

/// Events on their way from the pool to the trace's thread, without a lock between them: the trace's thread
/// yields to others, and must not hold what the pool waits for. What finds no room is counted.
///
/// Threads: one writes (the one that holds the pool's lock), one reads.
class TraceFeed {
 public:
  static constexpr std::size_t capacity = std::size_t{1} << 16U;  // 3 MiB

  void put(const TraceEvent& event) noexcept {
    const auto tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == capacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == capacity) {
        lost_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
    }
    KINDRED_ASSERT(tail - head_seen_ < capacity);
    events_[tail % capacity] = event;
    // Order: release, pairs with the acquire in `take`: the event, and the name entry that it points to, come
    // before it.
    tail_.store(tail + 1, std::memory_order_release);
  }
  /// Calls `put` with each event that is there.
  template <class Put>
  void take(Put&& put) {
    const auto tail = tail_.load(std::memory_order_acquire);
    for (auto head = head_.load(std::memory_order_relaxed); head != tail;) {
      const TraceEvent event = events_[head % capacity];
      // Order: release, pairs with the acquire in `put`: the event has been read.
      head_.store(++head, std::memory_order_release);
      put(event);
    }
  }
  [[nodiscard]] std::uint64_t lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

 private:
  std::unique_ptr<TraceEvent[]> events_ = std::make_unique<TraceEvent[]>(capacity);
  alignas(64) std::atomic<std::uint64_t> tail_{0};
  std::uint64_t head_seen_ = 0;  // the writer's
  std::atomic<std::uint64_t> lost_{0};
  alignas(64) std::atomic<std::uint64_t> head_{0};
};

}  // namespace kindred::internal
