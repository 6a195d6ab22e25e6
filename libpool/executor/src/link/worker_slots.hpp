#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/locked.hpp"
#include "link/worker_slot.hpp"

namespace kindred::internal {

/// The pool's slots for workers, and how many calls and workers there are. The list never shrinks. Guarded by
/// the pool's lock, except `max()`.
class WorkerSlots {
 public:
  class Iterator {
   public:
    explicit Iterator(const std::unique_ptr<WorkerSlot>* at) noexcept : at_{at} {}
    WorkerSlot& operator*() const noexcept { return **at_; }
    Iterator& operator++() noexcept {
      ++at_;
      return *this;
    }
    bool operator==(const Iterator&) const noexcept = default;

   private:
    const std::unique_ptr<WorkerSlot>* at_;
  };
  struct Range {
    const std::vector<std::unique_ptr<WorkerSlot>>& slots;
    [[nodiscard]] Iterator begin() const noexcept { return Iterator{slots.data()}; }
    [[nodiscard]] Iterator end() const noexcept { return Iterator{slots.data() + slots.size()}; }
  };

  [[nodiscard]] Range all(Locked) const noexcept { return {slots_}; }
  [[nodiscard]] std::size_t size(Locked) const noexcept { return slots_.size(); }
  [[nodiscard]] WorkerSlot& at(Locked, std::size_t index) const noexcept {
    KINDRED_ASSERT(index < slots_.size());
    return *slots_[index];
  }
  /// May there be another worker?
  [[nodiscard]] bool has_free_slot(Locked locked) const noexcept {
    for (const WorkerSlot& slot : all(locked)) {
      if (slot.state == WorkerSlot::State::empty && static_cast<std::size_t>(slot.index) < max()) return true;
    }
    return slots_.size() < max();
  }
  /// An empty slot for another worker; null where there are as many workers as may be.
  [[nodiscard]] WorkerSlot* free_slot(Locked locked) {
    for (WorkerSlot& slot : all(locked)) {
      if (slot.state == WorkerSlot::State::empty && static_cast<std::size_t>(slot.index) < max())
        return &slot;
    }
    if (slots_.size() >= max()) return nullptr;
    slots_.push_back(std::make_unique<WorkerSlot>());
    slots_.back()->index = slots_.back()->stats.index = static_cast<int>(slots_.size() - 1);
    return slots_.back().get();
  }

  /// Workers that are alive, starting, leaving or being buried.
  [[nodiscard]] std::size_t live(Locked locked) const noexcept {
    std::size_t live = 0;
    for (const WorkerSlot& slot : all(locked)) live += slot.state != WorkerSlot::State::empty ? 1U : 0U;
    return live;
  }
  /// Calls in rings. The slots' queues count the same calls one by one.
  [[nodiscard]] std::size_t in_flight(Locked) const noexcept { return in_flight_; }
  void note_dispatched(Locked) noexcept { ++in_flight_; }
  void note_left(Locked) noexcept {
    KINDRED_ASSERT(in_flight_ != 0U);
    --in_flight_;
  }

  /// Any thread.
  [[nodiscard]] std::size_t max() const noexcept { return max_.load(std::memory_order_relaxed); }
  void set_max(std::size_t workers) noexcept { max_.store(workers, std::memory_order_relaxed); }

  /// Workers that the supervisor is to start.
  [[nodiscard]] std::size_t wanted(Locked) const noexcept { return wanted_; }
  void want_another(Locked) noexcept { ++wanted_; }
  void want_one_less(Locked) noexcept {
    if (wanted_ != 0) --wanted_;
  }
  void want_no_more(Locked) noexcept { wanted_ = 0; }

 private:
  std::vector<std::unique_ptr<WorkerSlot>> slots_;
  std::size_t in_flight_ = 0;
  std::size_t wanted_ = 0;
  std::atomic<std::size_t> max_{1};
};

}  // namespace kindred::internal
