#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/task_entry.hpp"
#include "lost_items.hpp"
#include "pool_core.hpp"
#include "sent_memories.hpp"

// Calls into rings, results out of rings. All under the lock.
namespace kindred::internal {
namespace {

// For so long the worker that was chosen last is not compared with the others anew.
constexpr double favourite_nanoseconds = 2'000;
// After this long the calls behind a running call are looked at again, by a thread that submits or waits; and
// by the supervisor, where no thread does.
constexpr double rebalance_due_nanoseconds = 60'000;
constexpr std::chrono::microseconds rebalance_after{500};
constexpr std::chrono::milliseconds silent_again{10};
}  // namespace

std::size_t PoolCore::hand_ahead_limit(const WorkerSlot& slot) const noexcept {
  return prefetch_limit(times_, !slot.ready || uses_priorities_, slot.average.ticks_or(average_));
}

WorkerSlot* PoolCore::choose_slot(std::uint64_t now) noexcept {
  Placement<WorkerSlot> placement{times_};
  for (const auto& place : slots_) {
    WorkerSlot& slot = *place;
    if (!slot.takes_calls()) continue;
    if (slot.silent() && still_silent(slot)) [[unlikely]] {
      look_again_at(std::chrono::steady_clock::now() + silent_again);
      continue;
    }
    if (slot.in_flight.empty() && slot.ready) {
      // Not asleep: it spins, or is about to look.
      placement.consider_idle(slot, slot.header().sleeps.load(std::memory_order_relaxed) != 0);
      continue;
    }
    if (slot.full) continue;
    placement.consider_busy(slot,
                            {.starts = !slot.ready,
                             .one_at_a_time = uses_priorities_,
                             .calls = static_cast<std::int64_t>(slot.in_flight.size()),
                             .average = slot.average.ticks_or(average_)},
                            [&] { return runs_long(slot, now); });
  }
  const auto choice = placement.choose();
  if (choice.look_again) look_again_soon();  // the average may not be what the calls before it take
  return choice.worker;
}

// The one chosen a moment ago, if it still has so little to do that no other would be chosen: a burst of
// short tasks need not ask all for each.
WorkerSlot* PoolCore::favourite(std::uint64_t now) const noexcept {
  WorkerSlot* const slot = favourite_.slot;
  if (slot == nullptr || now >= favourite_.until || !slot->takes_calls() || !slot->ready || slot->full ||
      slot->silent() || slot->in_flight.empty())
    return nullptr;
  const auto calls = static_cast<double>(slot->in_flight.size());
  return slot->average.known() && !uses_priorities_ && calls * slot->average.ticks() < times_.pack ? slot
                                                                                                   : nullptr;
}

bool PoolCore::still_silent(WorkerSlot& slot) noexcept {
  if (slot.calls.drained()) slot.silent_since.reset();
  return slot.silent();
}

bool PoolCore::is_unresponsive(const WorkerSlot& slot, std::uint64_t now) const noexcept {
  return slot.ready && internal::is_unresponsive(times_, slot.progress_ticks, now);
}

bool PoolCore::runs_long(WorkerSlot& slot, std::uint64_t now) const noexcept {
  if (!slot.ready || slot.in_flight.empty() ||
      static_cast<std::int64_t>(now - slot.progress_ticks) < times_.long_run)
    return false;  // no look at what the worker writes
  if (is_unresponsive(slot, now)) return true;
  const SegmentHeader& header = slot.header();
  if (header.begun_attempt.load(std::memory_order_relaxed) != slot.in_flight.front().task->attempt())
    return false;
  const std::uint64_t begun = header.begun_ticks.load(std::memory_order_relaxed);
  return now > begun && now - begun >= static_cast<std::uint64_t>(times_.long_run);
}

bool PoolCore::front_is_unbegun(WorkerSlot& slot) noexcept {
  const InFlight& front = slot.in_flight.front();
  return front.header->state.load(std::memory_order_relaxed) == call_state::queued &&
         !front.task->is_suspect();
}

// A call is passed when its result is published, so a worker that has passed all has no call of ours: one
// whose word says that it was taken back, but not by us.
bool PoolCore::has_lost_a_call(WorkerSlot& slot) noexcept {
  return slot.segment && slot.ready && !slot.in_flight.empty() &&
         slot.kill_reason == WorkerSlot::KillReason::none && slot.calls.drained() && !slot.results.ready();
}

void PoolCore::look_at_unbegun_later() noexcept {
  if (rebalance_due_ != 0) return;
  const bool several = live_workers() > 1;
  if (std::ranges::any_of(slots_, [several](const auto& slot) {
        return slot->segment && slot->ready && !slot->in_flight.empty() &&
               ((several && front_is_unbegun(*slot)) || has_lost_a_call(*slot));
      })) {
    rebalance_due_ = ticks() + static_cast<std::uint64_t>(2 * times_.unresponsive);
  }
}

void PoolCore::look_again_soon() noexcept {
  if (rebalance_at_) return;
  rebalance_due_ = ticks() + static_cast<std::uint64_t>(ticks_of(rebalance_due_nanoseconds));
  look_again_at(std::chrono::steady_clock::now() + rebalance_after);
}

void PoolCore::look_again_at(SteadyTime at) noexcept {
  if (rebalance_at_) return;
  rebalance_at_ = at;
  if (supervisor_runs_ && supervisor_sleeps_until_ > *rebalance_at_) kick();
}

bool PoolCore::send_attachments(WorkerSlot& slot, const TaskState& task, std::vector<std::uint64_t>& ids) {
  const auto& memories = task.cargo->attachments;
  const std::uint64_t first = slot.sent.memory_id + 1;
  for (std::size_t i = 0; i < memories.size(); ++i) ids.push_back(++slot.sent.memory_id);
  // Where it fails, what was sent already is never named: the worker drops it when it comes to a later one.
  return send_memories(slot.worker.socket, first, memories);
}

std::uint64_t PoolCore::send_block(WorkerSlot& slot, CallBlock& block) {
  for (auto& known : block.known_by) {
    if (known.slot != slot.index) continue;
    if (known.incarnation == slot.incarnation) return known.id;
    known = block.known_by.back();  // of an earlier incarnation
    block.known_by.pop_back();
    break;
  }
  const std::uint64_t id = ++slot.sent.memory_id | (block.kept ? memory_is_kept : 0);
  const AttachmentNotice notice{.message = static_cast<std::uint32_t>(ParentMessage::attachment),
                                .spare = 0,
                                .memory_id = id,
                                .bytes = block.size()};
  const int fd = block.fd();
  if (slot.worker.socket.send(std::as_bytes(std::span{&notice, 1}), {&fd, 1}) != MessageSocket::Sent::yes)
    return 0;
  if (block.kept) block.known_by.push_back({slot.index, slot.incarnation, id});
  return id;
}

bool PoolCore::send_modules(WorkerSlot& slot, CodeReference reference) {
  for (std::size_t index = slot.sent.modules; index < (reference >> code_module_shift); ++index) {
    const Module module = context_.code().module(index);
    std::vector<std::byte> message(sizeof(AttachmentNotice) + module.path.size() + 1 +
                                   module.build_id.size());
    const AttachmentNotice notice{.message = static_cast<std::uint32_t>(ParentMessage::module),
                                  .spare = 0,
                                  .memory_id = index,
                                  .bytes = module.path.size()};
    std::memcpy(message.data(), &notice, sizeof notice);
    std::memcpy(message.data() + sizeof notice, module.path.c_str(), module.path.size() + 1);
    std::memcpy(message.data() + sizeof notice + module.path.size() + 1, module.build_id.data(),
                module.build_id.size());
    if (slot.worker.socket.send(message) != MessageSocket::Sent::yes) return false;
    slot.sent.modules = index + 1;
  }
  return true;
}

void PoolCore::move_to_block(TaskState& task) {
  const auto bytes = task.bytes();
  auto block = call_blocks_.take(bytes.size());
  std::memcpy(block->bytes().data(), bytes.data(), bytes.size());
  if (!task.cargo) task.cargo = std::make_unique<Cargo>();
  task.cargo->block_bytes = bytes.size();
  task.drop_bytes();
  task.cargo->block = std::move(block);
}

bool PoolCore::hand(TaskState& task, WorkerSlot& slot, std::uint64_t now) {
  try {
    const bool plain = !task.options && !task.cargo && task.bytes().size() <= largest_in_ring;
    return plain && std::max(task.entry, task.function) >> code_module_shift <= slot.sent.modules
               ? hand_plain(task, slot, now)
               : hand_or_throw(task, slot, now);
  } catch (const std::bad_alloc&) {
    return false;  // before the call was published, so it waits, and memory may be had again
  }
}

// What was taken back lies in the ring until the worker has passed it; with nothing in flight only it knows.
std::span<std::byte> PoolCore::room_for_call(WorkerSlot& slot, std::size_t size) noexcept {
  auto room = slot.calls.reserve_in_known(size);
  if (room.empty() && slot.in_flight.empty()) [[unlikely]] {
    room = slot.calls.reserve(size);
    if (room.empty() && slot.ready && !slot.silent())
      begin_silence(slot);  // it may have written over the word by which it gives room back
  }
  return room;
}

// Most calls: arguments that fit into the ring, and nothing else.
bool PoolCore::hand_plain(TaskState& task, WorkerSlot& slot, std::uint64_t now) {
  const auto arguments = task.bytes();
  const std::size_t size = sizeof(CallHeader) + round_to_ring(arguments.size());
  const auto room = room_for_call(slot, size);
  if (room.empty()) return false;
  slot.in_flight.make_room();
  // From here on nothing throws.
  auto* const header = write_header(room.data(), task);
  header->attachments = 0;
  header->flags = 0;
  header->name_bytes = 0;
  header->argument_bytes = static_cast<std::uint32_t>(arguments.size());
  slot.stats.argument_bytes += arguments.size();
  std::byte* const at = room.data() + sizeof(CallHeader);
  if (arguments.size() <= TaskState::inline_bytes) [[likely]]
    copy_small(at, arguments.data(), arguments.size());
  else
    std::memcpy(at, arguments.data(), arguments.size());
  publish_call(task, slot, *header, size, now);
  return true;
}

CallHeader* PoolCore::write_header(std::byte* at, const TaskState& task) noexcept {
  auto* const header = ::new (at) CallHeader;
  header->state.store(call_state::queued, std::memory_order_relaxed);
  header->task_id = task.id;
  header->entry = task.entry;
  header->function = task.function;
  header->attempt = static_cast<std::uint16_t>(task.ended_attempts() + 1);
  return header;
}

void PoolCore::publish_call(TaskState& task, WorkerSlot& slot, CallHeader& header, std::size_t size,
                            std::uint64_t now) {
  if (slot.in_flight.empty()) {
    slot.progress_ticks = now;
    // Before the call is published, so that the worker sees it with the call: a waiter that fell asleep while
    // this slot had nothing to do.
    if (leader_sleeps_) arm(slot, Armed::waiter, true);
  }
  KINDRED_INJECTION_POINT("parent.hand.before_publish");
  slot.calls.publish(size);
  KINDRED_INJECTION_POINT("parent.hand.published");

  slot.in_flight.push_back_in_room({.task = &task, .header = &header, .end = slot.calls.published()});
  ++in_flight_;
  ++slot.sent.calls;
  task.dispatch_to(slot, header);
  if (const auto most = static_cast<std::uint64_t>(options_.max_tasks_per_worker.value());
      most != 0 && slot.sent.calls >= most)
    ask_to_leave(slot);
}

bool PoolCore::hand_or_throw(TaskState& task, WorkerSlot& slot, std::uint64_t now) {
  if (task.bytes().size() > largest_in_ring && (!task.cargo || !task.cargo->block)) {
    try {
      move_to_block(task);
    } catch (const SystemError& error) {
      finish_with(task, Outcome::failure,
                  [&] { return std::make_unique<StoredFailure<SystemError>>(error); });
      return true;
    }
  }
  const std::string_view name = task.options ? std::string_view{task.options->name} : std::string_view{};
  const bool external = task.cargo && task.cargo->block;
  const auto arguments = external ? std::span<const std::byte>{} : task.bytes();
  const std::size_t attachments = task.cargo ? task.cargo->attachments.size() : 0;
  const std::size_t argument_bytes = external ? sizeof(BlockReference) : arguments.size();
  const std::size_t size = sizeof(CallHeader) + round_to_ring(name.size()) + round_to_ring(argument_bytes) +
                           attachments * sizeof(std::uint64_t);
  const auto room = room_for_call(slot, size);
  if (room.empty()) return false;

  if (std::max(task.entry, task.function) >> code_module_shift > slot.sent.modules &&
      !send_modules(slot, std::max(task.entry, task.function)))
    return false;
  std::vector<std::uint64_t> ids;
  BlockReference block{};
  // Its socket may be full of what belonged to calls that were taken back: it reads that when it is told to,
  // or comes to a later call, which this one is.
  const auto ask_to_read = [this, &slot] {
    slot.header().mail.fetch_add(1, std::memory_order_release);
    wake_worker(slot);
    return false;
  };
  if (task.cargo && !send_attachments(slot, task, ids)) return ask_to_read();
  if (external) {
    block = {.memory_id = send_block(slot, static_cast<CallBlock&>(*task.cargo->block)),
             .bytes = task.cargo->block_bytes};
    if (block.memory_id == 0) return ask_to_read();
  }

  slot.in_flight.make_room();
  if (task.options && (task.options->timeout || task.options->soft_timeout)) {
    auto first = task.options->timeout.value_or(std::chrono::nanoseconds::max());
    if (task.options->soft_timeout) first = std::min(first, *task.options->soft_timeout);
    add_timer(std::chrono::steady_clock::now() + first, task);
  }
  // From here on nothing throws.
  auto* const header = write_header(room.data(), task);
  header->attachments = static_cast<std::uint16_t>(attachments);
  header->flags = external ? call_is_external : 0;
  header->name_bytes = static_cast<std::uint16_t>(name.size());
  header->argument_bytes = static_cast<std::uint32_t>(argument_bytes);
  slot.stats.argument_bytes += argument_bytes;
  std::byte* at = room.data() + sizeof(CallHeader);
  if (!name.empty()) std::memcpy(at, name.data(), name.size());
  at += round_to_ring(name.size());
  if (external) {
    std::memcpy(at, &block, sizeof block);
  } else if (!arguments.empty()) {
    std::memcpy(at, arguments.data(), arguments.size());
  }
  at += round_to_ring(argument_bytes);
  if (!ids.empty()) std::memcpy(at, ids.data(), ids.size() * sizeof(std::uint64_t));
  publish_call(task, slot, *header, size, now);
  return true;
}

void PoolCore::wake_worker(WorkerSlot& slot) noexcept {
  SegmentHeader& header = slot.header();
  // Order: the published cursor before the look at `sleeps`; pairs with the heavy barrier in the worker's
  // WorkerProcess::say_that_it_sleeps. One of the two sees the other: either we see that it sleeps, or it
  // sees the call. A full fence here would wait for the line of the cursor, which the worker is reading: a
  // fifth of what a short task costs.
  if (light_side_) [[likely]]
    std::atomic_signal_fence(std::memory_order_seq_cst);
  else
    std::atomic_thread_fence(std::memory_order_seq_cst);
  // Taken back by us, so that it is woken once: until it runs again, it would cost a system call for each
  // further call.
  if (header.sleeps.load(std::memory_order_relaxed) == 0 ||
      header.sleeps.exchange(0, std::memory_order_relaxed) == 0)
    return;
  woke_somebody_ = true;
  header.parent_cpu.store(static_cast<std::uint32_t>(tell_cpu()) + 1, std::memory_order_relaxed);
  KINDRED_INJECTION_POINT("parent.wake.before_raise");
  raise_wake(slot);
}

void PoolCore::raise_wake(WorkerSlot& slot) noexcept {
  SegmentHeader& header = slot.header();
  header.wake.fetch_add(1, std::memory_order_relaxed);
  futex_wake(header.wake, 1);
}

void PoolCore::place(TaskState& task, std::uint64_t now) {
  if (!uses_priorities_ && task.options && task.options->priority != 0) {
    // The first task with a priority: what was handed ahead waits with the others from now on.
    uses_priorities_ = true;
    for (const auto& slot : slots_) {
      if (slot->segment) take_back_all(*slot);
    }
    waiting_.push_back(task);
    refill();
    return want_workers();
  }
  if (waiting_.empty()) {
    WorkerSlot* slot = favourite(now);
    if (slot == nullptr) {
      slot = choose_slot(now);
      (void)tell_cpu();
      favourite_.slot = slot;
      favourite_.until = now + static_cast<std::uint64_t>(ticks_of(favourite_nanoseconds));
    }
    if (slot != nullptr && hand(task, *slot, now)) {
      const bool was_idle = slot->in_flight.size() == 1;
      wake_worker(*slot);
      if (!was_idle) want_workers();
      return;
    }
    if (slot != nullptr && slot->in_flight.empty())
      kick();  // no result will come that would try again: the supervisor does
  }
  waiting_.push_back(task);
  want_workers();
}

void PoolCore::refill() {
  if (waiting_.empty() && bounded_waiting_ == 0) return;
  const auto now = ticks();
  while (TaskState* const task = waiting_.front()) {
    WorkerSlot* const slot = choose_slot(now);
    if (slot == nullptr) break;
    waiting_.remove(*task);
    if (hand(*task, *slot, now)) {
      wake_worker(*slot);
      continue;
    }
    waiting_.push_front(*task);
    if (slot->in_flight.empty()) {
      if (supervisor_runs_) kick();  // as in place()
      break;
    }
    slot->full = true;  // until it has done something
  }
  if (bounded_waiting_ != 0) room_.notify_all();
}

void PoolCore::want_workers() {
  const std::size_t have = live_workers() + wanted_;
  if (have >= max_workers() || waiting_.size() + in_flight_ <= have || broken_) return;
  ++wanted_;
  kick();
}

bool PoolCore::take_back(WorkerSlot& slot, std::size_t position, bool requeue) {
  InFlight& entry = slot.in_flight[position];
  if (entry.task->finished()) [[unlikely]]
    return false;  // cancelled by killing, whatever its worker writes over the words
  // A call that runs, and wrote over its own state.
  if ((position == 0 || slot.results.ready()) &&
      slot.header().begun_attempt.load(std::memory_order_relaxed) == entry.task->attempt())
    return false;
  KINDRED_INJECTION_POINT("parent.revoke.before_swap");
  std::uint32_t expected = call_state::queued;
  if (!entry.header->state.compare_exchange_strong(expected, call_state::revoked, std::memory_order_acq_rel))
    return false;
  TaskState& task = *entry.task;
  slot.in_flight.erase(position);
  --in_flight_;
  --slot.sent.calls;
  task.leave_worker();
  if (requeue) {
    ++totals_.taken_back;
    waiting_.push_front(task);
  }
  return true;
}

void PoolCore::take_back_all(WorkerSlot& slot, std::size_t but_first) {
  for (std::size_t i = slot.in_flight.size(); i-- > but_first;) (void)take_back(slot, i, true);
}

// It began none of what it was given: it is stopped, or waits for a processor, or has written over the words
// by which we know that it sleeps or runs.
void PoolCore::mark_unresponsive(WorkerSlot& slot) {
  TaskState& front = *slot.in_flight.front().task;
  if (!take_back(slot, 0, false)) return;
  ++totals_.taken_back;
  front.suspect();
  waiting_.push_back(front);  // behind the others: it may be what silenced the worker
  if (slot.in_flight.empty()) begin_silence(slot);
}

void PoolCore::begin_silence(WorkerSlot& slot) noexcept {
  slot.silent_since = std::chrono::steady_clock::now();
  raise_wake(slot);
}

RebalancePlan<WorkerSlot> PoolCore::plan_rebalance(std::uint64_t now) {
  RebalancePlan<WorkerSlot> plan;
  for (const auto& place : slots_) {
    WorkerSlot& slot = *place;
    // One that leaves finishes what it has.
    if (slot.state != WorkerSlot::State::alive && slot.state != WorkerSlot::State::leaving) continue;
    if (slot.in_flight.empty()) continue;
    const bool begun = slot.ready && !(is_unresponsive(slot, now) && front_is_unbegun(slot));
    const std::size_t unstarted = slot.in_flight.size() - (begun ? 1 : 0);
    if (unstarted != 0) plan.consider(slot, unstarted, !slot.ready || runs_long(slot, now));
  }
  return plan;
}

void PoolCore::rebalance() {
  rebalance_due_ = 0;
  rebalance_at_.reset();
  if (in_flight_ == 0) return;
  const auto now = ticks();
  for (const auto& slot : slots_) {
    if (slot->segment && !slot->in_flight.empty() && is_unresponsive(*slot, now) && has_lost_a_call(*slot))
      condemn(*slot, "it passed a call and gave no result");
  }
  if (!waiting_.empty()) return;
  bool calls_wait = false;
  bool somebody_is_silent = false;
  for (const auto& idle : slots_) {
    if (!idle->idle() || !idle->ready) continue;
    if (idle->silent() && still_silent(*idle)) {
      somebody_is_silent = true;
      continue;
    }
    const auto plan = plan_rebalance(now);
    calls_wait = calls_wait || plan.look_again();
    WorkerSlot* const victim = plan.victim();
    if (victim == nullptr) break;
    const bool silent = victim->ready && is_unresponsive(*victim, now) && front_is_unbegun(*victim);
    take_back_all(*victim, victim->ready ? 1 : 0);  // whoever is free first gets them, this worker included
    if (silent) mark_unresponsive(*victim);
    refill();
    if (!waiting_.empty()) break;
  }
  // The work behind a young call is not taken away: it may be done in no time. It is looked at again.
  if (calls_wait)
    look_again_soon();
  else if (somebody_is_silent)
    look_again_at(std::chrono::steady_clock::now() + silent_again);
}

void PoolCore::arm(WorkerSlot& slot, std::uint64_t bits, bool anew) noexcept {
  if (bits == slot.arming.bits && !anew) return;
  slot.arming.bits = bits;
  ++slot.arming.epoch;
  slot.header().armed.store(bits | (slot.arming.epoch << Armed::epoch_shift), std::memory_order_relaxed);
}

void PoolCore::arm_all() noexcept {
  const bool anew = std::exchange(bells_stale_, false);
  std::size_t busy = 0;
  for (const auto& slot : slots_) busy += slot->segment && !slot->in_flight.empty() ? 1U : 0U;
  const bool sleeper = leader_ != nullptr && leader_sleeps_;
  std::uint64_t common = 0;
  if (sleeper) {
    common = Armed::waiter;
  } else if (leader_ == nullptr || leader_naps_) {
    if (with_continuations_ != 0 || bounded_waiting_ != 0 || closed_) common |= Armed::service;
    if (!waiting_.empty() || (in_flight_ > busy && busy < live_workers())) common |= Armed::dry;
  }
  for (const auto& place : slots_) {
    WorkerSlot& slot = *place;
    if (!slot.segment) continue;
    if (slot.in_flight.empty()) {
      if (anew)
        slot.arming.bits = 0;  // it may have rung for what it has; what is wanted next is armed in any case
      continue;
    }
    std::uint64_t bits = common;
    if ((common & Armed::dry) != 0 && !waiting_.empty()) {
      // A quarter of what is usually ahead of it, so that the supervisor is awake before it runs dry.
      bits |= (std::uint64_t{hand_ahead_limit(slot)} * sizeof(CallHeader) / 4) << Armed::low_water_shift;
    }
    arm(slot, bits, anew);
  }
  KINDRED_INJECTION_POINT("parent.arm.armed");
  // Order: what is armed before the look at the rings that follows; pairs with the fence in
  // WorkerProcess::publish.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

std::shared_ptr<SharedMemory> PoolCore::received_memory(WorkerSlot& slot, std::uint64_t id,
                                                        std::size_t bytes) {
  auto find = [&]() -> std::shared_ptr<SharedMemory> {
    if ((id & memory_is_kept) != 0) return slot.memory.blocks.lend(id & ~memory_is_kept);
    const auto found = slot.memory.received.find(id);
    if (found == slot.memory.received.end()) return nullptr;
    auto memory = std::move(found->second);
    slot.memory.received.erase(found);
    return memory;
  };
  auto memory = find();
  if (!memory) {
    take_messages(slot);
    memory = find();
  }
  if (memory && memory->size() < bytes) return nullptr;
  return memory;
}

// What came with a result beside its bytes. False: the worker is condemned for it. `missing` is set where a
// memory of it could not be mapped here.
bool PoolCore::take_cargo(WorkerSlot& slot, const ResultHeader& result, std::span<const std::byte> value,
                          std::span<const std::byte> ids, std::unique_ptr<Cargo>& cargo,
                          std::unique_ptr<Failure>& missing) {
  const auto memory = [&](std::uint64_t id, std::size_t bytes) {
    auto found = received_memory(slot, id, bytes);
    if (found) return found;
    if (std::exchange(slot.memory.ended, false)) throw std::bad_alloc{};
    if (slot.memory.missing) {
      missing =
          std::make_unique<StoredFailure<SystemError>>(*std::exchange(slot.memory.missing, std::nullopt));
    } else if (!missing) {
      condemn(slot, "a result names a shared memory that did not come");
    }
    return found;
  };
  cargo = std::make_unique<Cargo>();
  for (std::size_t i = 0; i < result.attachments; ++i) {
    std::uint64_t id = 0;
    std::memcpy(&id, ids.data() + i * sizeof id, sizeof id);
    auto found = memory(id, 0);
    if (!found && !missing) return false;
    cargo->attachments.push_back(std::move(found));
  }
  if ((result.flags & result_is_external) == 0) return true;
  BlockReference block;
  if (value.size() != sizeof block) {
    condemn(slot, "a result's reference to its memory is malformed");
    return false;
  }
  std::memcpy(&block, value.data(), sizeof block);
  cargo->block = memory(block.memory_id, block.bytes);
  if (!cargo->block && !missing) return false;
  if (cargo->block) cargo->block->close_descriptor();
  cargo->block_bytes = block.bytes;
  return true;
}

void PoolCore::take_result(WorkerSlot& slot, std::span<const std::byte> message, ResultTimes& times) {
  ResultHeader result;
  if (message.size() < sizeof result) [[unlikely]]
    return condemn(slot, "a result is shorter than its header");
  std::memcpy(&result, message.data(), sizeof result);  // once: the worker may change it while we look
  const std::size_t value_room = round_to_ring(result.value_bytes);
  const std::size_t id_bytes = result.attachments * sizeof(std::uint64_t);
  if (slot.in_flight.empty() || slot.in_flight.front().task->id != result.task_id) [[unlikely]] {
    return condemn(slot, "a result is for task " + std::to_string(result.task_id) +
                             ", which this worker was not running");
  }
  if (sizeof result + value_room + id_bytes > message.size() ||
      (result.kind != ResultKind::value && result.kind != ResultKind::failure)) [[unlikely]] {
    return condemn(slot, "a result's sizes do not add up");
  }
  TaskState& task = *slot.in_flight.front().task;
  const auto value = message.subspan(sizeof result, result.value_bytes);
  if (id_bytes != 0 || result.flags != 0 || result.kind != ResultKind::value) [[unlikely]] {
    return take_rare_result(slot, task, result, value, message.subspan(sizeof result + value_room, id_bytes),
                            times);
  }
  pass_call(slot, task, result, times);
  slot.stats.result_bytes += value.size();
  totals_.result_bytes += value.size();
  if (task.finished()) [[unlikely]]
    return task.unpin();  // cancelled by killing, and faster than the kill
  try {
    task.store(value);
  } catch (const std::bad_alloc&) {  // the task fails with that, and its worker goes on
    ++slot.stats.tasks_failed;
    return finish(task, Outcome::failure);
  }
  task.cargo.reset();
  finish_with_value(slot, task);
}

void PoolCore::pass_call(WorkerSlot& slot, TaskState& task, const ResultHeader& result,
                         ResultTimes& times) noexcept {
  KINDRED_INJECTION_POINT("parent.result.taken");
  slot.calls.give_back(slot.in_flight.front().end);
  slot.in_flight.pop_front();
  --in_flight_;
  task.leave_worker();
  // The times are the worker's word: they move statistics and nothing else, so a liar only harms its own
  // share.
  const std::uint64_t ran =
      result.ended_ticks > result.begun_ticks ? result.ended_ticks - result.begun_ticks : 0;
  times.add(ran, result.begun_ticks > task.submitted_ticks ? result.begun_ticks - task.submitted_ticks : 0);
  task.ran_ticks = ran;
}

void PoolCore::finish_with_value(WorkerSlot& slot, TaskState& task) {
  ++slot.stats.tasks_done;
  crashes_.note_success();
  if (task.forgotten || !task.ends_unnoticed() || closed_) return finish(task, Outcome::value);
  // As `finish` does, for most: nobody is to be told but perhaps a leading waiter.
  ++totals_.done;
  KINDRED_INJECTION_POINT("parent.finish");
  --outstanding_;
  task.failure_ = nullptr;
  task.mark_finished(Outcome::value);
  if (leader_ != nullptr && leader_->target == &task) wake(*leader_);
}

// A failure, or a result with more than its bytes.
void PoolCore::take_rare_result(WorkerSlot& slot, TaskState& task, const ResultHeader& result,
                                std::span<const std::byte> value, std::span<const std::byte> ids,
                                ResultTimes& times) {
  std::unique_ptr<Cargo> cargo;
  std::unique_ptr<Failure> missing;
  bool memory_ended = false;  // ours: the task fails with that, and its worker goes on
  if (!ids.empty() || (result.flags & result_is_external) != 0) {
    try {
      if (!take_cargo(slot, result, value, ids, cargo, missing)) return;
    } catch (const std::bad_alloc&) {
      cargo.reset();
      memory_ended = true;
    }
  }
  const auto submitted = task.submitted_ticks;
  pass_call(slot, task, result, times);
  const std::size_t result_bytes = cargo && cargo->block ? cargo->block_bytes : value.size();
  slot.stats.result_bytes += result_bytes;
  totals_.result_bytes += result_bytes;
  if ((result.flags & result_asks_recycle) != 0 && slot.state == WorkerSlot::State::alive) {
    take_back_all(slot);
    ask_to_leave(slot);
  }
  if (task.finished()) return task.unpin();  // as in take_result
  if (result.kind == ResultKind::value && !missing && !memory_ended) {
    try {
      if (cargo && cargo->block) {
        task.drop_bytes();
      } else {
        task.store(value);
      }
    } catch (const std::bad_alloc&) {
      memory_ended = true;
    }
  }
  if (missing || memory_ended) {
    ++slot.stats.tasks_failed;
    return finish(task, Outcome::failure, std::move(missing));
  }
  if (result.kind == ResultKind::value) {
    task.cargo = std::move(cargo);
    return finish_with_value(slot, task);
  }
  ++slot.stats.tasks_failed;
  task.end_attempt();
  const auto ran = std::exchange(task.submitted_ticks, submitted);  // it waits again, and since then
  if (task.options && task.options->retry_exceptions && try_again(task)) return;
  task.ran_ticks = ran;
  const auto bytes = cargo && cargo->block
                         ? std::span<const std::byte>{cargo->block->bytes().first(cargo->block_bytes)}
                         : value;
  crashes_.note_success();
  finish_with(task, Outcome::failure, [&]() -> std::unique_ptr<Failure> {
    auto failure = make_encoded_failure(bytes, context_.id(), facts(task, &slot));
    if (!runs_items(task, context_.code())) return failure;
    return std::make_unique<LostItems>(std::move(failure), ItemsLeft{});
  });
}

bool PoolCore::pump_slot(WorkerSlot& slot) {
  ResultTimes times;
  times.max_counted = RunAverage::max_counted(slot.average.ticks_or(average_), ticks_of(1'000));
  bool any = false;
  const bool watching = watching_;
  for (;;) {
    const auto message = slot.results.next();
    if (message.empty()) break;
    if (watching) [[unlikely]]
      watch_result(slot, message);
    take_result(slot, message, times);
    any = true;
    if (slot.kill_reason == WorkerSlot::KillReason::protocol) break;
  }
  if (slot.results.corrupt() && slot.kill_reason != WorkerSlot::KillReason::protocol)
    condemn(slot, "its result ring is inconsistent");
  if (!any) return false;
  if (!slot.ready) [[unlikely]] {  // it said so before, to a supervisor that has not come to read it
    try {
      take_messages(slot);
    } catch (const std::bad_alloc&) {  // who waits is not to end by that: the supervisor reads it
    }
  }
  note_times(slot, times);
  if (watching) [[unlikely]]
    watch_queue();
  slot.progress_ticks = ticks();
  slot.full = false;
  KINDRED_INJECTION_POINT("parent.result.before_release");
  slot.results.release();
  wake_worker(slot);  // it may wait for room for its results
  if (slot.in_flight.empty()) {
    slot.idle_since = std::chrono::steady_clock::now();
    if (options_.idle_timeout && supervisor_runs_) kick();
  }
  return true;
}

void PoolCore::note_times(WorkerSlot& slot, const ResultTimes& times) noexcept {
  if (times.results == 0) return;
  const double mean = static_cast<double>(times.counted) / static_cast<double>(times.results);
  const double kept = RunAverage::kept_share(times.results);
  slot.average.move_towards(mean, kept, ticks_of(1'000));
  average_.move_towards(mean, kept, ticks_of(1'000));
  total_ticks_.run += times.ran;
  total_ticks_.queue += times.queued;
  slot.run_ticks += times.ran;
  slot.queue_ticks += times.queued;
}

bool PoolCore::pump() {
  bool any = false;
  for (const auto& slot : slots_) {
    if (slot->segment && !slot->in_flight.empty() && slot->state != WorkerSlot::State::starting)
      any = pump_slot(*slot) || any;
  }
  if (any) {
    look_again_.found_something();
    refill();
  }
  if (any || (rebalance_due_ != 0 && ticks() >= rebalance_due_)) rebalance();
  return any;
}

void PoolCore::condemn(WorkerSlot& slot, std::string why) {
  if (slot.kill_reason == WorkerSlot::KillReason::protocol) return;
  slot.last_words.protocol_error = std::move(why);
  kill(slot, WorkerSlot::KillReason::protocol);
}

}  // namespace kindred::internal
