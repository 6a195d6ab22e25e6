#include "task/callback_runner.hpp"

#include <exception>
#include <system_error>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/service_thread.hpp"
#include "kindred/log.hpp"

namespace kindred::internal {

namespace {

thread_local std::uint64_t running_callback_of = 0;

}  // namespace

std::uint64_t task_of_running_callback() noexcept { return running_callback_of; }

void run_callback(const std::function<void()>& action) noexcept {
  try {
    action();
  } catch (...) {
    log_exception(Level::error, std::current_exception(), "a callback of a future threw");
  }
}

void run_callbacks(std::unique_ptr<Continuations> of_one) noexcept {
  const auto before = std::exchange(running_callback_of, of_one->of_task);
  for (auto& note : of_one->callbacks) run_callback(std::exchange(note.action, {}));
  running_callback_of = before;
}

void CallbackRunner::start() {
  const std::scoped_lock lock{mutex_};
  if (thread_.joinable() || over_) return;
  try {
    thread_ = std::thread{[this] { loop(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the thread for callbacks of futures"};
  }
}

bool CallbackRunner::run(ContinuationQueue& callbacks) noexcept {
  const std::scoped_lock lock{mutex_};
  if (over_) return false;
  queue_.take_all(callbacks);
  changed_.notify_all();
  return true;
}

void CallbackRunner::loop() {
  its_id_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  begin_service_thread("kindred-calls");
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return !queue_.empty() || finish_; });
    if (queue_.empty()) {
      over_ = true;
      return;
    }
    auto now = queue_.pop();
    busy_ = true;
    lock.unlock();
    run_callbacks(
        std::move(now));  // what they hold goes with them, before any thread hears that they are done
    lock.lock();
    busy_ = false;
    if (!queue_.empty() || !on_idle_) continue;
    lock.unlock();
    on_idle_();
    lock.lock();
  }
}

bool CallbackRunner::idle() const {
  const std::scoped_lock lock{mutex_};
  return queue_.empty() && !busy_;
}

bool CallbackRunner::on_its_thread() const noexcept {
  return its_id_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

void CallbackRunner::finish() {
  if (on_its_thread()) return;
  {
    const std::scoped_lock lock{mutex_};
    finish_ = true;
    if (!thread_.joinable()) over_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void CallbackRunner::abandon_after_fork() {
  if (thread_.joinable()) thread_.detach();
}

}  // namespace kindred::internal
