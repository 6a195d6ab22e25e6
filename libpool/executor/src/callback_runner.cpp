#include "callback_runner.hpp"

#include <exception>
#include <utility>

#include "kindred/internal/event_poll.hpp"
#include "kindred/log.hpp"

namespace kindred::internal {

void run_callback(const std::function<void()>& action) noexcept {
  try {
    action();
  } catch (...) {
    log_exception(Level::error, std::current_exception(), "a callback of a future threw");
  }
}

void CallbackRunner::run(std::function<void()> action) {
  const std::scoped_lock lock{mutex_};
  actions_.push_back(std::move(action));
  if (!started_) {
    started_ = true;
    thread_ = std::thread{[this] { loop(); }};
  }
  changed_.notify_all();
}

void CallbackRunner::loop() {
  its_id_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  settle_thread("kindred-calls");
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [&] { return !actions_.empty() || finish_; });
    if (actions_.empty()) return;
    auto action = std::move(actions_.front());
    actions_.pop_front();
    busy_ = true;
    lock.unlock();
    run_callback(std::exchange(action, {}));  // what it holds goes with it, before anybody hears that it is done
    lock.lock();
    busy_ = false;
    if (!actions_.empty() || !on_idle_) continue;
    lock.unlock();
    on_idle_();
    lock.lock();
  }
}

bool CallbackRunner::idle() const {
  const std::scoped_lock lock{mutex_};
  return actions_.empty() && !busy_;
}

bool CallbackRunner::on_its_thread() const noexcept { return its_id_.load(std::memory_order_relaxed) == std::this_thread::get_id(); }

void CallbackRunner::finish() {
  if (on_its_thread()) return;
  {
    const std::scoped_lock lock{mutex_};
    finish_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void CallbackRunner::forsake() {
  if (thread_.joinable()) thread_.detach();
}

}  // namespace kindred::internal
