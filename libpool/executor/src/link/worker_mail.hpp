#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "kindred/internal/context_id.hpp"
#include "kindred/internal/message_socket.hpp"
#include "link/lifecycle_log.hpp"
#include "link/worker_slot.hpp"
#include "task/pool_clock.hpp"

namespace kindred::internal {

/// What a worker says on its socket. The worker may say anything: a message that is malformed or out of turn
/// shows that it is corrupted, and it is killed.
class WorkerMail {
 public:
  /// Takes in results, which makes space for further shared memories.
  using TakeResults = std::function<void(Locked, WorkerSlot&)>;

  WorkerMail(ContextId context, const PoolClock& clock, LifecycleLog& log, TakeResults take_results)
      : context_{context}, clock_{clock}, log_{log}, take_results_{std::move(take_results)} {}

  /// Takes in the messages that are there. False: nothing more will come. Errors: `std::bad_alloc`.
  bool take(Locked locked, WorkerSlot& slot);

 private:
  using Bytes = std::span<const std::byte>;
  // Each returns why the message is refused; empty: it is not.
  [[nodiscard]] std::string take_one(Locked locked, WorkerSlot& slot, Message& message);
  [[nodiscard]] std::string take_ready(WorkerSlot& slot) const;
  [[nodiscard]] static std::string take_bootstrap_failed(WorkerSlot& slot, Bytes text);
  [[nodiscard]] static std::string take_initializer_failed(WorkerSlot& slot, Bytes failure);
  [[nodiscard]] std::string take_finalizer_failed(Locked locked, WorkerSlot& slot, Bytes failure);
  [[nodiscard]] std::string take_forked_child(Locked locked, WorkerSlot& slot, Bytes message);
  [[nodiscard]] std::string take_memory(Locked locked, WorkerSlot& slot, Message& message);

  const ContextId context_;
  const PoolClock& clock_;
  LifecycleLog& log_;
  const TakeResults take_results_;
};

}  // namespace kindred::internal
