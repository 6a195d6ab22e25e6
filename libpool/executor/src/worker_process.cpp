#include "worker_process.hpp"

#include <algorithm>
#include <cstring>
#include <exception>

#include <cxxabi.h>

#include "kindred/entry.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/keeper.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/throw_stack.hpp"
#include "kindred/shared_array.hpp"
#include "nesting.hpp"

namespace kindred {
namespace internal {
namespace {

WorkerProcess* this_process = nullptr;  // set once, before the first call; a fork of a task inherits it and
                                        // is told apart by served_context

// The smallest room that a result begins in; it grows out of it.
constexpr std::size_t first_result_room = 256;
// Of a wait for calls.
constexpr unsigned pauses_between_yields = 256;
// The kernel packs a parent and a worker that wait for each other on one core, and leaves them there as long
// as both yield. After so many yields to the parent without a sleep between, the worker goes to another core;
// not more often than this.
constexpr unsigned yields_to_parent = 64;
constexpr double parent_wakes_nanoseconds = 50'000;
// Of a worker that is busy, whose place is asked for where several share one.
constexpr double cpu_is_old_nanoseconds = 100'000;
constexpr double moves_apart_nanoseconds = 1'000'000;
constexpr double most_moves_apart_nanoseconds = 100'000'000;
// So many bytes of results that nobody takes in are more than somebody leaves there who waits for each.
constexpr std::size_t several_results = 256;

std::span<std::byte> grow_vector(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& bytes = *static_cast<std::vector<std::byte>*>(self);
  bytes.resize(2 * (written.size() + more));
  return bytes;
}

}  // namespace

WorkerProcess::WorkerProcess(WorkerBootstrap& boot)
    : boot_{boot},
      header_{boot.segment.header()},
      part_{read_pool_setup(boot.setup.pool_part)},
      calls_{boot.segment.call_room(), header_.calls},
      results_{boot.segment.result_room(), header_.results},
      worker_{*this} {}

int WorkerProcess::run() {
  for (;;) {
    if (calls_.ready()) {
      // Both lines are the parent's yet. They come together, the call's at once to be written to, which
      // claims it.
      calls_.prefetch();
      results_.prefetch();
    }
    const auto message = calls_.next();
    if (message.empty()) {
      if (calls_.corrupt())
        exit_now(exit_code::corrupted);  // only this worker's own tasks can have done it: it ends, and what
                                         // it had not begun goes elsewhere
      if (!wait_for_call()) break;
      continue;
    }
    auto& call = *reinterpret_cast<CallHeader*>(message.data());
    if (needs_socket(call) && !has_socket()) break;  // unclaimed, it goes to another worker
    KINDRED_INJECTION_POINT("worker.call.before_claim");
    std::uint32_t expected = call_state::queued;
    // Crash: before this swap the call is not begun, and goes to another worker; after it, it is this
    // worker's, and fails with it.
    if (!call.state.compare_exchange_strong(expected, call_state::begun, std::memory_order_acq_rel)) {
      KINDRED_INJECTION_POINT("worker.call.revoked");
      calls_.release();
      continue;  // taken back
    }
    KINDRED_INJECTION_POINT("worker.call.claimed");
    run_call(call, message);
    KINDRED_INJECTION_POINT("worker.call.before_release");
    calls_.release();  // the parent reuses the room once it has the result; the reader must not think that it
                       // was overrun
  }
  KINDRED_INJECTION_POINT("worker.leave.begun");
  header_.phase.store(WorkerPhase::in_finalizer, std::memory_order_relaxed);
  const bool good =
      run_start_call(part_.finalizer, part_.initializer.attachments + 1, WorkerMessage::finalizer_failed);
  KINDRED_INJECTION_POINT("worker.leave.finalized");
  states_.clear();
  if (capture_) capture_->drain(true);
  (void)good;  // it was reported; the worker's end is in good order all the same
  if (!has_lost_descriptors()) return 0;
  header_.phase.store(WorkerPhase::lost_descriptors, std::memory_order_relaxed);
  return worker_exit::lost_descriptors;
}

bool WorkerProcess::needs_socket(const CallHeader& call) const noexcept {
  return call.attachments != 0 || (call.flags & call_is_external) != 0;
}

void WorkerProcess::end_without_socket() const noexcept {
  header_.phase.store(WorkerPhase::lost_descriptors, std::memory_order_relaxed);
  exit_now(worker_exit::lost_descriptors);
}

void WorkerProcess::receive_expected() {
  if (!receive_message(starting_)) end_without_socket();
}

bool WorkerProcess::call_or_command() {
  // Order: the command first. The parent publishes calls before it commands, so a ring that is empty after
  // the command was seen is empty.
  const auto command = header_.command.load(std::memory_order_acquire);
  return calls_.ready() || command != 0 || header_.mail.load(std::memory_order_acquire) != mail_seen_;
}

bool WorkerProcess::room_for_result() { return !results_.reserve(first_result_room).empty(); }

bool WorkerProcess::wait_for_call() {
  leave_task();
  last_end_ = 0;
  header_.begun_attempt.store(0, std::memory_order_relaxed);
  ring_if_armed();
  if (has_lost_descriptors()) return false;  // another worker takes its place
  do {
    read_mail();
    (void)sleep_until(&WorkerProcess::call_or_command);
  } while (header_.mail.load(std::memory_order_relaxed) != mail_seen_ && !calls_.ready());
  return calls_.ready();
}

void WorkerProcess::read_mail() {
  const auto mail = header_.mail.load(std::memory_order_acquire);
  if (mail == mail_seen_) return;
  mail_seen_ = mail;
  while (receive_message(false)) {}
}

// Spins for as long as the parent allows, then sleeps on the segment's wake word.
bool WorkerProcess::sleep_until(bool (WorkerProcess::*ready)()) {
  const auto budget = header_.spin_nanoseconds.load(std::memory_order_relaxed);
  if (budget != 0) {
    const auto limit = static_cast<std::uint64_t>(static_cast<double>(budget) * ticks_per_nanosecond());
    header_.cpu.store(static_cast<std::uint32_t>(current_cpu()) + 1, std::memory_order_relaxed);
    // Woken on the core of whoever woke us, who now waits there for what we have done.
    if (std::exchange(shares_core_, false)) yield_cpu();
    const auto wakes = static_cast<std::uint64_t>(parent_wakes_nanoseconds * ticks_per_nanosecond());
    const auto since = ticks();
    for (unsigned paused = 0; ticks() - since < limit;) {
      if ((this->*ready)()) return true;
      if (paused >= pauses_between_yields) {
        paused = 0;
        // The parent may be queued behind us on this core. Whoever else is gets it by the kernel's rules: a
        // long task would not give it back soon.
        if (shares_core())
          yield_to_parent();
        else if (ticks() - woke_parent_at_ < wakes)
          yield_cpu();
        header_.cpu.store(static_cast<std::uint32_t>(current_cpu()) + 1, std::memory_order_relaxed);
      } else {
        // A parent that leaves results where they are is busy submitting. It gets on faster if it keeps the
        // line of its cursor for some calls.
        const unsigned pauses = results_.unread() < several_results ? 4 : 32;
        for (unsigned i = 0; i < pauses; ++i) cpu_relax();
        paused += pauses;
      }
    }
  }
  release_idle_arrays();
  yields_to_parent_ = 0;
  while (!(this->*ready)()) {
    const auto seen = header_.wake.load(std::memory_order_relaxed);
    const Deadline look_again = say_that_it_sleeps();
    if ((this->*ready)()) break;
    KINDRED_INJECTION_POINT("worker.sleep.before_futex");
    futex_wait(header_.wake, seen, look_again);
    KINDRED_INJECTION_POINT("worker.sleep.woken");
  }
  header_.sleeps.store(0, std::memory_order_relaxed);
  header_.cpu.store(static_cast<std::uint32_t>(current_cpu()) + 1, std::memory_order_relaxed);
  shares_core_ = shares_core();
  return true;
}

void WorkerProcess::yield_to_parent() noexcept {
  yield_cpu();
  if (++yields_to_parent_ < yields_to_parent) return;
  yields_to_parent_ = 0;
  if (shares_core()) move_apart(ticks());
}

void WorkerProcess::tell_cpu(std::uint64_t now) noexcept {
  cpu_told_at_ = now;
  const auto cpu = static_cast<std::uint32_t>(current_cpu()) + 1;
  header_.cpu.store(cpu, std::memory_order_relaxed);
  if (header_.crowded_cpu.load(std::memory_order_relaxed) != cpu) return;
  header_.crowded_cpu.store(0, std::memory_order_relaxed);
  move_apart(now);
}

void WorkerProcess::move_apart(std::uint64_t now) noexcept {
  if (now - moved_at_ < move_apart_) return;
  const auto lasts = [](double nanoseconds) {
    return static_cast<std::uint64_t>(nanoseconds * ticks_per_nanosecond());
  };
  // Where it comes to this again and again, there are not enough cores for both.
  move_apart_ = now - moved_at_ < 2 * move_apart_
                    ? std::min(2 * move_apart_, lasts(most_moves_apart_nanoseconds))
                    : lasts(moves_apart_nanoseconds);
  moved_at_ = now;
  (void)leave_cpu(current_cpu());
  header_.cpu.store(static_cast<std::uint32_t>(current_cpu()) + 1, std::memory_order_relaxed);
}

bool WorkerProcess::shares_core() const noexcept {
  return header_.parent_cpu.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(current_cpu()) + 1;
}

// Returns when to look again though nobody has woken us: never, but where the kernel refuses the barrier to
// this process (a filter of system calls that an initializer set), because then the parent may have
// overlooked that we sleep.
Deadline WorkerProcess::say_that_it_sleeps() noexcept {
  KINDRED_INJECTION_POINT("worker.sleep.before_saying");
  header_.sleeps.store(1, std::memory_order_relaxed);
  KINDRED_INJECTION_POINT("worker.sleep.said");
  // Order: that we sleep before the look at the ring; pairs with the light side (or the fence) in
  // PoolCore::wake_worker.
  if (heavy_barrier()) [[likely]]
    return {};
  return std::chrono::steady_clock::now() + std::chrono::milliseconds{10};
}

void* WorkerProcess::resolve(CodeReference reference) {
  if (reference == last_reference_) return last_address_;
  while (!boot_.code.knows(reference)) receive_expected();
  void* const address = boot_.code.resolve(reference);
  if (reference >> code_module_shift > modules_noted_) {
    // A library of which we were told after the start: places in it have names from now on.
    modules_noted_ = boot_.setup.modules.size();
    note_modules(boot_.setup.modules);
  }
  last_reference_ = reference;
  last_address_ = address;
  return address;
}

bool WorkerProcess::receive_message(bool wait) {
  if (!has_socket()) end_without_socket();
  bool closed = false;
  auto message =
      boot_.socket.receive(wait ? Deadline{} : Deadline{std::chrono::steady_clock::time_point{}}, &closed);
  if (closed) exit_now(0);  // the parent is gone
  if (!message) return false;
  if (message->bytes.size() < sizeof(AttachmentNotice)) return true;
  AttachmentNotice notice;
  std::memcpy(&notice, message->bytes.data(), sizeof notice);
  const char* const text = reinterpret_cast<const char*>(message->bytes.data()) + sizeof notice;
  const std::size_t text_bytes = message->bytes.size() - sizeof notice;
  switch (static_cast<ParentMessage>(notice.message)) {
    case ParentMessage::attachment: take_in_memories(*message); break;
    case ParentMessage::module: {
      Module module;
      module.path.assign(text, std::min<std::size_t>(notice.bytes, text_bytes));
      if (text_bytes > notice.bytes + 1)
        module.build_id.assign(text + notice.bytes + 1, text_bytes - notice.bytes - 1);
      if (notice.memory_id == boot_.setup.modules.size()) boot_.setup.modules.push_back(module);
      boot_.code.add(notice.memory_id, std::move(module), boot_.setup.options.load_libraries);
      break;
    }
    case ParentMessage::forget: call_blocks_.erase(notice.memory_id); break;
    case ParentMessage::forget_result:
      if (notice.memory_id < result_blocks_.size() && result_blocks_[notice.memory_id]) {
        kept_blocks_.drop(result_blocks_[notice.memory_id]->memory.size());
        result_blocks_[notice.memory_id].reset();
      }
      break;
  }
  return true;
}

/// A notice and a descriptor for each memory. Where this process has no descriptor left, the kernel leaves
/// out the last ones: such a memory is known, and missing.
void WorkerProcess::take_in_memories(Message& message) {
  const std::size_t count = message.bytes.size() / sizeof(AttachmentNotice);
  for (std::size_t i = 0; i < count; ++i) {
    AttachmentNotice notice;
    std::memcpy(&notice, message.bytes.data() + i * sizeof notice, sizeof notice);
    std::shared_ptr<SharedMemory> memory;
    if (i < message.descriptors.size()) {
      memory = std::make_shared<SharedMemory>(
          SharedMemory::adopt(std::move(message.descriptors[i]), notice.bytes));
    }
    if ((notice.memory_id & memory_is_kept) == 0) {
      memory_[notice.memory_id] = std::move(memory);
    } else {
      if (memory) memory->close_descriptor();
      call_blocks_[notice.memory_id] = std::move(memory);
    }
  }
}

std::shared_ptr<SharedMemory> WorkerProcess::memory(std::uint64_t id) {
  auto found = memory_or_missing(id);
  if (found) return found;
  asks_recycle_ = true;  // the parent takes it that this worker has the memory
  throw SystemError{"recvmsg", EMFILE, "taking in the shared memory of a call"};
}

std::shared_ptr<SharedMemory> WorkerProcess::memory_or_missing(std::uint64_t id) {
  for (;;) {
    if ((id & memory_is_kept) != 0) {
      if (const auto found = call_blocks_.find(id); found != call_blocks_.end()) return found->second;
    } else if (const auto found = memory_.find(id); found != memory_.end()) {
      auto memory = std::move(found->second);
      memory_.erase(memory_.begin(),
                    std::next(found));  // in order: what was skipped belonged to calls that were taken back
      return memory;
    }
    receive_expected();
  }
}

std::span<std::byte> WorkerProcess::grow(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& process = *static_cast<WorkerProcess*>(self);
  const std::size_t wanted = written.size() + more;
  if (wanted <= process.results_.capacity() / 2) {
    // The ring again, at the beginning of its next lap: what is written there outlives this process.
    const auto room = process.results_.reserve(sizeof(ResultHeader) + wanted + wanted / 4);
    if (!room.empty()) {
      const auto value = room.subspan(sizeof(ResultHeader));
      std::memmove(value.data(), written.data(), written.size());
      return value;
    }
  }
  if (wanted <= largest_in_ring && !process.runs_items_) {
    // Not in place: `written` may lie in the same buffer.
    std::vector<std::byte> larger(std::max<std::size_t>(2 * wanted, 4096));
    std::memcpy(larger.data(), written.data(), written.size());
    process.overflow_.swap(larger);
    return process.overflow_;
  }
  SharedMemory* const previous = process.block_;
  SharedMemory& block = process.take_block(previous != nullptr ? 2 * wanted : wanted + wanted / 8);
  std::memcpy(block.bytes().data(), written.data(), written.size());
  return block.bytes();
}

std::int64_t WorkerProcess::send_block(void* self, const std::byte* results) noexcept try {
  auto& process = *static_cast<WorkerProcess*>(self);
  if (process.block_ == nullptr || process.block_ == &process.single_block_ ||
      results != process.block_->bytes().data())
    return 0;
  process.send_block_once();
  return -static_cast<std::int64_t>(process.block_place_) - 1;
} catch (const std::bad_alloc&) {
  return 0;
}

void WorkerProcess::send_block_once() {
  ResultBlock& block = *result_blocks_[block_place_];
  if (block.sent) return;
  send_memory(block.memory, block_place_ | memory_is_kept);
  block.memory.close_descriptor();
  block.sent = true;
}

void WorkerProcess::send_memory(const SharedMemory& memory, std::uint64_t id) {
  const AttachmentNotice notice{.message = 0, .spare = 0, .memory_id = id, .bytes = memory.size()};
  send(WorkerMessage::attachment, std::as_bytes(std::span{&notice, 1}), memory.fd());
}

// Memory to write a large result into: one of those that are kept, if one is free and large enough. `block_`
// is it from now on.
SharedMemory& WorkerProcess::take_block(std::size_t bytes) {
  // Order: acquire, pairs with the release of the parent's reader.
  const std::uint64_t freed = header_.free_result_blocks.load(std::memory_order_acquire);
  std::size_t unused = result_blocks_.size();
  std::size_t best = result_blocks_.size();
  for (std::size_t place = 0; place < result_blocks_.size(); ++place) {
    auto& block = result_blocks_[place];
    if (!block) {
      if (unused == result_blocks_.size()) unused = place;
      continue;
    }
    if ((!block->ours && (freed >> place & 1U) == 0) || &block->memory == block_ ||
        block->memory.size() < bytes)
      continue;
    if (best == result_blocks_.size() || block->memory.size() < result_blocks_[best]->memory.size())
      best = place;
  }
  const std::uint64_t bit = best == result_blocks_.size() ? 0 : std::uint64_t{1} << best;
  if (best != result_blocks_.size() &&
      (result_blocks_[best]->ours ||
       (header_.free_result_blocks.fetch_and(~bit, std::memory_order_acq_rel) & bit) != 0)) {
    result_blocks_[best]->ours = true;
    block_place_ = best;
    block_ = &result_blocks_[best]->memory;
    block_->map_pages(true);
    return *block_;
  }
  read_mail();
  auto memory = SharedMemory::create("kindred-result", bytes);
  memory.map_pages(true);
  if (unused == result_blocks_.size() || !kept_blocks_.keep(memory.size())) {
    // `written` may lie in the one before.
    std::swap(memory, single_block_);
    spare_block_ = std::move(memory);
    block_ = &single_block_;
  } else {
    block_place_ = unused;
    block_ = &result_blocks_[unused].emplace(ResultBlock{std::move(memory)}).memory;
  }
  return *block_;
}

// The forced unwind of pthread_exit is caught by a reference to nothing: it must not be looked at, and the
// sanitizer looks.
__attribute__((no_sanitize("null"))) void WorkerProcess::run_call(CallHeader& call,
                                                                  std::span<std::byte> message) {
  const std::uint64_t begun = last_end_ != 0 ? last_end_ : ticks();
  if (begun - cpu_told_at_ > cpu_is_old_after_) [[unlikely]]
    tell_cpu(begun);
  header_.begun_ticks.store(begun, std::memory_order_relaxed);
  header_.begun_attempt.store(attempt_id(call.task_id, call.attempt), std::memory_order_release);
  attempt_ = call.attempt;
  const std::byte* at = message.data() + sizeof(CallHeader);
  enter_task({.task_id = call.task_id,
              .attempt = call.attempt,
              .function_reference = call.function != 0 ? call.function : call.entry,
              .name = {reinterpret_cast<const char*>(at), call.name_bytes}});
  at += round_to_ring(call.name_bytes);

  KINDRED_INJECTION_POINT("worker.task.entered");
  auto room = results_.reserve(first_result_room);
  while (room.empty()) {
    KINDRED_INJECTION_POINT("worker.result.no_room");
    // The parent does not take results in: nobody waits for them. It is told that it must, and it wakes us
    // when there is room.
    boot_.service_bell.ring();
    (void)sleep_until(&WorkerProcess::room_for_result);
    room = results_.reserve(first_result_room);
  }
  Encoder out{boot_.hello.context, room.subspan(sizeof(ResultHeader)), &WorkerProcess::grow, this};
  ResultKind kind = ResultKind::value;
  Attachments attachments;
  std::shared_ptr<SharedMemory> block;
  TaskPhase phase = TaskPhase::reading_arguments;
  const std::size_t start = out.size();
  try {
    auto bytes = std::span<const std::byte>{at, call.argument_bytes};
    at += round_to_ring(call.argument_bytes);
    for (std::size_t i = 0; i < call.attachments; ++i) {
      std::uint64_t id = 0;
      std::memcpy(&id, at + i * sizeof id, sizeof id);
      attachments.push_back(memory(id));
    }
    if ((call.flags & call_is_external) != 0) {
      BlockReference reference;
      std::memcpy(&reference, bytes.data(), sizeof reference);
      block = memory(reference.memory_id);
      block->map_pages(false);
      bytes = block->bytes().first(reference.bytes);
    }
    Decoder in{boot_.hello.context, bytes, &attachments};
    const auto* const entry = static_cast<const EntryInfo*>(resolve(call.entry));
    TaskFrame frame{in,
                    out,
                    worker_,
                    call.function == 0 ? nullptr : resolve(call.function),
                    phase,
                    &header_.items,
                    boot_.segment.result_room(),
                    &WorkerProcess::send_block,
                    this};
    runs_items_ = entry->runs_items;
    try {
      entry->run(frame);
    } catch (const ThrowWitness&) {  // never: it notes the stack
      throw;
    } catch (...) {
      phase = frame.phase;
      throw;
    }
  } catch (abi::__forced_unwind&) {
    if (process_id() != boot_pid_) leave_forked_child();
    // The task ends this thread (pthread_exit): it cannot be kept from it. Its failure is sent, and the
    // process ends with it.
    replace_by_failure(out, start, 0, phase, true);
    write_result(call, out, ResultKind::failure, begun);
    exit_now(0);
  } catch (...) {
    if (process_id() != boot_pid_) leave_forked_child();
    replace_by_failure(out, start, 0, phase, false);
    kind = ResultKind::failure;
  }
  write_result(call, out, kind, begun);
}

void WorkerProcess::write_result(const CallHeader& call, Encoder& out, ResultKind kind, std::uint64_t begun) {
  if (capture_) capture_->drain(true);
  ResultHeader result{};
  result.kind = kind;
  result.task_id = call.task_id;
  result.begun_ticks = begun;
  const auto value = out.written();
  BlockReference external{};
  std::span<const std::byte> bytes = value;
  std::vector<std::uint64_t> ids;
  const auto send_numbered = [this](const SharedMemory& memory) {
    send_memory(memory, next_memory_id_);
    return next_memory_id_++;
  };
  for (const auto& memory : out.attachments()) ids.push_back(send_numbered(*memory));
  if (block_ != nullptr && value.data() == block_->bytes().data()) {
    if (block_ == &single_block_) {
      external = {.memory_id = send_numbered(*block_), .bytes = value.size()};
    } else {
      send_block_once();
      external = {.memory_id = block_place_ | memory_is_kept, .bytes = value.size()};
      result_blocks_[block_place_]->ours = false;
    }
    bytes = std::as_bytes(std::span{&external, 1});
    result.flags |= result_is_external;
  }
  result.value_bytes = static_cast<std::uint32_t>(bytes.size());
  result.attachments = static_cast<std::uint32_t>(ids.size());
  if (asks_recycle_) result.flags |= result_asks_recycle;
  if (part_.max_rss_bytes != 0 && grown_too_large()) result.flags |= result_asks_recycle;

  const std::size_t size = sizeof result + round_to_ring(bytes.size()) + ids.size() * sizeof(std::uint64_t);
  auto room = results_.reserve(size);
  while (room.empty()) {
    boot_.service_bell.ring();
    const auto seen = header_.wake.load(std::memory_order_relaxed);
    const Deadline look_again = say_that_it_sleeps();
    room = results_.reserve(size);
    if (room.empty()) futex_wait(header_.wake, seen, look_again);
    header_.sleeps.store(0, std::memory_order_relaxed);
    if (room.empty()) room = results_.reserve(size);
  }
  std::byte* at = room.data() + sizeof result;
  if (!bytes.empty() && at != bytes.data())
    std::memmove(at, bytes.data(), bytes.size());  // mostly it was written in place
  if (!ids.empty())
    std::memcpy(at + round_to_ring(bytes.size()), ids.data(), ids.size() * sizeof(std::uint64_t));
  last_end_ = ticks();
  result.ended_ticks = last_end_;
  std::memcpy(room.data(), &result, sizeof result);

  // A parent that is about to kill this worker for this very task has moved the state on: then nothing may
  // come of it any more.
  KINDRED_INJECTION_POINT("worker.result.before_done");
  std::uint32_t expected = call_state::begun;
  if (!const_cast<CallHeader&>(call).state.compare_exchange_strong(expected, call_state::done,
                                                                   std::memory_order_acq_rel)) {
    for (;;) futex_wait(header_.sleeps, header_.sleeps.load(std::memory_order_relaxed));
  }
  KINDRED_INJECTION_POINT("worker.result.before_publish");
  // Crash: before this line the task is lost with the worker, after it its result is committed.
  results_.publish(size);
  KINDRED_INJECTION_POINT("worker.result.published");
  ring_if_armed();
  KINDRED_INJECTION_POINT("worker.result.rung");
  if (block_ != nullptr) drop_unused_blocks();
}

void WorkerProcess::drop_unused_blocks() {
  block_ = nullptr;
  single_block_ = SharedMemory{};
  spare_block_ = SharedMemory{};
  for (std::size_t place = 0; place < result_blocks_.size(); ++place) {
    auto& block = result_blocks_[place];
    if (!block || !block->ours) continue;  // the usual one: a future's now
    if (!block->sent) {
      kept_blocks_.drop(block->memory.size());
      block.reset();
    } else {
      block->ours = false;
      header_.free_result_blocks.fetch_or(std::uint64_t{1} << place, std::memory_order_release);
    }
  }
}

void WorkerProcess::ring_if_armed() noexcept {
  // Order: the published cursor (or the position) before the look at what is armed; pairs with the fence in
  // PoolCore::arm_all.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint64_t armed = header_.armed.load(std::memory_order_relaxed);
  const std::uint64_t epoch = armed >> Armed::epoch_shift;
  if (epoch == last_rung_) return;
  if ((armed & Armed::waiter) != 0) {
    last_rung_ = epoch;
    boot_.waiter_bell.ring();
    woke_parent_at_ = ticks();
    shares_core_ = true;  // maybe
  } else if ((armed & Armed::service) != 0) {
    last_rung_ = epoch;
    boot_.service_bell.ring();
  } else if ((armed & Armed::dry) != 0) {
    const std::uint64_t low_water = (armed >> Armed::low_water_shift) & Armed::low_water_mask;
    if (header_.calls.published.load(std::memory_order_relaxed) - calls_.position() > low_water) return;
    last_rung_ = epoch;
    boot_.service_bell.ring();
  }
}

bool WorkerProcess::grown_too_large() {
  // Reading it costs microseconds: not more often than every 5 ms.
  const auto now = ticks();
  if (static_cast<double>(now - rss_checked_) < 5e6 * ticks_per_nanosecond()) return false;
  rss_checked_ = now;
  // What is kept for large values is no growth of the task's: it goes when no more of them come.
  std::uint64_t kept = 0;
  for (const auto& [id, memory] : call_blocks_) kept += memory ? memory->size() : 0;
  for (const auto& block : result_blocks_) kept += block ? block->memory.size() : 0;
  return resident_bytes(0) > part_.max_rss_bytes + kept;
}

void WorkerProcess::send(WorkerMessage message, std::span<const std::byte> bytes, int fd) {
  std::vector<std::byte> text;
  if (message == WorkerMessage::attachment) {
    text.assign(bytes.begin(), bytes.end());
  } else {
    text.resize(4 + std::min<std::size_t>(bytes.size(), 48 * 1024));
    if (!bytes.empty()) std::memcpy(text.data() + 4, bytes.data(), text.size() - 4);
  }
  const auto kind = static_cast<std::uint32_t>(message);
  std::memcpy(text.data(), &kind, sizeof kind);
  const std::span<const int> fds = fd < 0 ? std::span<const int>{} : std::span<const int>{&fd, 1};
  if (!has_socket()) end_without_socket();
  for (;;) {
    const auto sent = boot_.socket.send(text, fds);
    if (sent == MessageSocket::Sent::yes) return;
    if (sent == MessageSocket::Sent::closed) exit_now(0);
    boot_.service_bell.ring();  // the socket is full: the parent has not read for long
    yield_cpu();
  }
}

__attribute__((no_sanitize("null"))) bool WorkerProcess::run_start_call(const WrittenCall& call,
                                                                        std::size_t first_attachment,
                                                                        WorkerMessage failure) {
  if (call.entry == 0) return true;
  std::vector<std::byte> room(4096);
  Encoder out{boot_.hello.context, room, grow_vector, &room};
  TaskPhase phase = TaskPhase::reading_arguments;
  try {
    Attachments attachments;
    if (call.attachments != 0 && !has_socket()) return false;  // of the finalizer: a task closed it
    for (std::size_t i = 0; i < call.attachments; ++i) attachments.push_back(memory(first_attachment + i));
    Decoder in{boot_.hello.context, call.arguments, &attachments};
    const auto* const entry = static_cast<const EntryInfo*>(resolve(call.entry));
    TaskFrame frame{in, out, worker_, call.function == 0 ? nullptr : resolve(call.function), phase};
    try {
      entry->run(frame);
    } catch (const ThrowWitness&) {  // never: it notes the stack
      throw;
    } catch (...) {
      phase = frame.phase;
      throw;
    }
    return true;
  } catch (abi::__forced_unwind&) {
    if (process_id() != boot_pid_) leave_forked_child();
    replace_by_failure(out, 0, 0, phase, true);
    send(failure, out.written());
    exit_now(1);
  } catch (...) {
    if (process_id() != boot_pid_) leave_forked_child();
    replace_by_failure(out, 0, 0, phase, false);
    send(failure, out.written());
    return false;
  }
}

// Nothing of the worker's may be touched here: memory is a copy, but for the segment, which is the worker's.
void WorkerProcess::tell_of_forked_child() const noexcept {
  const ForkedChild notice{.message = static_cast<std::uint32_t>(WorkerMessage::forked_child),
                           .pid = process_id()};
  try {
    if (has_socket() && boot_.socket.send(std::as_bytes(std::span{&notice, 1})) == MessageSocket::Sent::yes)
      return;
  } catch (const std::exception&) {}
  complain_on_stderr(
      "kindred: a process that a task forked came out of the task's function instead of ending by _exit: it was ended.\n");
}

bool WorkerProcess::stop_requested() const noexcept {
  const auto attempt = begun_attempt();
  return attempt != 0 && header_.stop_attempt.load(std::memory_order_acquire) == attempt;
}

std::stop_token WorkerProcess::stop_token() {
  const std::scoped_lock lock{stop_mutex_};
  const auto attempt = begun_attempt();
  if (stop_attempt_ != attempt || !stop_source_) {
    stop_source_.emplace();
    stop_attempt_ = attempt;
  }
  if (stop_requested()) stop_source_->request_stop();
  if (!stop_watcher_.joinable()) {
    stop_watcher_ = std::jthread{[this](const std::stop_token&) {
      settle_thread("kindred-stop");
      for (;;) {
        const auto seen = header_.stop_signal.load(std::memory_order_acquire);
        {
          const std::scoped_lock watch{stop_mutex_};
          if (stop_source_ && stop_attempt_ != 0 &&
              header_.stop_attempt.load(std::memory_order_acquire) == stop_attempt_)
            stop_source_->request_stop();
        }
        futex_wait(header_.stop_signal, seen);
      }
    }};
    stop_watcher_.detach();  // it lives as long as the process
  }
  return stop_source_->get_token();
}

std::shared_ptr<void>& WorkerProcess::state_place(std::type_index type) { return states_[type]; }

void leave_forked_child() noexcept {
  if (this_process != nullptr) this_process->tell_of_forked_child();
  exit_now(worker_exit::forked_child);
}

int worker_main(WorkerBootstrap& boot) {
  // For ever: static destructors of the program may still log and ask.
  auto* const process = new WorkerProcess{boot};
  this_process = process;
  return process->start();
}

int WorkerProcess::start() {
  const Hello& hello = boot_.hello;
  socket_identity_ = boot_.socket.identity();
  cpu_is_old_after_ = static_cast<std::uint64_t>(cpu_is_old_nanoseconds * ticks_per_nanosecond());
  attach_log(boot_.segment.log_area(), std::move(boot_.collector_bell),
             {.context = hello.context,
              .worker = hello.index,
              .incarnation = hello.incarnation,
              .pid = process_id()});
  if (part_.bridge_spdlog) bridge_spdlog();
  set_nesting_depth(part_.depth);
  install_crash_handlers(boot_.segment.crash_page(), header_.begun_attempt, boot_.setup.modules);
  modules_noted_ = boot_.setup.modules.size();
  if (!close_sandbox(false)) return exit_code::not_set_up;
  const bool open_yet = boot_.setup.sandbox && boot_.setup.sandbox->after_initializer;
  if (!open_yet) keep_descriptors_from_tasks();
  if (boot_.captured_stdout)
    capture_ =
        std::make_unique<OutputCapture>(std::move(boot_.captured_stdout), std::move(boot_.captured_stderr),
                                        boot_.segment.crash_page(), !open_yet);
  KINDRED_INJECTION_POINT("worker.start.before_initializer");
  header_.phase.store(WorkerPhase::in_initializer, std::memory_order_relaxed);
  if (!run_start_call(part_.initializer, 1, WorkerMessage::initializer_failed)) {
    if (capture_) capture_->drain(true);
    return exit_code::initializer_failed;
  }
  starting_ = false;
  if (!close_sandbox(true)) return exit_code::not_set_up;
  if (open_yet) keep_descriptors_from_tasks();
  header_.phase.store(WorkerPhase::working, std::memory_order_relaxed);
  KINDRED_INJECTION_POINT("worker.start.before_ready");
  send(WorkerMessage::ready, {});
  KINDRED_INJECTION_POINT("worker.start.ready");
  return run();
}

// Nothing of a task reaches the lifeline any more, and an end of the socket stays open: the parent, who sees
// it close, knows that this process is no worker any more. Not before the sandbox, whose rules reach a thread
// by descriptors that it has.
void WorkerProcess::keep_descriptors_from_tasks() noexcept {
  if (!keep_descriptors(std::array{worker_fd::socket, worker_fd::lifeline})) return;
  Descriptor{worker_fd::lifeline}.reset();
  // A sandbox allows no signal to a group.
  if (boot_.hello.context.start_method() == StartMethod::spawn && !boot_.setup.sandbox)
    end_group_with_starter();
}

// Before the initializer, or after it. Returns false where that failed, which the parent was told.
bool WorkerProcess::close_sandbox(bool after_initializer) {
  const auto& plan = boot_.setup.sandbox;
  if (!plan || plan->after_initializer != after_initializer) return true;
  try {
    enter_sandbox(*plan);
    if (plan->refuses_forks) report_forks_beforehand();
    return true;
  } catch (const std::exception& error) {
    const std::string_view text{error.what()};
    send(WorkerMessage::bootstrap_failed, std::as_bytes(std::span{text.data(), text.size()}));
    return false;
  }
}

void prepare_fork_server(const Setup& setup, CodeMap& code) {
  for (const WrittenCall& call : read_pool_setup(setup.pool_part).preload) {
    std::vector<std::byte> room(4096);
    Encoder out{ContextId{}, room, grow_vector, &room};
    Decoder in{ContextId{}, call.arguments};
    // There is no worker here, and the executor has refused calls that would look at it.
    alignas(Worker) static std::byte nobody[sizeof(Worker)]{};
    TaskFrame frame{in, out, *reinterpret_cast<Worker*>(nobody),
                    call.function == 0 ? nullptr : code.resolve(call.function)};
    static_cast<const EntryInfo*>(code.resolve(call.entry))->run(frame);
  }
}

AttemptId running_attempt(const Worker& worker) noexcept {
  return attempt_id(worker.task_id(), static_cast<std::uint16_t>(worker.attempt()));
}

}  // namespace internal

int Worker::index() const noexcept { return process_->hello().index; }
std::uint32_t Worker::pid() const noexcept { return internal::process_id(); }
std::uint32_t Worker::incarnation() const noexcept { return process_->hello().incarnation; }
Logger& Worker::logger() const noexcept { return process_->logger(); }
Entry& Worker::entry() const {
  static char name[] = "kindred-worker";
  static char* arguments[] = {name, nullptr};
  static Entry passed{1, arguments};
  return passed;
}
std::uint64_t Worker::task_id() const noexcept { return process_->task_id(); }
std::uint32_t Worker::attempt() const noexcept { return process_->attempt(); }
bool Worker::stop_requested() const noexcept { return process_->stop_requested(); }
std::stop_token Worker::stop_token() { return process_->stop_token(); }
std::shared_ptr<void>& Worker::state_place(std::type_index type) { return process_->state_place(type); }

bool in_worker() noexcept {
  return internal::this_process != nullptr && static_cast<bool>(internal::served_context());
}

Worker& this_worker() {
  if (!in_worker()) {
    throw UsageError{
        "this_worker() was called in pid " + std::to_string(internal::process_id()) +
        ", which is no worker. Call it from a task, an initializer or a finalizer; in_worker() tells which."};
  }
  return internal::this_process->worker();
}

}  // namespace kindred
