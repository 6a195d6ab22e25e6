#pragma once

#include <atomic>
#include <memory>

#include "kindred/internal/context_id.hpp"

namespace kindred::internal {

/// What a handle knows of the context that it was made on: its id, and in the owning process whether the
/// executor still lives.
struct ContextLife {
  explicit ContextLife(ContextId context) noexcept : id{context} {}
  const ContextId id;
  std::atomic<bool> open{true};  ///< the executor's destructor clears it
};

/// Says that this process works for `id` from now on (worker bootstrap, once). `owner` names this worker
/// incarnation among all that ever hold a shared object of the context: 2, 3, ... (the parent is 1).
void serve_context(ContextId id, std::uint32_t owner);
[[nodiscard]] ContextId served_context() noexcept;  ///< none in a process that is no worker
/// The life of a handle that arrives in this worker; always open. The same object for the same id.
[[nodiscard]] std::shared_ptr<ContextLife> served_life(ContextId id);
/// This process as a holder of shared objects of `id`: 1 in the parent that owns it, the worker's number in
/// its workers, 0 elsewhere.
[[nodiscard]] std::uint32_t owner_here(ContextId id) noexcept;
/// Throws the `UsageError` that names both contexts unless the handle may be used in this process now. Cheap
/// (no system call).
void require_here(const char* what, const ContextLife& life);

}  // namespace kindred::internal
