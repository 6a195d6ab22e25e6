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
constexpr std::size_t scratch_bytes = 4 * 1024;

struct Scratch {
  std::vector<std::byte> bytes = std::vector<std::byte>(scratch_bytes);
  bool in_use = false;  // an argument's serialiser may itself submit
};
thread_local Scratch thread_scratch;

}  // namespace

Submission::Submission(PoolCore& pool) : pool_{&pool} {
  pool.require_here("executor");
  if (thread_scratch.in_use) {
    own_scratch_.resize(scratch_bytes);
    scratch_ = &own_scratch_;
  } else {
    thread_scratch.in_use = true;
    scratch_ = &thread_scratch.bytes;
  }
  encoder_.emplace(pool.context().id(), *scratch_, &Submission::grow, this);
}

Submission::~Submission() {
  if (scratch_ == &thread_scratch.bytes) thread_scratch.in_use = false;
}

std::span<std::byte> Submission::grow(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& submission = *static_cast<Submission*>(self);
  const std::size_t wanted = written.size() + more;
  if (wanted <= largest_in_ring) {
    submission.scratch_->resize(largest_in_ring);
    return *submission.scratch_;
  }
  // Straight into memory that the worker will map: the bytes are copied once on this side.
  const std::size_t room = submission.block_ || submission.large_ ? 2 * wanted : wanted + wanted / 8;
  CallBlocks& blocks = submission.pool_->call_blocks();
  if (auto block = room >= always_in_block ? blocks.take(room) : blocks.take_if_few(room)) {
    if (!written.empty()) std::memcpy(block->bytes().data(), written.data(), written.size());
    submission.block_ = std::move(block);
    submission.large_.reset();
    return submission.block_->bytes();
  }
  auto large = std::make_unique_for_overwrite<std::byte[]>(room);
  if (!written.empty()) std::memcpy(large.get(), written.data(), written.size());
  submission.large_ = std::move(large);
  submission.block_.reset();
  return {submission.large_.get(), room};
}

void Submission::arguments_failed() {
  try {
    throw;
  } catch (const UsageError&) {
    throw;
  } catch (const SystemError&) {
    throw;
  } catch (...) {
    argument_error_ = std::current_exception();
  }
}

StateHandle Submission::submit(const EntryInfo& entry, const void* function, const TaskOptions* options) {
  return *pool_->submit(*this, entry, function, options, true);
}

std::optional<StateHandle> Submission::try_submit(const EntryInfo& entry, const void* function, const TaskOptions* options) {
  return pool_->submit(*this, entry, function, options, false);
}

void PoolCore::require_here(const char* what) const {
  if (process_id() == owner_pid_) [[likely]] return;
  if (served_context() == context_.id()) {
    throw UsageError{std::string{"this "} + what + " belongs to " + to_string(context_.id()) + ", and pid " + std::to_string(process_id()) +
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
  throw UsageError{"submit on an executor that has been shut down. Submit before shutdown, or make another executor."};
}

std::optional<StateHandle> PoolCore::submit(Submission& submission, const EntryInfo& entry, const void* function,
                                            const TaskOptions* options, bool may_block) {
  const CodeReference entry_code = context_.code().reference(&entry);
  const CodeReference function_code = function == nullptr ? 0 : context_.code().reference(function);

  Lock lock{mutex_};
  const auto now = ticks();  // here, where the lock has waited for what came before: the clock would, too
  require_accepting();
  start_supervisor();  // before the task exists: where that fails, there is none
  if (const auto limit = static_cast<std::size_t>(options_.max_pending.value()); limit != 0 && waiting_.size() + in_flight_ >= limit + live_workers()) {
    while (waiting_.size() + in_flight_ >= limit + live_workers()) {
      if (pump()) continue;
      if (!may_block) return std::nullopt;
      ++bounded_waiting_;
      arm_all();
      room_.wait_for(lock, std::chrono::milliseconds{50});
      --bounded_waiting_;
      if (broken_) std::rethrow_exception(broken_->make());
      if (closed_) throw UsageError{"the executor was shut down while submit waited for room (max_pending " + std::to_string(limit) + ")."};
    }
  }

  auto* const task = ::new (tasks_.take()) TaskState{this, next_task_id_++, entry_code, function_code};
  retain_for_task();
  StateHandle handle{task};
  // The executor's own reference: it goes, too, where memory ends before the task is counted.
  struct Unless {
    TaskState* task;
    ~Unless() {
      if (task != nullptr) task->release();
    }
  } counted{task};
  task->submitted_ticks = now;
  if (options != nullptr) {
    task->options = std::make_unique<TaskOptions>(*options);
    for (auto* const limit : {&task->options->timeout, &task->options->soft_timeout, &task->options->queue_timeout}) {
      if (*limit) *limit = within_longest_wait(**limit);
    }
  }
  std::unique_ptr<Failure> argument_failure;
  if (submission.argument_error_) {
    argument_failure = std::make_unique<SharedFailure>(make_task_error(submission.argument_error_, TaskPhase::writing_arguments, facts(*task, nullptr), context_.id()));
  } else {
    const auto bytes = submission.encoder_->written();
    Attachments& attachments = submission.encoder_->attachments();
    if (submission.block_ || !attachments.empty()) {
      task->cargo = std::make_unique<Cargo>();
      task->cargo->attachments = std::move(attachments);
      if (submission.block_) {
        task->cargo->block = submission.block_;
        task->cargo->block_bytes = bytes.size();
      }
    }
    if (submission.large_) {
      task->store(std::move(submission.large_), bytes.size());
    } else if (!submission.block_) {
      task->store(bytes);
    }
    totals_.argument_bytes += bytes.size();
    if (options != nullptr && options->queue_timeout) add_timer(std::chrono::steady_clock::now() + *task->options->queue_timeout, *task);
  }
  counted.task = nullptr;
  ++totals_.submitted;
  ++outstanding_;
  if (argument_failure) {
    ++totals_.failed;
    finish(*task, Outcome::failure, std::move(argument_failure));
    flush_afterwards(lock);
    return handle;
  }
  place(*task, now);
  if (++submits_since_pump_ >= 32) {  // what is done makes room, and tells who is free
    submits_since_pump_ = 0;
    (void)pump();
  }
  if (leader_ == nullptr && !watched_by_timer_) arm_all();
  flush_afterwards(lock);
  return handle;
}

void PoolCore::set_initializer(Call initializer) {
  require_here("executor");
  const std::scoped_lock lock{mutex_};
  if (supervisor_runs_) {
    throw UsageError{"set_initializer after the first task was submitted: workers may run already. Set it before the first submit, or in ExecutorOptions."};
  }
  initializer_ = std::move(initializer);
  context_.tell(encode_pool_part());
}

}  // namespace kindred::internal
