#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"
#include "pool_core.hpp"

// How tasks end. All under the lock; what users see of it happens in flush_afterwards.
namespace kindred::internal {
namespace {

// A failure as the worker encoded it: decoded anew for each reader, so that each has an exception object of
// its own.
class EncodedFailure final : public Failure {
 public:
  EncodedFailure(std::span<const std::byte> bytes, ContextId context, TaskFacts facts)
      : bytes_{bytes.begin(), bytes.end()}, context_{context}, facts_{std::move(facts)} {}
  [[nodiscard]] std::exception_ptr make() const override {
    Decoder decoder{context_, bytes_};
    return decode_exception(decoder, facts_);
  }

 private:
  std::vector<std::byte> bytes_;
  ContextId context_;
  TaskFacts facts_;
};

// A cancelled task's failure. The error is made when it is read: a shutdown may cancel a million tasks, and
// mostly nobody reads why.
class CancelledFailure final : public Failure {
 public:
  /// `task` owns this failure, and keeps the pool. `how` is a literal.
  CancelledFailure(const PoolCore& pool, const TaskState& task, const char* how) noexcept
      : pool_{&pool}, task_{&task}, how_{how} {}
  [[nodiscard]] std::exception_ptr make() const override {
    return std::make_exception_ptr(Cancelled{pool_->facts_of(*task_), how_});
  }

 private:
  const PoolCore* pool_;
  const TaskState* task_;
  const char* how_;
};

}  // namespace

std::unique_ptr<Failure> PoolCore::make_encoded_failure(std::span<const std::byte> bytes, ContextId context,
                                                        TaskFacts facts) {
  return std::make_unique<EncodedFailure>(bytes, context, std::move(facts));
}

std::string PoolCore::task_name(const TaskState& task) const {
  if (task.options && !task.options->name.empty()) return task.options->name;
  return name_of_code(task.function != 0 ? task.function : task.entry);
}

std::string PoolCore::name_of_code(CodeReference reference) const {
  const void* const address = context_.code().address(reference);
  if (address == nullptr) return {};
  if (auto name = function_name(address); !name.empty()) return name;
  // A task by its type alone: the reference is that of its entry, an object of ours. Or a function of a
  // stripped program; or what a worker wrote in its place: so nothing is read that is not known to be there.
  constexpr std::size_t longest_name = 4096;
  if (reinterpret_cast<std::uintptr_t>(address) % alignof(EntryInfo) == 0 &&
      is_loaded(address, sizeof(EntryInfo), true)) {
    const auto name = static_cast<const EntryInfo*>(address)->name;
    if (name.size() <= longest_name && is_loaded(name.data(), name.size(), false)) return std::string{name};
  }
  return place_name(address);
}

TaskFacts PoolCore::facts(const TaskState& task, const WorkerSlot* slot) const {
  TaskFacts facts;
  facts.task_id = task.id;
  facts.task_name = task_name(task);
  facts.attempt = task.ended_attempts();
  facts.code = context_.shared_code();
  if (slot != nullptr) {
    facts.worker = slot->index;
    facts.pid = slot->worker.process.pid();
    facts.incarnation = slot->incarnation;
  }
  return facts;
}

// Its records are let go once the lock is given back. Without memory to note that, they are lost.
void PoolCore::note_flight(std::uint64_t task_id) noexcept {
  try {
    afterwards_.failed_tasks.push_back(task_id);
  } catch (const std::bad_alloc&) {}
}

void PoolCore::finish(TaskState& task, Outcome outcome, std::unique_ptr<Failure> failure) {
  if (outcome != Outcome::value) {
    if (!failure || !failure->keeps_call()) {
      task.drop_bytes();
      task.cargo.reset();
    }
    if (outcome == Outcome::failure && options_.log.flight_recorder) note_flight(task.id);
  }
  switch (outcome) {
    case Outcome::value: ++totals_.done; break;
    case Outcome::cancelled: ++totals_.cancelled; break;
    default: break;
  }
  KINDRED_INJECTION_POINT("parent.finish");
  --outstanding_;
  const bool forgotten = task.forgotten;
  if (forgotten) [[unlikely]]
    task.retain();
  end(task, outcome, std::move(failure));
  if (forgotten) [[unlikely]]
    task.release();
}

void PoolCore::end(FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure) {
  std::unique_ptr<Continuations> continuations{state.continuations_};
  const bool has_sleepers = state.has_sleepers_;
  if (continuations) [[unlikely]]
    state.retain();
  state.failure_ = failure.release();
  state.mark_finished(outcome);
  if (continuations) [[unlikely]] {
    --with_continuations_;
    for (auto& action : continuations->in_line) action();
    continuations->in_line.clear();
    if (!continuations->callbacks.empty()) {
      continuations->of_task = state.task_id() != 0 ? state.task_id() : task_of_running_callback();
      afterwards_.callbacks.push(std::move(continuations));
    }
    state.release();
  }
  // By its address only: who waits for it holds it.
  if (leader_ != nullptr && leader_->target == &state) wake(*leader_);
  if (has_sleepers) {
    for (Waiter* const waiter : followers_) {
      if (waiter->target == &state) wake(*waiter);
    }
  }
  if (closed_ && nothing_left()) {
    changed_.notify_all();
    if (supervisor_runs_) kick();
  }
}

void PoolCore::callbacks_idle() {
  Lock lock{mutex_};
  if (closed_ && nothing_left()) {
    changed_.notify_all();
    if (supervisor_runs_) kick();
  }
}

void PoolCore::flush_afterwards(Lock& lock) {
  if (afterwards_.callbacks.empty() && afterwards_.failed_tasks.empty()) {
    lock.unlock();
    return;
  }
  // Queued under the lock, so that callbacks of one future keep their order also where two threads finish
  // things.
  ContinuationQueue here;  // of a future that outlived its executor
  if (!callbacks_.run(afterwards_.callbacks)) here.take_all(afterwards_.callbacks);
  const auto failed_tasks = std::exchange(afterwards_.failed_tasks, {});
  lock.unlock();
  while (!here.empty()) run_callbacks(here.pop());
  for (const auto task : failed_tasks) collector_.release_flight(task);
}

bool PoolCore::try_again(TaskState& task) {
  if (!task.options || task.ended_attempts() > task.options->retries || kill_all_ != 0 || broken_)
    return false;
  ++totals_.retried;
  waiting_.push_front(task);
  return true;
}

void PoolCore::cancel_waiting() {
  for (const auto& slot : slots_) {
    if (!slot->segment) continue;
    for (std::size_t i = slot->in_flight.size(); i-- > 0;) {
      TaskState& task = *slot->in_flight[i].task;
      if (take_back(*slot, i, false)) finish_cancelled(task, "by shutdown, before it began");
    }
  }
  while (TaskState* const task = waiting_.front()) {
    waiting_.remove(*task);
    finish_cancelled(*task, "by shutdown, before it began");
  }
}

void PoolCore::finish_cancelled(TaskState& task, const char* how) {
  finish_with(task, Outcome::cancelled, [&] { return std::make_unique<CancelledFailure>(*this, task, how); });
}

void PoolCore::fail_waiting(const std::function<std::unique_ptr<Failure>()>& make) {
  while (TaskState* const task = waiting_.front()) {
    waiting_.remove(*task);
    ++totals_.lost;
    finish_with(*task, Outcome::failure, make);
  }
}

void PoolCore::finish_local(FutureState& state, Outcome outcome, std::unique_ptr<Failure> failure) {
  Lock lock{mutex_};
  end(state, outcome, std::move(failure));
  flush_afterwards(lock);
}

void PoolCore::throw_unreadable(TaskState& task) {
  const auto cause = std::current_exception();
  PoolCore& pool = *task.pool_;
  TaskFacts facts;
  {
    const std::scoped_lock lock{pool.mutex_};
    facts = pool.facts(task, nullptr);
  }
  std::rethrow_exception(make_task_error(cause, TaskPhase::reading_result, facts, pool.context_.id()));
}

}  // namespace kindred::internal
