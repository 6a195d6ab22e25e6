#include "dispatch/result_intake.hpp"

#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/injection.hpp"
#include "link/lost_items.hpp"

namespace kindred::internal {

bool ResultIntake::take_results(Locked locked, WorkerSlot& slot) {
  auto times = load_.new_batch(locked, slot);
  bool any = false;
  const bool noting = notes_.on(locked);
  for (;;) {
    const auto message = slot.results.next();
    if (message.empty()) break;
    if (noting) [[unlikely]]
      notes_.note_result(locked, slot, message);
    take_result(locked, slot, message, times);
    any = true;
    if (slot.kill_reason == KillReason::protocol) break;
  }
  if (slot.results.corrupt()) WorkerControl::kill_corrupted(locked, slot, "its result ring is inconsistent");
  if (!any) return false;
  if (!slot.ready) [[unlikely]] {  // it said so before, to a supervisor that has not come to read it
    try {
      (void)take_messages(locked, slot);
    } catch (const std::bad_alloc&) {
      // The calling thread must not end by that: the supervisor reads them.
    }
  }
  load_.note_times(locked, slot, times);
  slot.progress_ticks = ticks();
  if (noting) [[unlikely]]
    notes_.note_queue(locked, slot.progress_ticks, slots_.live(locked), pending_.size(),
                      slots_.in_flight(locked));
  slot.full = false;
  KINDRED_INJECTION_POINT("parent.result.before_release");
  slot.results.release();
  // A worker that waits for room has a call here. One without a call would find nothing, and take the core
  // from this thread.
  if (slot.in_flight.empty())
    slot.idle_since = clock_.now();
  else
    control_.wake(locked, slot);
  return true;
}

void ResultIntake::take_result(Locked locked, WorkerSlot& slot, Bytes message, RunAverage::Batch& times) {
  ResultHeader result;
  if (message.size() < sizeof result) [[unlikely]]
    return WorkerControl::kill_corrupted(locked, slot, "a result is shorter than its header");
  std::memcpy(&result, message.data(), sizeof result);  // once: the worker may change it meanwhile
  const std::size_t value_space = round_to_ring(result.value_bytes);
  const std::size_t id_bytes = result.attachments * sizeof(std::uint64_t);
  if (slot.in_flight.empty() || slot.in_flight.front().task->id != result.task_id) [[unlikely]] {
    return WorkerControl::kill_corrupted(
        locked, slot,
        "a result is for task " + std::to_string(result.task_id) + ", which this worker was not running");
  }
  if (sizeof result + value_space + id_bytes > message.size() ||
      (result.kind != ResultKind::value && result.kind != ResultKind::failure)) [[unlikely]] {
    return WorkerControl::kill_corrupted(locked, slot, "a result's sizes do not add up");
  }
  const auto value = message.subspan(sizeof result, result.value_bytes);
  if (id_bytes != 0 || result.flags != 0 || result.kind != ResultKind::value) [[unlikely]] {
    return take_rare_result(locked, slot, result, value,
                            message.subspan(sizeof result + value_space, id_bytes), times);
  }
  TaskState& task = *slot.in_flight.front().task;
  pass_call(locked, slot, task, result, times);
  note_bytes(locked, slot, value.size());
  if (task.finished()) [[unlikely]]
    return task.unpin(locked);  // it was cancelled by killing, and its result came before the kill
  try {
    task.store(value);
  } catch (const std::bad_alloc&) {  // the task fails with that, and its worker goes on
    ++slot.stats.tasks_failed;
    return completion_.finish(locked, task, Outcome::failure);
  }
  task.cargo.reset();
  finish_with_value(locked, slot, task);
}

void ResultIntake::note_bytes(Locked locked, WorkerSlot& slot, std::size_t bytes) noexcept {
  slot.stats.result_bytes += bytes;
  completion_.totals(locked).result_bytes += bytes;
}

void ResultIntake::pass_call(Locked locked, WorkerSlot& slot, TaskState& task, const ResultHeader& result,
                             RunAverage::Batch& times) noexcept {
  KINDRED_INJECTION_POINT("parent.result.taken");
  KINDRED_ASSERT(slot.in_flight.front().task == &task);
  KINDRED_ASSERT(&task.worker() == &slot);
  slot.calls.give_back(slot.in_flight.front().end);
  slot.in_flight.pop_front();
  slots_.note_left(locked);
  task.leave_worker();
  // The times are the worker's word: they move statistics and nothing else, so a liar only harms its own
  // share.
  const std::uint64_t ran =
      result.ended_ticks > result.begun_ticks ? result.ended_ticks - result.begun_ticks : 0;
  times.add(ran, result.begun_ticks > task.submitted_ticks ? result.begun_ticks - task.submitted_ticks : 0);
  task.ran_ticks = ran;
}

void ResultIntake::finish_with_value(Locked locked, WorkerSlot& slot, TaskState& task) {
  ++slot.stats.tasks_done;
  ++runs_ended_;
  completion_.finish_with_value(locked, task);
}

// A failure, or a result with more than its bytes.
void ResultIntake::take_rare_result(Locked locked, WorkerSlot& slot, const ResultHeader& result, Bytes value,
                                    Bytes ids, RunAverage::Batch& times) {
  auto extras = take_extras(locked, slot, result, value, ids);
  if (!extras) return;
  TaskState& task = *slot.in_flight.front().task;
  const auto submitted = task.submitted_ticks;
  pass_call(locked, slot, task, result, times);
  const Cargo* const cargo = extras->cargo.get();
  const Bytes bytes =
      cargo != nullptr && cargo->block ? Bytes{cargo->block->bytes().first(cargo->block_bytes)} : value;
  note_bytes(locked, slot, bytes.size());
  if ((result.flags & result_asks_recycle) != 0 && slot.state == WorkerSlot::State::alive) {
    revoke_all(locked, slot);
    control_.ask_to_leave(locked, slot);
  }
  if (task.finished()) return task.unpin(locked);  // as in take_result
  if (result.kind == ResultKind::value || extras->missing || extras->memory_ended)
    return finish_rare_value(locked, slot, task, value, std::move(*extras));
  finish_with_failure(locked, slot, task, bytes, submitted);
}

void ResultIntake::finish_rare_value(Locked locked, WorkerSlot& slot, TaskState& task, Bytes value,
                                     Extras extras) {
  try {
    if (extras.cargo && extras.cargo->block)
      task.drop_bytes();
    else if (!extras.missing && !extras.memory_ended)
      task.store(value);
  } catch (const std::bad_alloc&) {
    extras.memory_ended = true;
  }
  if (extras.missing || extras.memory_ended) {
    ++slot.stats.tasks_failed;
    return completion_.finish(locked, task, Outcome::failure, std::move(extras.missing));
  }
  task.cargo = std::move(extras.cargo);
  finish_with_value(locked, slot, task);
}

void ResultIntake::finish_with_failure(Locked locked, WorkerSlot& slot, TaskState& task, Bytes failure,
                                       std::uint64_t submitted) {
  ++slot.stats.tasks_failed;
  task.end_attempt();
  const auto ran = std::exchange(task.submitted_ticks, submitted);  // it is pending again, and since then
  if (task.options && task.options->retry_exceptions && completion_.try_again(locked, task)) return;
  task.ran_ticks = ran;
  ++runs_ended_;
  completion_.finish_with(locked, task, Outcome::failure, [&]() -> std::unique_ptr<Failure> {
    const auto worker = slot.identity();
    auto encoded = make_encoded_failure(failure, context_, facts_of(task, completion_.code(), &worker));
    if (!runs_items(task, *completion_.code())) return encoded;
    return std::make_unique<LostItems>(std::move(encoded), ItemsLeft{});
  });
}

// Nothing is returned where the worker was killed for what it wrote.
std::optional<ResultIntake::Extras> ResultIntake::take_extras(Locked locked, WorkerSlot& slot,
                                                              const ResultHeader& result, Bytes value,
                                                              Bytes ids) {
  Extras extras;
  if (ids.empty() && (result.flags & result_is_external) == 0) return extras;
  try {
    if (!take_cargo(locked, slot, result, value, ids, extras)) return std::nullopt;
  } catch (const std::bad_alloc&) {
    extras.cargo.reset();
    extras.memory_ended = true;
  }
  return extras;
}

// False: the worker was killed for what it wrote.
bool ResultIntake::take_cargo(Locked locked, WorkerSlot& slot, const ResultHeader& result, Bytes value,
                              Bytes ids, Extras& extras) {
  auto& cargo = extras.cargo = std::make_unique<Cargo>();
  for (std::size_t i = 0; i < result.attachments; ++i) {
    std::uint64_t id = 0;
    std::memcpy(&id, ids.data() + i * sizeof id, sizeof id);
    auto found = take_memory(locked, slot, id, 0, extras);
    if (!found && !extras.missing) return false;
    cargo->attachments.push_back(std::move(found));
  }
  if ((result.flags & result_is_external) == 0) return true;
  BlockReference block;
  if (value.size() != sizeof block) {
    WorkerControl::kill_corrupted(locked, slot, "a result's reference to its memory is malformed");
    return false;
  }
  std::memcpy(&block, value.data(), sizeof block);
  cargo->block = take_memory(locked, slot, block.memory_id, block.bytes, extras);
  if (!cargo->block && !extras.missing) return false;
  if (cargo->block) cargo->block->close_descriptor();
  cargo->block_bytes = block.bytes;
  return true;
}

// The shared memory that came under this number. Null: it could not be mapped here, and `extras.missing` says
// why; or it never came, and the worker was killed for that. Errors: `std::bad_alloc`.
std::shared_ptr<SharedMemory> ResultIntake::take_memory(Locked locked, WorkerSlot& slot, std::uint64_t id,
                                                        std::size_t bytes, Extras& extras) {
  const auto find = [&]() -> std::shared_ptr<SharedMemory> {
    if ((id & memory_is_kept) != 0) return slot.memory.blocks.lend(id & ~memory_is_kept);
    const auto found = slot.memory.received.find(id);
    if (found == slot.memory.received.end()) return nullptr;
    auto memory = std::move(found->second);
    slot.memory.received.erase(found);
    return memory;
  };
  auto memory = find();
  if (!memory) {
    (void)take_messages(locked, slot);
    memory = find();
  }
  if (memory && memory->size() >= bytes) return memory;
  if (std::exchange(slot.memory.ended, false)) throw std::bad_alloc{};
  if (slot.memory.missing) {
    extras.missing =
        std::make_unique<StoredFailure<SystemError>>(*std::exchange(slot.memory.missing, std::nullopt));
  } else if (!extras.missing) {
    WorkerControl::kill_corrupted(locked, slot, "a result names a shared memory that did not come");
  }
  return nullptr;
}

bool ResultIntake::revoke(Locked locked, WorkerSlot& slot, std::size_t position) {
  InFlight& attempt = slot.in_flight[position];
  if (attempt.task->finished()) [[unlikely]]
    return false;  // cancelled by killing, whatever its worker writes over the words
  // A call that runs, and wrote over its own state.
  if ((position == 0 || slot.results.ready()) &&
      slot.header().begun_attempt.load(std::memory_order_relaxed) == attempt.task->attempt())
    return false;
  KINDRED_INJECTION_POINT("parent.revoke.before_swap");
  std::uint32_t expected = call_state::queued;
  if (!attempt.header->state.compare_exchange_strong(expected, call_state::revoked,
                                                     std::memory_order_acq_rel))
    return false;
  TaskState& task = *attempt.task;
  KINDRED_ASSERT(&task.worker() == &slot);
  KINDRED_ASSERT(slot.sent.calls != 0U);
  slot.in_flight.erase(position);
  slots_.note_left(locked);
  --slot.sent.calls;
  task.leave_worker();
  return true;
}

void ResultIntake::requeue(Locked locked, TaskState& task) {
  ++completion_.totals(locked).taken_back;
  pending_.push_front(locked, task);
}

void ResultIntake::revoke_all(Locked locked, WorkerSlot& slot, std::size_t but_first) {
  for (std::size_t i = slot.in_flight.size(); i-- > but_first;) {
    TaskState& task = *slot.in_flight[i].task;
    if (revoke(locked, slot, i)) requeue(locked, task);
  }
}

}  // namespace kindred::internal
