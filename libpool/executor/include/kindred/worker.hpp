#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <typeindex>
#include <utility>

namespace kindred {

class Entry;
class Logger;
namespace internal {
class WorkerProcess;
}

/// The worker that a task runs in. A task, initializer or finalizer may take `kindred::Worker&` as its first
/// parameter, or call `this_worker()`. Threads: any of the worker's. Fork: worker only.
class Worker {
 public:
  [[nodiscard]] int index() const noexcept;  ///< 0 ... max_workers - 1
  [[nodiscard]] std::uint32_t pid() const noexcept;
  [[nodiscard]] std::uint32_t incarnation()
      const noexcept;  ///< 0 for the first process of this index, raised by each replacement
  [[nodiscard]] Logger& logger() const noexcept;
  [[nodiscard]] std::uint64_t task_id() const noexcept;  ///< 0 outside a task
  [[nodiscard]] std::uint32_t attempt() const noexcept;  ///< 1, raised by each retry
  /// The same for each attempt of a task, on whichever machine, and of no other task: a task that may be run
  /// again can store it with its effect, and so have the effect once. Empty outside a task.
  [[nodiscard]] std::string idempotency_key() const;
  /// Was the task at hand asked to stop: by `cancel(Running::ask)`, its `soft_timeout`, or `shutdown`? Costs
  /// one load.
  [[nodiscard]] bool stop_requested() const noexcept;
  /// The same as a token of the standard library, of the task at hand.
  [[nodiscard]] std::stop_token stop_token();
  /// For a pool in this worker: it has passed the gate already.
  [[nodiscard]] Entry& entry() const;
  /// This worker process's own `T`, default-constructed at the first call, destroyed after the finalizer.
  /// Made for what an initializer loads and tasks use.
  template <class T>
  [[nodiscard]] T& state() {
    auto& place = state_place(typeid(T));
    if (!place) place = std::make_shared<T>();
    return *static_cast<T*>(place.get());
  }

 private:
  friend class internal::WorkerProcess;
  explicit Worker(internal::WorkerProcess& process) noexcept : process_{&process} {}
  std::shared_ptr<void>& state_place(std::type_index type);
  internal::WorkerProcess* process_;
};

/// The worker that this process is. Errors: `UsageError` in a process that is none.
[[nodiscard]] Worker& this_worker();
/// Is this process a worker?
[[nodiscard]] bool in_worker() noexcept;

}  // namespace kindred
