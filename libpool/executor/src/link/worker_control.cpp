#include "link/worker_control.hpp"

#include <csignal>

#include "kindred/internal/clock.hpp"
#include "kindred/internal/cpu.hpp"

namespace kindred::internal {

void WorkerControl::wake_sleeper(Locked locked, WorkerSlot& slot) noexcept {
  SegmentHeader& header = slot.header();
  // Cleared here so that a burst wakes the worker once; otherwise every call until it runs costs a system
  // call.
  if (header.sleeps.exchange(0, std::memory_order_relaxed) == 0) return;
  woke_a_worker_ = true;
  header.parent_cpu.store(static_cast<std::uint32_t>(publish_cpu(locked)) + 1, std::memory_order_relaxed);
  KINDRED_INJECTION_POINT("parent.wake.before_raise");
  raise_wake(locked, slot);
}

void WorkerControl::raise_wake(Locked, WorkerSlot& slot) noexcept {
  SegmentHeader& header = slot.header();
  header.wake.fetch_add(1, std::memory_order_relaxed);
  futex_wake(header.wake, 1);
}

int WorkerControl::publish_cpu(Locked locked) noexcept {
  const int cpu = current_cpu();
  if (cpu != published_cpu_) {
    published_cpu_ = cpu;
    for (WorkerSlot& slot : slots_.all(locked)) {
      if (slot.segment)
        slot.header().parent_cpu.store(static_cast<std::uint32_t>(cpu) + 1, std::memory_order_relaxed);
    }
  }
  return cpu;
}

void WorkerControl::ask_to_leave(Locked locked, WorkerSlot& slot) {
  if (slot.state != WorkerSlot::State::alive) return;
  slot.state = WorkerSlot::State::leaving;
  slot.end.leave_by = clock_.now() + shutdown_grace_;
  KINDRED_INJECTION_POINT("parent.recycle.before_command");
  // Order: release, pairs with the acquire in WorkerProcess: it sees the calls that were published before,
  // and runs them first.
  slot.header().command.store(static_cast<std::uint32_t>(Command::finish), std::memory_order_release);
  wake(locked, slot);
}

void WorkerControl::ask_to_stop(Locked, WorkerSlot& slot, InFlight& attempt) noexcept {
  attempt.stop_asked = true;
  slot.header().stop_attempt.store(attempt.task->attempt(), std::memory_order_release);
  slot.header().stop_signal.fetch_add(1, std::memory_order_release);
  futex_wake(slot.header().stop_signal, 1);
}

void WorkerControl::signal(Locked, WorkerSlot& slot, int signal) noexcept {
  if (slot.state == WorkerSlot::State::alive || slot.state == WorkerSlot::State::leaving)
    slot.worker.process.signal_group(signal);
}

void WorkerControl::kill(Locked, WorkerSlot& slot, KillReason reason) noexcept {
  if (slot.kill_reason == KillReason::none || reason == KillReason::protocol) slot.kill_reason = reason;
  slot.worker.process.signal_group(SIGKILL);
}

void WorkerControl::kill_corrupted(Locked locked, WorkerSlot& slot, std::string why) {
  if (slot.kill_reason == KillReason::protocol) return;
  slot.last_words.protocol_error = std::move(why);
  kill(locked, slot, KillReason::protocol);
}

bool WorkerControl::condemn(Locked, WorkerSlot& slot, InFlight& attempt, InFlight::Condemned why,
                            int signal) {
  // Crash: none of ours. The worker moves begun to done before it publishes; one of the two swaps wins. Where
  // the worker's did, its result is on its way and nothing is killed, so a late kill cannot hit the next
  // task.
  KINDRED_INJECTION_POINT("parent.condemn.before_swap");
  std::uint32_t expected = call_state::begun;
  if (!attempt.header->state.compare_exchange_strong(expected, call_state::condemned,
                                                     std::memory_order_acq_rel))
    return false;
  attempt.condemned = why;
  slot.kill_reason = KillReason::task;
  KINDRED_INJECTION_POINT("parent.condemn.before_kill");
  slot.worker.process.signal_group(signal);
  return true;
}

}  // namespace kindred::internal
