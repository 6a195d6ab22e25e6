#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "kindred/internal/future_state.hpp"

namespace kindred::internal {

/// First in, first out, and nothing that could fail.
class ContinuationQueue {
 public:
  ContinuationQueue() = default;
  ContinuationQueue(const ContinuationQueue&) = delete;
  ContinuationQueue& operator=(const ContinuationQueue&) = delete;
  ContinuationQueue(ContinuationQueue&& other) noexcept
      : first_{std::move(other.first_)}, last_{std::exchange(other.last_, nullptr)} {}
  ~ContinuationQueue() {
    while (!empty())
      (void)pop();  // one by one: a chain of a million would be destroyed by as deep a recursion
  }

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void push(std::unique_ptr<Continuations> one) noexcept {
    Continuations* const added = one.get();
    (empty() ? first_ : last_->next) = std::move(one);
    last_ = added;
  }
  [[nodiscard]] std::unique_ptr<Continuations> pop() noexcept {
    auto one = std::move(first_);
    first_ = std::move(one->next);
    return one;
  }
  void take_all(ContinuationQueue& other) noexcept {
    if (other.empty()) return;
    (empty() ? first_ : last_->next) = std::move(other.first_);
    last_ = other.last_;
  }

 private:
  std::unique_ptr<Continuations> first_;
  Continuations* last_ = nullptr;
};

/// Runs users' callbacks one after another on a thread of their own, so that whatever they do (wait for a
/// future, block, throw) they never hold up supervision.
class CallbackRunner {
 public:
  /// `on_idle` is called on the thread, without a lock, whenever the last action has run.
  explicit CallbackRunner(std::function<void()> on_idle = {}) : on_idle_{std::move(on_idle)} {}
  CallbackRunner(const CallbackRunner&) = delete;
  CallbackRunner& operator=(const CallbackRunner&) = delete;
  ~CallbackRunner() { finish(); }

  void
  start();  ///< the thread, unless it runs. Call it before there is anything to run. Errors: `SystemError`
  /// Takes all of them. False: its thread has ended, it takes none, and the caller runs them.
  [[nodiscard]] bool run(ContinuationQueue& callbacks) noexcept;
  void finish();  ///< runs what is there, also what that adds, then ends the thread. From the thread itself:
                  ///< returns at once
  [[nodiscard]] bool idle() const;
  [[nodiscard]] bool on_its_thread() const noexcept;
  void abandon_after_fork();  ///< in the child of a fork: the thread does not exist here

 private:
  void loop();

  const std::function<void()> on_idle_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  ContinuationQueue queue_;
  std::thread thread_;
  std::atomic<std::thread::id> its_id_{};  // `thread_` itself is written while others ask
  bool busy_ = false;
  bool finish_ = false;
  bool over_ = false;  // there is no thread any more, nor will be
};

/// Runs an action; what it throws is logged, never thrown on.
void run_callback(const std::function<void()>& action) noexcept;
void run_callbacks(std::unique_ptr<Continuations> of_one) noexcept;
/// The task whose callback the calling thread runs now; 0: none.
[[nodiscard]] std::uint64_t task_of_running_callback() noexcept;

}  // namespace kindred::internal
