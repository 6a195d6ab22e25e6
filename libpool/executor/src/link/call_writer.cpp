#include "link/call_writer.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <string_view>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/injection.hpp"
#include "link/notices.hpp"
#include "link/sent_memories.hpp"

namespace kindred::internal {

void begin_silence(Locked locked, WorkerSlot& slot, PoolClock::Time now) noexcept {
  slot.silent_since = now;
  WorkerControl::raise_wake(locked, slot);
}

bool CallWriter::dispatch(Locked locked, TaskState& task, WorkerSlot& slot, std::uint64_t now) {
  try {
    const bool plain = !task.options && !task.cargo && task.bytes().size() <= largest_in_ring;
    return plain && std::max(task.entry, task.function) >> code_module_shift <= slot.sent.modules
               ? dispatch_plain(locked, task, slot, now)
               : dispatch_with_cargo(locked, task, slot, now);
  } catch (const std::bad_alloc&) {
    return false;  // before the call was published: the task stays pending, and memory may be had again
  }
}

// What was revoked lies in the ring until the worker has passed it; with nothing in flight only the worker
// knows.
std::span<std::byte> CallWriter::reserve(Locked locked, WorkerSlot& slot, std::size_t size) noexcept {
  auto space = slot.calls.reserve_in_known(size);
  if (space.empty() && slot.in_flight.empty()) [[unlikely]] {
    space = slot.calls.reserve(size);
    // The worker may have written over the word by which it gives space back.
    if (space.empty() && slot.ready && !slot.silent()) begin_silence(locked, slot, clock_.now());
  }
  return space;
}

// Most calls: arguments that fit into the ring, and nothing else.
bool CallWriter::dispatch_plain(Locked locked, TaskState& task, WorkerSlot& slot, std::uint64_t now) {
  const auto arguments = task.bytes();
  const std::size_t size = sizeof(CallHeader) + round_to_ring(arguments.size());
  const auto space = reserve(locked, slot, size);
  if (space.empty()) return false;
  slot.in_flight.reserve_one();
  // From here on nothing throws.
  auto* const header = write_header(space.data(), task);
  header->attachments = 0;
  header->flags = 0;
  header->name_bytes = 0;
  header->argument_bytes = static_cast<std::uint32_t>(arguments.size());
  slot.stats.argument_bytes += arguments.size();
  std::byte* const at = space.data() + sizeof(CallHeader);
  if (arguments.size() <= TaskState::inline_bytes) [[likely]]
    copy_small(at, arguments.data(), arguments.size());
  else
    copy_bytes(at, arguments.data(), arguments.size());
  publish(locked, task, slot, *header, size, now);
  return true;
}

CallHeader* CallWriter::write_header(std::byte* at, const TaskState& task) noexcept {
  auto* const header = ::new (at) CallHeader;
  header->state.store(call_state::queued, std::memory_order_relaxed);
  header->task_id = task.id;
  header->entry = task.entry;
  header->function = task.function;
  header->attempt = static_cast<std::uint16_t>(task.ended_attempts() + 1);
  return header;
}

void CallWriter::publish(Locked locked, TaskState& task, WorkerSlot& slot, CallHeader& header,
                         std::size_t size, std::uint64_t now) {
  KINDRED_ASSERT(slot.takes_calls());
  if (slot.in_flight.empty()) {
    slot.progress_ticks = now;
    // Before the call is published, so that the worker sees it with the call: a leader that fell asleep while
    // this slot had nothing to do.
    if (bells_.leader(locked) == Bells::Leader::sleeps) Bells::arm(locked, slot, Armed::waiter, true);
  }
  KINDRED_INJECTION_POINT("parent.hand.before_publish");
  slot.calls.publish(size);
  KINDRED_INJECTION_POINT("parent.hand.published");

  slot.in_flight.push_back_reserved(
      {.task = &task, .header = &header, .end = slot.calls.published(), .dispatched_ticks = now});
  slots_.note_dispatched(locked);
  ++slot.sent.calls;
  task.dispatch_to(slot, header);
  KINDRED_ASSERT(slots_.in_flight(locked) >= slot.in_flight.size());
  if (max_tasks_per_worker_ != 0 && slot.sent.calls >= max_tasks_per_worker_)
    control_.ask_to_leave(locked, slot);
}

// The message of a call that is not plain: header, name, arguments or a reference to their block, and the
// numbers of the shared memories, each rounded up.
struct CallWriter::Layout {
  explicit Layout(const TaskState& task)
      : name{task.options ? std::string_view{task.options->name} : std::string_view{}},
        external{task.cargo && task.cargo->block},
        arguments{external ? std::span<const std::byte>{} : task.bytes()},
        argument_bytes{external ? sizeof(BlockReference) : arguments.size()},
        attachments{task.cargo ? task.cargo->attachments.size() : 0} {}
  [[nodiscard]] std::size_t size() const noexcept {
    return sizeof(CallHeader) + round_to_ring(name.size()) + round_to_ring(argument_bytes) +
           attachments * sizeof(std::uint64_t);
  }

  std::string_view name;
  bool external;
  std::span<const std::byte> arguments;
  std::size_t argument_bytes;
  std::size_t attachments;
  std::vector<std::uint64_t> ids = {};  // of the attachments, as they were sent
  BlockReference block = {};
};

bool CallWriter::dispatch_with_cargo(Locked locked, TaskState& task, WorkerSlot& slot, std::uint64_t now) {
  if (task.bytes().size() > largest_in_ring && (!task.cargo || !task.cargo->block) &&
      !move_to_block(locked, task))
    return true;
  Layout layout{task};
  const auto space = reserve(locked, slot, layout.size());
  if (space.empty()) return false;

  if (!send_ahead(slot, task, layout)) {
    // The worker's socket may be full of what belonged to calls that were revoked: the worker reads it when
    // it is told to, or comes to a later call, which this one is.
    slot.header().mail.fetch_add(1, std::memory_order_release);
    control_.wake(locked, slot);
    return false;
  }
  slot.in_flight.reserve_one();
  if (task.options && task.options->has_run_limit()) watch_limits(locked, slot, *task.options);
  // From here on nothing throws.
  auto* const header = write_header(space.data(), task);
  write_layout(*header, layout);
  slot.stats.argument_bytes += layout.argument_bytes;
  publish(locked, task, slot, *header, layout.size(), now);
  return true;
}

void CallWriter::write_layout(CallHeader& header, const Layout& layout) noexcept {
  header.attachments = static_cast<std::uint16_t>(layout.attachments);
  header.flags = layout.external ? call_is_external : 0;
  header.name_bytes = static_cast<std::uint16_t>(layout.name.size());
  header.argument_bytes = static_cast<std::uint32_t>(layout.argument_bytes);
  std::byte* at = reinterpret_cast<std::byte*>(&header) + sizeof(CallHeader);
  copy_bytes(at, layout.name.data(), layout.name.size());
  at += round_to_ring(layout.name.size());
  if (layout.external) {
    std::memcpy(at, &layout.block, sizeof layout.block);
  } else {
    copy_bytes(at, layout.arguments.data(), layout.arguments.size());
  }
  at += round_to_ring(layout.argument_bytes);
  if (!layout.ids.empty()) std::memcpy(at, layout.ids.data(), layout.ids.size() * sizeof(std::uint64_t));
}

void CallWriter::watch_limits(Locked locked, WorkerSlot& slot, const TaskOptions& options) {
  auto first = options.timeout.value_or(std::chrono::nanoseconds::max());
  if (options.soft_timeout) first = std::min(first, *options.soft_timeout);
  if (slot.limits.are_looked_at_within(first)) [[likely]]
    return;
  slot.limits.look_within(first, clock_.now());
  events_.wake_supervisor_at(locked, *slot.limits.next_look());
}

// Moves large arguments out of ordinary memory. False: no shared memory can be made, and the task has failed
// with why.
bool CallWriter::move_to_block(Locked locked, TaskState& task) {
  try {
    const auto bytes = task.bytes();
    auto block = blocks_.take(bytes.size());
    copy_bytes(block->bytes().data(), bytes.data(), bytes.size());
    if (!task.cargo) task.cargo = std::make_unique<Cargo>();
    task.cargo->block_bytes = bytes.size();
    task.drop_bytes();
    task.cargo->block = std::move(block);
    return true;
  } catch (const SystemError& error) {
    completion_.finish_with(locked, task, Outcome::failure,
                            [&] { return std::make_unique<StoredFailure<SystemError>>(error); });
    return false;
  }
}

// Sends through the socket what the worker needs for the call. False: the socket takes no more at present.
bool CallWriter::send_ahead(WorkerSlot& slot, const TaskState& task, Layout& layout) {
  const CodeReference last = std::max(task.entry, task.function);
  if (last >> code_module_shift > slot.sent.modules && !send_modules(slot, last)) return false;
  return !task.cargo || send_cargo(slot, task, layout);
}

// Tells of all libraries up to the one that the reference names.
bool CallWriter::send_modules(WorkerSlot& slot, CodeReference reference) {
  for (std::size_t index = slot.sent.modules; index < (reference >> code_module_shift); ++index) {
    if (!send_module(slot.worker.socket, index, code_.module(index))) return false;
    slot.sent.modules = index + 1;
  }
  return true;
}

// Sends the task's shared memories, and notes their numbers in the layout. Where the socket takes no more,
// what was sent already is never named: the worker drops it when it comes to a later one.
bool CallWriter::send_cargo(WorkerSlot& slot, const TaskState& task, Layout& layout) {
  const Attachments& memories = task.cargo->attachments;
  const std::uint64_t first = slot.sent.memory_id + 1;
  for (std::size_t i = 0; i < memories.size(); ++i) layout.ids.push_back(++slot.sent.memory_id);
  if (!send_memories(slot.worker.socket, first, memories)) return false;
  if (!layout.external) return true;
  layout.block = {.memory_id = send_block(slot, static_cast<CallBlock&>(*task.cargo->block)),
                  .bytes = task.cargo->block_bytes};
  return layout.block.memory_id != 0;
}

// Returns the block's number at the worker; 0: the socket takes no more at present.
std::uint64_t CallWriter::send_block(WorkerSlot& slot, CallBlock& block) {
  for (auto& known : block.known_by) {
    if (known.slot != slot.index) continue;
    if (known.incarnation == slot.incarnation) return known.id;
    known = block.known_by.back();  // of an earlier incarnation
    block.known_by.pop_back();
    break;
  }
  const std::uint64_t id = ++slot.sent.memory_id | (block.kept ? memory_is_kept : 0);
  if (!send_notice(slot.worker.socket, ParentMessage::attachment, id, block.size(), block.fd())) return 0;
  if (block.kept) block.known_by.push_back({slot.index, slot.incarnation, id});
  return id;
}

}  // namespace kindred::internal
