#include "worker_process.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>

#include <cxxabi.h>
#include <fmt/format.h>

#include "child/idle_arrays.hpp"
#include "kindred/entry.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/foreign_task.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/keeper.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/throw_stack.hpp"
#include "kindred/internal/worker_groups.hpp"
#include "nesting.hpp"

namespace kindred {
namespace internal {
namespace {

std::atomic<const ForeignTask*> foreign_task{nullptr};
WorkerProcess* this_process = nullptr;  // set once, before the first call; a fork of a task inherits it and
                                        // is told apart by served_context

// Of a wait for calls.
constexpr unsigned pauses_between_yields = 256;
// A parent that leaves more bytes of results than this in the ring does not wait for each of them.
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
      setup_{read_pool_setup(boot.setup.pool_setup)},
      calls_{boot.segment.call_room(), header_.calls},
      worker_{*this},
      manners_{header_},
      bells_{header_, boot.waiter_bell, boot.service_bell},
      result_memory_{header_.free_result_blocks},
      mailbox_{boot, result_memory_},
      results_{boot.segment.result_room(),
               header_,
               setup_.max_rss_bytes,
               mailbox_,
               result_memory_,
               bells_,
               manners_},
      stop_{header_} {}

int WorkerProcess::run() {
  for (;;) {
    if (calls_.ready()) {
      // Both cache lines are the parent's still. Fetch them together, that of the call for writing, since a
      // claim writes to it.
      calls_.prefetch();
      results_.ring().prefetch();
    }
    const auto message = calls_.next();
    if (message.empty()) {
      if (calls_.corrupt())
        exit_now(exit_code::corrupted);  // only tasks of this worker can have corrupted the ring: it ends,
                                         // and its unbegun calls go to other workers
      if (!wait_for_call()) break;
      continue;
    }
    auto& call = *reinterpret_cast<CallHeader*>(message.data());
    if (needs_socket(call) && !mailbox_.has_socket()) break;  // unclaimed, it goes to another worker
    KINDRED_INJECTION_POINT("worker.call.before_claim");
    std::uint32_t expected = call_state::queued;
    // Crash: before this swap the call is not begun, and goes to another worker; after it, it is this
    // worker's, and fails with it.
    if (!call.state.compare_exchange_strong(expected, call_state::begun, std::memory_order_acq_rel)) {
      KINDRED_INJECTION_POINT("worker.call.revoked");
      calls_.release();
      continue;
    }
    KINDRED_INJECTION_POINT("worker.call.claimed");
    run_call(call, message);
    KINDRED_INJECTION_POINT("worker.call.before_release");
    calls_.release();  // at once: the parent reuses this space once it has the result, and the reader would
                       // think that it was overrun
  }
  return leave();
}

int WorkerProcess::leave() {
  KINDRED_INJECTION_POINT("worker.leave.begun");
  header_.phase.store(WorkerPhase::in_finalizer, std::memory_order_relaxed);
  // A finalizer that fails was reported, and the worker ends in good order all the same.
  (void)run_start_call(setup_.finalizer, setup_.initializer.attachments + 1, WorkerMessage::finalizer_failed);
  KINDRED_INJECTION_POINT("worker.leave.finalized");
  states_.clear();
  if (capture_) capture_->drain(true);
  if (!has_lost_descriptors()) return 0;
  header_.phase.store(WorkerPhase::lost_descriptors, std::memory_order_relaxed);
  return worker_exit::lost_descriptors;
}

bool WorkerProcess::needs_socket(const CallHeader& call) const noexcept {
  return call.attachments != 0 || (call.flags & call_is_external) != 0;
}

bool WorkerProcess::call_or_command() {
  // Order: the command first. The parent publishes calls before it commands, so a ring that is empty after
  // the command was seen is empty.
  const auto command = header_.command.load(std::memory_order_acquire);
  return calls_.ready() || command != 0 || mailbox_.has_mail();
}

bool WorkerProcess::space_for_result() { return !results_.begin().empty(); }

bool WorkerProcess::wait_for_call() {
  leave_task();
  last_end_ = 0;
  header_.begun_attempt.store(0, std::memory_order_relaxed);
  ring_if_armed();
  if (has_lost_descriptors()) return false;  // another worker takes its place
  do {
    mailbox_.read();
    sleep_until(&WorkerProcess::call_or_command);
  } while (mailbox_.has_mail() && !calls_.ready());
  return calls_.ready();
}

// Spins for as long as the parent allows, then sleeps on the segment's wake word.
void WorkerProcess::sleep_until(Condition ready) {
  if (spin_until(ready)) return;
  IdleArrays arrays;
  manners_.note_sleep();
  while (!(this->*ready)()) {
    const auto seen = header_.wake.load(std::memory_order_relaxed);
    const Deadline look_again = arrays.or_earlier(announce_sleep(header_));
    if ((this->*ready)()) break;
    KINDRED_INJECTION_POINT("worker.sleep.before_futex");
    futex_wait(header_.wake, seen, look_again);
    KINDRED_INJECTION_POINT("worker.sleep.woken");
    arrays.release_if_due();
  }
  header_.sleeps.store(0, std::memory_order_relaxed);
  manners_.note_woken();
}

bool WorkerProcess::spin_until(Condition ready) {
  const auto budget = header_.spin_nanoseconds.load(std::memory_order_relaxed);
  const auto since = ticks();
  if (budget == 0 || !manners_.may_spin(since)) return false;
  const auto limit = static_cast<std::uint64_t>(static_cast<double>(budget) * ticks_per_nanosecond());
  manners_.tell_cpu();
  if (!manners_.yield_once_to_waker()) return (this->*ready)();
  unsigned paused = 0;
  for (auto before = since;;) {
    const auto now = ticks();
    const bool may_go_on = manners_.note_step(before, now);
    if ((this->*ready)()) return true;
    if (!may_go_on || now - since >= limit) return false;
    before = now;
    if (paused >= pauses_between_yields) {
      paused = 0;
      if (!manners_.yield_while_spinning()) return (this->*ready)();
    } else {
      // A parent that leaves results where they are is busy submitting. It gets on faster if it keeps the
      // line of its cursor for some calls.
      const unsigned pauses = results_.ring().unread() < several_results ? 4 : 32;
      for (unsigned i = 0; i < pauses; ++i) cpu_relax();
      paused += pauses;
    }
  }
}

void WorkerProcess::ring_if_armed() noexcept {
  if (bells_.ring_if_armed(calls_.position())) manners_.note_parent_rung();
}

// Says which task runs, to the parent and to the log. Returns where the arguments are.
const std::byte* WorkerProcess::enter(const CallHeader& call, const std::byte* at, std::uint64_t begun) {
  manners_.note_begin(begun);
  header_.begun_ticks.store(begun, std::memory_order_relaxed);
  header_.begun_attempt.store(attempt_id(call.task_id, call.attempt), std::memory_order_release);
  attempt_ = call.attempt;
  enter_task({.task_id = call.task_id,
              .attempt = call.attempt,
              .function_reference = call.function != 0 ? call.function : call.entry,
              .name = {reinterpret_cast<const char*>(at), call.name_bytes}});
  KINDRED_INJECTION_POINT("worker.task.entered");
  return at + round_to_ring(call.name_bytes);
}

std::span<std::byte> WorkerProcess::wait_for_result_space() {
  auto space = results_.begin();
  while (space.empty()) {
    KINDRED_INJECTION_POINT("worker.result.no_room");
    // No thread of the parent waits for the results, so none takes them in. The parent is told that it must,
    // and it wakes the worker when there is space.
    bells_.ring_service();
    sleep_until(&WorkerProcess::space_for_result);
    space = results_.begin();
  }
  return space;
}

// In a handler for the forced unwind of pthread_exit the reference refers to no object. It is not used, but
// UndefinedBehaviorSanitizer would report it.
__attribute__((no_sanitize("null"))) void WorkerProcess::run_call(CallHeader& call,
                                                                  std::span<std::byte> message) {
  const std::uint64_t begun = last_end_ != 0 ? last_end_ : ticks();
  const std::byte* const at = enter(call, message.data() + sizeof(CallHeader), begun);
  Encoder out{boot_.hello.context, wait_for_result_space(), &ResultWriter::grow, &results_};
  ResultKind kind = ResultKind::value;
  TaskPhase phase = TaskPhase::reading_arguments;
  const std::size_t start = out.size();
  try {
    run_entry(call, at, out, phase);
  } catch (abi::__forced_unwind&) {
    if (process_id() != boot_pid_) leave_forked_child();
    // The task ends this thread by pthread_exit, which cannot be stopped. Its failure is sent, and the
    // process ends.
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

struct WorkerProcess::Arguments {
  std::span<const std::byte> bytes;
  Attachments attachments = {};
  std::shared_ptr<SharedMemory> block = {};  // where the bytes lie; null: in the ring
};

WorkerProcess::Arguments WorkerProcess::read_arguments(const CallHeader& call, const std::byte* at) {
  Arguments arguments{.bytes = {at, call.argument_bytes}};
  at += round_to_ring(call.argument_bytes);
  for (std::size_t i = 0; i < call.attachments; ++i) {
    std::uint64_t id = 0;
    std::memcpy(&id, at + i * sizeof id, sizeof id);
    arguments.attachments.push_back(mailbox_.memory(id));
  }
  if ((call.flags & call_is_external) != 0) {
    BlockReference reference;
    std::memcpy(&reference, arguments.bytes.data(), sizeof reference);
    arguments.block = mailbox_.memory(reference.memory_id);
    arguments.block->map_pages(false);
    arguments.bytes = arguments.block->bytes().first(reference.bytes);
  }
  return arguments;
}

// Runs a call. Where it throws, `phase` says what it was doing.
__attribute__((no_sanitize("null"))) void WorkerProcess::run_frame(const EntryInfo& entry, TaskFrame& frame,
                                                                   TaskPhase& phase) {
  try {
    entry.run(frame);
  } catch (const ThrowWitness&) {  // never thrown: while the handler is looked for, the stack of the real
                                   // exception is noted
    throw;
  } catch (...) {
    phase = frame.phase;
    throw;
  }
}

__attribute__((no_sanitize("null"))) void WorkerProcess::run_entry(const CallHeader& call,
                                                                   const std::byte* at, Encoder& out,
                                                                   TaskPhase& phase) {
  Arguments arguments = read_arguments(call, at);
  Decoder in{boot_.hello.context, arguments.bytes, &arguments.attachments};
  const auto* const entry = static_cast<const EntryInfo*>(mailbox_.resolve(call.entry));
  TaskFrame frame{in,
                  out,
                  worker_,
                  call.function == 0 ? nullptr : mailbox_.resolve(call.function),
                  phase,
                  &header_.items,
                  boot_.segment.result_room(),
                  &ResultWriter::send_block,
                  &results_};
  results_.set_runs_items(entry->runs_items);
  run_frame(*entry, frame, phase);
}

void WorkerProcess::write_result(CallHeader& call, Encoder& out, ResultKind kind, std::uint64_t begun) {
  if (capture_) capture_->drain(true);
  last_end_ = results_.write(call, out, kind, begun, calls_.position());
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
    if (call.attachments != 0 && !mailbox_.has_socket()) return false;  // of the finalizer: a task closed it
    for (std::size_t i = 0; i < call.attachments; ++i)
      attachments.push_back(mailbox_.memory(first_attachment + i));
    Decoder in{boot_.hello.context, call.arguments, &attachments};
    const auto* const entry = static_cast<const EntryInfo*>(mailbox_.resolve(call.entry));
    TaskFrame frame{in, out, worker_, call.function == 0 ? nullptr : mailbox_.resolve(call.function), phase};
    run_frame(*entry, frame, phase);
    return true;
  } catch (abi::__forced_unwind&) {
    if (process_id() != boot_pid_) leave_forked_child();
    replace_by_failure(out, 0, 0, phase, true);
    mailbox_.send(failure, out.written());
    exit_now(1);
  } catch (...) {
    if (process_id() != boot_pid_) leave_forked_child();
    replace_by_failure(out, 0, 0, phase, false);
    mailbox_.send(failure, out.written());
    return false;
  }
}

std::shared_ptr<void>& WorkerProcess::state_place(std::type_index type) { return states_[type]; }

void leave_forked_child() noexcept {
  if (this_process != nullptr) this_process->tell_of_forked_child();
  exit_now(worker_exit::forked_child);
}

int worker_main(WorkerBootstrap& boot) {
  // Never deleted: static destructors of the program may still log and call this_worker().
  auto* const process = new WorkerProcess{boot};
  this_process = process;
  return process->start();
}

int WorkerProcess::start() {
  const Hello& hello = boot_.hello;
  attach_log(boot_.segment.log_area(), std::move(boot_.collector_bell),
             {.context = hello.context,
              .worker = hello.index,
              .incarnation = hello.incarnation,
              .pid = process_id()});
  if (setup_.bridge_spdlog) bridge_spdlog();
  set_nesting_depth(setup_.depth);
  install_crash_handlers(boot_.segment.crash_page(), header_.begun_attempt, boot_.setup.modules);
  if (!close_sandbox(false)) return exit_code::not_set_up;
  const bool open_yet = boot_.setup.sandbox && boot_.setup.sandbox->after_initializer;
  if (!open_yet) keep_descriptors_from_tasks();
  if (boot_.captured_stdout)
    capture_ =
        std::make_unique<OutputCapture>(std::move(boot_.captured_stdout), std::move(boot_.captured_stderr),
                                        boot_.segment.crash_page(), !open_yet);
  KINDRED_INJECTION_POINT("worker.start.before_initializer");
  header_.phase.store(WorkerPhase::in_initializer, std::memory_order_relaxed);
  if (!run_start_call(setup_.initializer, 1, WorkerMessage::initializer_failed)) {
    if (capture_) capture_->drain(true);
    return exit_code::initializer_failed;
  }
  mailbox_.note_started();
  if (!close_sandbox(true)) return exit_code::not_set_up;
  if (open_yet) keep_descriptors_from_tasks();
  header_.phase.store(WorkerPhase::working, std::memory_order_relaxed);
  KINDRED_INJECTION_POINT("worker.start.before_ready");
  mailbox_.send(WorkerMessage::ready, {});
  KINDRED_INJECTION_POINT("worker.start.ready");
  return run();
}

// From here on no task can reach the lifeline, nor close the last descriptor of the socket: if the parent
// sees the socket close, this process executes another program. Not before the sandbox is closed, whose rules
// reach the threads by descriptors.
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
    if (!plan->groups.empty()) join_worker_group(plan->groups, boot_.hello.owner);
    enter_sandbox(*plan);
    if (plan->refuses_forks) report_forks_beforehand();
    return true;
  } catch (const std::exception& error) {
    const std::string_view text{error.what()};
    mailbox_.send(WorkerMessage::bootstrap_failed, std::as_bytes(std::span{text.data(), text.size()}));
    return false;
  }
}

void prepare_fork_server(const Setup& setup, CodeMap& code) {
  for (const WrittenCall& call : read_pool_setup(setup.pool_setup).preload) {
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

AttemptId running_attempt(const Worker&) noexcept {
  return attempt_id(this_process->task_id(), static_cast<std::uint16_t>(this_process->attempt()));
}

void set_foreign_task(const ForeignTask* task) noexcept {
  foreign_task.store(task, std::memory_order_release);
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
std::uint64_t Worker::task_id() const noexcept {
  const auto* const foreign = internal::foreign_task.load(std::memory_order_acquire);
  return foreign == nullptr ? process_->task_id() : foreign->id;
}
std::uint32_t Worker::attempt() const noexcept {
  const auto* const foreign = internal::foreign_task.load(std::memory_order_acquire);
  return process_->attempt() + (foreign == nullptr ? 0 : foreign->attempts_before);
}
std::string Worker::idempotency_key() const {
  if (const auto* const foreign = internal::foreign_task.load(std::memory_order_acquire))
    return foreign->idempotency_key;
  const std::uint64_t task = process_->task_id();
  return task == 0 ? std::string{} : fmt::format("{:016x}.{}", internal::served_context().value, task);
}
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
