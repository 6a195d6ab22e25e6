#include "task/task_state.hpp"

#include "kindred/log_record.hpp"
#include "kindred/task_error.hpp"
#include "task/callback_runner.hpp"

namespace kindred::internal {

TaskState::TaskState(FutureHome* home, std::uint64_t task_id, CodeReference entry_code,
                     CodeReference function_code) noexcept
    : FutureState{false}, id{task_id}, entry{entry_code}, function{function_code} {
  home_ = home;
}

TaskState::~TaskState() {
  drop_bytes();
  cargo.reset();  // its blocks go back to the pool
}

// The last reference of an open task stays counted until the lock is held: under it the pool takes references
// of its own, from none, and must see whether another thread is still about to look.
void TaskState::release_open() noexcept {
  auto count = references_.load(std::memory_order_acquire);
  while (count > 1) {
    if (references_.compare_exchange_weak(count, count - 1, std::memory_order_acq_rel,
                                          std::memory_order_acquire))
      return;
  }
  if (home_->drop_last_of_open(*this)) destroy();
}

void TaskState::unpin(Locked locked) noexcept {
  if (!drop_reference()) return;
  if (finished())
    destroy();
  else
    forget(locked);
}

void TaskState::forget(Locked) noexcept {
  references_.store(0, std::memory_order_relaxed);
  forgotten = true;
}

void TaskState::destroy() noexcept {
  FutureHome& home = *home_;
  this->~TaskState();
  home.give_back_cell(this);
}

bool TaskState::running() const { return !finished() && home_->is_running(*this); }
bool TaskState::cancel(Running how) { return home_->cancel(*this, how); }
std::vector<LogRecord> TaskState::log() const { return home_->log_of(id); }

std::exception_ptr TaskState::error_without_failure() const {
  if (outcome_ != Outcome::cancelled) return FutureState::error_without_failure();
  return std::make_exception_ptr(Cancelled{home_->facts_of(*this), cancelled_how_});
}

// --- what all futures share

FutureState::~FutureState() {
  if (finished())
    delete failure_;
  else
    delete continuations_;
}

bool FutureState::wait(Deadline deadline) { return finished() || home_->wait(*this, deadline); }
bool FutureState::cancel(Running) { return false; }
std::vector<LogRecord> FutureState::log() const { return {}; }

std::exception_ptr FutureState::exception() const {
  if (outcome_ == Outcome::value) return nullptr;
  return failure_ != nullptr ? failure_->make() : error_without_failure();
}

// There was not even memory to say why.
std::exception_ptr FutureState::error_without_failure() const {
  return std::make_exception_ptr(std::bad_alloc{});
}

void FutureState::on_finished(std::function<void()> action, const void* owner) {
  if (finished()) return run_callback(action);
  home_->add_callback(*this, std::move(action), owner);
}

void FutureState::on_finished_inline(std::function<void(Locked)> action, const void* owner) {
  home_->add_continuation(*this, std::move(action), owner);
}

void FutureState::withdraw(const void* owner) noexcept {
  if (!finished()) home_->withdraw(*this, owner);
}

}  // namespace kindred::internal
