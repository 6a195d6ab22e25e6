#pragma once

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace bench {

/// The thread pool that everybody writes once: threads, one queue under one mutex, a `std::packaged_task` for
/// each call.
class StdPool {
 public:
  explicit StdPool(std::size_t workers) {
    for (std::size_t index = 0; index < workers; ++index) threads_.emplace_back([this] { serve(); });
  }
  StdPool(const StdPool&) = delete;
  StdPool& operator=(const StdPool&) = delete;
  ~StdPool() {
    {
      const std::lock_guard lock{mutex_};
      closed_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  template <class Function>
  auto submit(Function function) {
    using Result = std::invoke_result_t<Function>;
    std::packaged_task<Result()> task{std::move(function)};
    auto future = task.get_future();
    {
      const std::lock_guard lock{mutex_};
      queue_.emplace_back([task = std::move(task)]() mutable { task(); });
    }
    changed_.notify_one();
    return future;
  }

 private:
  void serve() {
    while (true) {
      std::packaged_task<void()> task;
      {
        std::unique_lock lock{mutex_};
        changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
        if (queue_.empty()) return;
        task = std::move(queue_.front());
        queue_.pop_front();
      }
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> queue_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace bench
