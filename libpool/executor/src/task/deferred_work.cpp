#include "task/deferred_work.hpp"

namespace kindred::internal {

DeferredWork::Unlocked DeferredWork::take() noexcept {
  Unlocked work;
  if (!callbacks_.run(waiting_)) work.callbacks.take_all(waiting_);
  work.failed_tasks.swap(failed_tasks_);
  return work;
}

void DeferredWork::run(Unlocked work) const noexcept {
  while (!work.callbacks.empty()) run_callbacks(work.callbacks.pop());
  for (const auto task : work.failed_tasks) {
    try {
      release_flight_(task);
    } catch (const std::bad_alloc&) {
      // Its flight records stay where they are.
    }
  }
}

}  // namespace kindred::internal
