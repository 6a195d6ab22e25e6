#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/task_entry.hpp"
#include "pool_core.hpp"

// From a caller's arguments to a task that waits or is handed to a worker.
namespace kindred::internal {
namespace {

// So much goes into a block at any rate; less may wait in ordinary memory.
constexpr std::size_t always_in_block = std::size_t{1} << 30U;

std::unique_ptr<TaskOptions> copy_of(const TaskOptions& options) {
  auto copy = std::make_unique<TaskOptions>(options);
  for (auto* const limit : {&copy->timeout, &copy->soft_timeout, &copy->queue_timeout}) {
    if (*limit) *limit = within_longest_wait(**limit);
  }
  return copy;
}

}  // namespace

// Kept by a thread for its next call that needs one; an argument's serialiser, which may itself submit, finds
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
    if (!written.empty()) std::memcpy(rare.scratch.data(), written.data(), written.size());
    return rare.scratch;
  }
  // Straight into memory that the worker will map: the bytes are copied once on this side.
  const std::size_t room = rare.block || rare.large ? 2 * wanted : wanted + wanted / 8;
  CallBlocks& blocks = submission.pool_->call_blocks();
  if (auto block = room >= always_in_block ? blocks.take(room) : blocks.take_if_few(room)) {
    if (!written.empty()) std::memcpy(block->bytes().data(), written.data(), written.size());
    rare.block = std::move(block);
    rare.large.reset();
    return rare.block->bytes();
  }
  auto large = std::make_unique_for_overwrite<std::byte[]>(room);
  if (!written.empty()) std::memcpy(large.get(), written.data(), written.size());
  rare.large = std::move(large);
  rare.block.reset();
  return {rare.large.get(), room};
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
  const std::scoped_lock lock{mutex_};
  require_accepting();
}

void PoolCore::require_accepting() const {
  if (broken_) std::rethrow_exception(broken_->make());
  if (!closed_ || (finishes_chains_ && callbacks_.on_its_thread())) return;
  throw UsageError{
      "submit on an executor that has been shut down. Submit before shutdown, or make another executor."};
}

// The reference of the future to be: where memory ends, there is none.
struct PoolCore::NewTask {
  TaskState* task;
  Lock& lock;
  bool counted = false;

  ~NewTask() {
    if (task == nullptr) return;
    if (!counted)
      task->destroy();
    else if (lock.owns_lock())
      task->unpin();
    else
      task->release();
  }
  StateHandle hand_over() noexcept { return StateHandle{std::exchange(task, nullptr)}; }
};

bool PoolCore::wait_for_room(Lock& lock, bool may_block) {
  while (!has_room()) {
    if (pump()) continue;
    if (!may_block) return false;
    ++bounded_waiting_;
    arm_all();
    room_.wait_for(lock, std::chrono::milliseconds{50});
    --bounded_waiting_;
    if (broken_) std::rethrow_exception(broken_->make());
    if (closed_)
      throw UsageError{"the executor was shut down while submit waited for room (max_pending " +
                       std::to_string(options_.max_pending.value()) + ")."};
  }
  return true;
}

std::optional<StateHandle> PoolCore::submit(Submission& submission, const EntryInfo& entry,
                                            const void* function, const TaskOptions* options,
                                            bool may_block) {
  const CodeReference entry_code = context_.code().reference(&entry);
  const CodeReference function_code = function == nullptr ? 0 : context_.code().reference(function);

  Lock lock{mutex_};
  const auto now = ticks();  // here, where the lock has waited for what came before: the clock would, too
  require_accepting();
  start_supervisor();  // before the task exists: where that fails, there is none
  if (!has_room() && !wait_for_room(lock, may_block)) return std::nullopt;

  auto* const task = ::new (tasks_.take()) TaskState{this, next_task_id_++, entry_code, function_code};
  if (executor_gone_) retain();
  NewTask reference{task, lock};
  task->submitted_ticks = now;
  if (options != nullptr) task->options = copy_of(*options);
  std::unique_ptr<Failure> argument_failure;
  Submission::Rare* const rare = submission.rare_.get();
  if (rare != nullptr && rare->argument_error) {
    argument_failure = std::make_unique<SharedFailure>(make_task_error(
        rare->argument_error, TaskPhase::writing_arguments, facts(*task, nullptr), context_.id()));
  } else {
    const auto bytes = submission.encoder_.written();
    Attachments& attachments = submission.encoder_.attachments();
    const bool in_block = rare != nullptr && rare->block;
    if (in_block || !attachments.empty()) {
      task->cargo = std::make_unique<Cargo>();
      task->cargo->attachments = std::move(attachments);
      if (in_block) {
        task->cargo->block = rare->block;
        task->cargo->block_bytes = bytes.size();
      }
    }
    if (rare != nullptr && rare->large && bytes.size() > TaskState::inline_bytes) {
      task->store(std::move(rare->large), bytes.size());
    } else if (!in_block) {
      task->store(bytes);
    }
    totals_.argument_bytes += bytes.size();
    if (options != nullptr && options->queue_timeout)
      add_timer(std::chrono::steady_clock::now() + *task->options->queue_timeout, *task);
  }
  reference.counted = true;
  if (watching_) [[unlikely]]
    watch_submit(task->id, now);
  ++totals_.submitted;
  ++outstanding_;
  if (argument_failure) {
    ++totals_.failed;
    finish(*task, Outcome::failure, std::move(argument_failure));
    flush_afterwards(lock);
    return reference.hand_over();
  }
  place(*task, now);
  if (++submits_since_pump_ % 32 == 0) (void)pump();  // what is done makes room, and tells who is free
  if (leader_ == nullptr && !watched_by_timer_) arm_all();
  if (supervisor_sleeps_until_ == SteadyTime::max()) [[unlikely]]
    wake_idle_supervisor();
  flush_afterwards(lock);
  return reference.hand_over();
}

// From now on the supervisor looks after the workers' health, while there is work.
void PoolCore::wake_idle_supervisor() {
  kick();
  supervisor_sleeps_until_ = SteadyTime::min();  // one ring is enough: it says anew when it sleeps again
}

void PoolCore::set_initializer(Call initializer) {
  require_here("executor");
  const std::scoped_lock lock{mutex_};
  if (supervisor_runs_) {
    throw UsageError{
        "set_initializer after the first task was submitted: workers may run already. Set it before the first submit, or in ExecutorOptions."};
  }
  initializer_ = std::move(initializer);
  context_.tell(encode_pool_part());
}

}  // namespace kindred::internal
