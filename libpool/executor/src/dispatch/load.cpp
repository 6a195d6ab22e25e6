#include "dispatch/load.hpp"

namespace kindred::internal {

void Load::note_times(Locked, WorkerSlot& slot, const RunAverage::Batch& times) noexcept {
  if (times.results == 0) return;
  const double mean = static_cast<double>(times.counted) / static_cast<double>(times.results);
  const double kept = RunAverage::kept_share(times.results);
  slot.average.move_towards(mean, kept, ticks_of(1'000));
  average_.move_towards(mean, kept, ticks_of(1'000));
  sums_.run += times.ran;
  sums_.queue += times.queued;
  slot.run_ticks += times.ran;
  slot.queue_ticks += times.queued;
}

bool Load::runs_long_by_its_word(Locked locked, const WorkerSlot& slot, std::uint64_t now) const noexcept {
  if (is_unresponsive(locked, slot, now)) return true;
  const SegmentHeader& header = slot.header();
  if (header.begun_attempt.load(std::memory_order_relaxed) != slot.in_flight.front().task->attempt())
    return false;
  const std::uint64_t begun = header.begun_ticks.load(std::memory_order_relaxed);
  return now > begun && now - begun >= static_cast<std::uint64_t>(times_.long_run);
}

bool front_is_unbegun(Locked, const WorkerSlot& slot) noexcept {
  const InFlight& front = slot.in_flight.front();
  return front.header->state.load(std::memory_order_relaxed) == call_state::queued &&
         !front.task->is_suspect();
}

bool has_lost_a_call(Locked, WorkerSlot& slot) noexcept {
  return slot.segment && slot.ready && !slot.in_flight.empty() && slot.kill_reason == KillReason::none &&
         slot.calls.drained() && !slot.results.ready();
}

bool still_silent(Locked, WorkerSlot& slot) noexcept {
  if (slot.calls.drained()) slot.silent_since.reset();
  return slot.silent();
}

}  // namespace kindred::internal
