#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace kindred::internal {

/// Runs users' callbacks one after another on a thread of their own, so that whatever they do (wait for a future, block, throw) they never
/// hold up supervision. The thread starts with the first callback.
class CallbackRunner {
 public:
  /// `on_idle` is called on the thread, without a lock, whenever the last action has run.
  explicit CallbackRunner(std::function<void()> on_idle = {}) : on_idle_{std::move(on_idle)} {}
  CallbackRunner(const CallbackRunner&) = delete;
  CallbackRunner& operator=(const CallbackRunner&) = delete;
  ~CallbackRunner() { finish(); }

  void run(std::function<void()> action);
  void finish();  ///< runs what is there, also what that adds, then ends the thread. From the thread itself: returns at once
  [[nodiscard]] bool idle() const;
  [[nodiscard]] bool on_its_thread() const noexcept;
  void forsake();  ///< in the child of a fork: the thread does not exist here

 private:
  void loop();

  const std::function<void()> on_idle_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> actions_;
  std::thread thread_;
  std::atomic<std::thread::id> its_id_{};  // `thread_` itself is written while others ask
  bool started_ = false;
  bool busy_ = false;
  bool finish_ = false;
};

/// Runs an action; what it throws is logged, never thrown on.
void run_callback(const std::function<void()>& action) noexcept;

}  // namespace kindred::internal
