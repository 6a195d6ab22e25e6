#include "task_state.hpp"

#include "pool_core.hpp"

namespace kindred::internal {

TaskState::TaskState(PoolCore* pool, std::uint64_t task_id, CodeReference entry_code,
                     CodeReference function_code) noexcept
    : FutureState{false}, id{task_id}, entry{entry_code}, function{function_code} {
  pool_ = pool;
}

TaskState::~TaskState() {
  drop_bytes();
  cargo.reset();  // its blocks go back to the pool
}

// The last reference of an open task stays counted until the lock is held: under it the pool takes references
// of its own, from none, and must see whether somebody is still about to look.
void TaskState::release_open() noexcept {
  auto count = references_.load(std::memory_order_acquire);
  while (count > 1) {
    if (references_.compare_exchange_weak(count, count - 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire))
      return;
  }
  if (pool_->drop_last_of_open(*this)) destroy();
}

void TaskState::unpin() noexcept {
  if (!drop_reference()) return;
  if (finished())
    destroy();
  else
    forget();
}

void TaskState::forget() noexcept {
  references_.store(0, std::memory_order_relaxed);
  forgotten = true;
}

void TaskState::destroy() noexcept {
  PoolCore& pool = *pool_;
  this->~TaskState();
  pool.give_back_room(this);
}

bool TaskState::running() const { return !finished() && pool_->is_running(*this); }
bool TaskState::cancel(Running how) { return pool_->cancel(*this, how); }
std::vector<LogRecord> TaskState::log() const { return pool_->log_of(id); }

// --- what all futures share

FutureState::~FutureState() {
  if (finished())
    delete failure_;
  else
    delete continuations_;
}

bool FutureState::wait(Deadline deadline) { return finished() || pool_->wait(*this, deadline); }
bool FutureState::cancel(Running) { return false; }
std::vector<LogRecord> FutureState::log() const { return {}; }

void FutureState::require_value() const {
  if (outcome_ != Outcome::value) [[unlikely]]
    std::rethrow_exception(exception());
}

std::exception_ptr FutureState::exception() const {
  if (outcome_ == Outcome::value) return nullptr;
  return failure_ ? failure_->make()
                  : std::make_exception_ptr(std::bad_alloc{});  // there was not even memory to say why
}

void FutureState::on_finished(std::function<void()> action) {
  if (finished()) return run_callback(action);
  pool_->add_continuation(*this, std::move(action), false);
}

void FutureState::on_finished_inline(std::function<void()> action) {
  pool_->add_continuation(*this, std::move(action), true);
}

LocalState::LocalState(PoolCore* pool) : FutureState{true} {
  pool_ = pool;
  pool->retain();
}
LocalState::~LocalState() { pool_->release(); }
void LocalState::fail(std::exception_ptr error) {
  std::unique_ptr<Failure> failure;
  try {
    failure = std::make_unique<SharedFailure>(std::move(error));
  } catch (const std::bad_alloc&) {  // that is the failure, then
  }
  pool_->finish_local(*this, Outcome::failure, std::move(failure));
}
void LocalState::finish() { pool_->finish_local(*this, Outcome::value, nullptr); }

PoolCore* pool_of(const FutureState& state) noexcept { return PoolCore::pool_of(state); }

ValueBytes value_bytes(FutureState& state) {
  auto& task = static_cast<TaskState&>(state);
  if (task.cargo && task.cargo->block) task.cargo->block->map_pages(false);
  return {task.bytes(), task.cargo ? &task.cargo->attachments : nullptr, pool_of(state)->context().id()};
}

void throw_unreadable_result(FutureState& state) {
  PoolCore::throw_unreadable(static_cast<TaskState&>(state));
}

}  // namespace kindred::internal
