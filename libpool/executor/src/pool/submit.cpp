#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/task_entry.hpp"
#include "pool/pool_core.hpp"

// From a caller's arguments to a task that is pending or dispatched.
namespace kindred::internal {
namespace {

// Arguments of this size go into a block in any case; smaller ones may wait in ordinary memory.
constexpr std::size_t always_in_block = std::size_t{1} << 30U;

}  // namespace

// Kept by a thread for its next call that needs one. An argument's serialiser, which may itself submit, finds
// none.
std::unique_ptr<Submission::Rare>& Submission::spare() noexcept {
  thread_local std::unique_ptr<Rare> kept;
  return kept;
}

Submission::Submission(PoolCore& pool)
    : pool_{&pool}, encoder_{pool.context().id(), small_, &Submission::grow, this} {
  pool.require_here("executor");
}

Submission::~Submission() {
  if (!rare_) [[likely]]
    return;
  rare_->block.reset();
  rare_->large.reset();
  rare_->argument_error = nullptr;
  spare() = std::move(rare_);
}

Submission::Rare& Submission::rare() {
  if (!rare_) rare_ = spare() ? std::move(spare()) : std::make_unique<Rare>();
  return *rare_;
}

std::span<std::byte> Submission::grow(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& submission = *static_cast<Submission*>(self);
  Rare& rare = submission.rare();
  const std::size_t wanted = written.size() + more;
  if (wanted <= largest_in_ring) {
    rare.scratch.resize(largest_in_ring);
    copy_bytes(rare.scratch.data(), written.data(), written.size());
    return rare.scratch;
  }
  // Straight into memory that the worker will map: the bytes are copied once on this side.
  const std::size_t space = rare.block || rare.large ? 2 * wanted : wanted + wanted / 8;
  CallBlocks& blocks = submission.pool_->call_blocks();
  if (auto block = space >= always_in_block ? blocks.take(space) : blocks.take_if_few(space)) {
    copy_bytes(block->bytes().data(), written.data(), written.size());
    rare.block = std::move(block);
    rare.large.reset();
    return rare.block->bytes();
  }
  auto large = std::make_unique_for_overwrite<std::byte[]>(space);
  copy_bytes(large.get(), written.data(), written.size());
  rare.large = std::move(large);
  rare.block.reset();
  return {rare.large.get(), space};
}

void Submission::arguments_failed() {
  try {
    throw;
  } catch (const UsageError&) {
    throw;
  } catch (const SystemError&) {
    throw;
  } catch (...) {
    rare().argument_error = std::current_exception();
  }
}

StateHandle Submission::submit(const EntryInfo& entry, const void* function, const TaskOptions* options) {
  return *pool_->submit(*this, entry, function, options, true);
}

std::optional<StateHandle> Submission::try_submit(const EntryInfo& entry, const void* function,
                                                  const TaskOptions* options) {
  return pool_->submit(*this, entry, function, options, false);
}

void PoolCore::require_here(const char* what) const {
  if (process_id() == owner_pid_) [[likely]]
    return;
  if (served_context() == context_.id()) {
    throw UsageError{
        std::string{"this "} + what + " belongs to " + to_string(context_.id()) + ", and pid " +
        std::to_string(process_id()) +
        " is one of its own workers. A worker that waits for its own pool can wait for ever, so it may not submit to it: "
        "return the work to the caller, or make a pool of its own in the worker."};
  }
  throw_foreign_handle(what, context_.id(), {});
}

void PoolCore::require_open() {
  require_here("executor");
  PoolGuard guard{tasks_.mutex};
  require_accepting(guard);
}

void PoolCore::require_accepting(Locked) const {
  const PoolPhase& phase = tasks_.phase;
  if (phase.broken) std::rethrow_exception(phase.broken->make());
  if (!phase.closed || (phase.finishes_chains && tasks_.callbacks.on_its_thread())) return;
  throw UsageError{
      "submit on an executor that has been shut down. Submit before shutdown, or make another executor."};
}

// The reference of the future to be: where memory ends, there is none.
struct PoolCore::NewTask {
  TaskState* task;
  PoolGuard& guard;
  bool counted = false;

  ~NewTask() {
    if (task == nullptr) return;
    if (!counted)
      task->destroy();
    else if (guard.holds())
      task->unpin(guard);
    else
      task->release();
  }
  StateHandle hand_over() noexcept { return StateHandle{std::exchange(task, nullptr)}; }
};

bool PoolCore::has_space(Locked locked) const noexcept {
  return tasks_.backpressure.allows_another(locked, tasks_.pending.size() + links_.slots.in_flight(locked),
                                            links_.slots);
}

bool PoolCore::wait_for_space(PoolGuard& guard, bool may_block) {
  while (!has_space(guard)) {
    if (dispatch_.dispatcher.collect_results(guard)) continue;
    if (!may_block) return false;
    tasks_.backpressure.wait(guard, [&] { dispatch_.dispatcher.arm_all(guard); });
    if (tasks_.phase.broken) std::rethrow_exception(tasks_.phase.broken->make());
    if (tasks_.phase.closed)
      throw UsageError{"the executor was shut down while submit waited for room (max_pending " +
                       std::to_string(options_.max_pending.value()) + ")."};
  }
  return true;
}

// Gives the task its arguments. Returns the failure of the task where their serialiser threw.
std::unique_ptr<Failure> PoolCore::fill(TaskState& task, Submission& submission) {
  Submission::Rare* const rare = submission.rare_.get();
  if (rare != nullptr && rare->argument_error) {
    return std::make_unique<SharedFailure>(make_task_error(rare->argument_error, TaskPhase::writing_arguments,
                                                           internal::facts_of(task, tasks_.completion.code()),
                                                           context_.id()));
  }
  const auto bytes = submission.encoder_.written();
  Attachments& attachments = submission.encoder_.attachments();
  const bool in_block = rare != nullptr && rare->block;
  if (in_block || !attachments.empty()) {
    task.cargo = std::make_unique<Cargo>();
    task.cargo->attachments = std::move(attachments);
    if (in_block) {
      task.cargo->block = rare->block;
      task.cargo->block_bytes = bytes.size();
    }
  }
  if (rare != nullptr && rare->large && bytes.size() > TaskState::inline_bytes) {
    task.store(std::move(rare->large), bytes.size());
  } else if (!in_block) {
    task.store(bytes);
  }
  return nullptr;
}

std::optional<StateHandle> PoolCore::submit(Submission& submission, const EntryInfo& entry,
                                            const void* function, const TaskOptions* options,
                                            bool may_block) {
  const CodeReference entry_code = context_.code().reference(&entry);
  const CodeReference function_code = function == nullptr ? 0 : context_.code().reference(function);

  PoolGuard guard{tasks_.mutex};
  const auto now = ticks();  // here, where the lock has waited for what came before: the clock would, too
  require_accepting(guard);
  supervise_.supervisor.start(guard);  // before the task exists: where that fails, there is none
  if (!has_space(guard) && !wait_for_space(guard, may_block)) return std::nullopt;

  auto* const task =
      ::new (tasks_.cells.take(guard)) TaskState{this, next_task_id_++, entry_code, function_code};
  if (executor_gone_) retain();
  NewTask reference{task, guard};
  task->submitted_ticks = now;
  if (options != nullptr) task->options = tasks_.latest_options.share(guard, *options);
  auto failure = fill(*task, submission);
  if (!failure) {
    tasks_.completion.totals(guard).argument_bytes += task->bytes().size();
    if (task->options && task->options->queue_timeout) {
      const auto until = surroundings_.clock.now() + *task->options->queue_timeout;
      supervise_.limits.fail_unless_begun_by(guard, until, *task);
      supervise_.supervisor.wake_at(guard, until);
    }
  }
  reference.counted = true;
  if (dispatch_.notes.on(guard)) [[unlikely]]
    dispatch_.notes.note_submit(guard, task->id, now);
  tasks_.completion.note_submitted(guard, *task);
  if (failure) {
    tasks_.completion.finish(guard, *task, Outcome::failure, std::move(failure));
  } else {
    dispatch_.dispatcher.dispatch_or_enqueue(guard, *task, now);
    dispatch_.dispatcher.collect_while_submitting(guard);
    if (!wait_.waiters.has_leader(guard) && !supervise_.supervisor.looks_by_itself(guard))
      dispatch_.dispatcher.arm_all(guard);
    supervise_.supervisor.note_submit(guard);
  }
  guard.unlock();
  return reference.hand_over();
}

void PoolCore::set_initializer(Call initializer) {
  require_here("executor");
  PoolGuard guard{tasks_.mutex};
  if (supervise_.supervisor.runs(guard)) {
    throw UsageError{
        "set_initializer after the first task was submitted: workers may run already. Set it before the first submit, or in ExecutorOptions."};
  }
  initializer_ = std::move(initializer);
  context_.tell(encode_setup());
}

}  // namespace kindred::internal
