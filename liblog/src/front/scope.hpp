#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "front/small_lock.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

class ThreadScopes;

/// What one `LogScope` puts on records. It is in force on the thread whose list has it, or carried by a
/// coroutine that is suspended, or has ended.
struct ScopeNode {
  std::vector<Field> fields;
  bool is_on_stack = true;  ///< no: in a coroutine's frame, or another object of the heap
  // Under the lock of the list that has it:
  std::uint64_t serial = 0;  ///< names the fields of this scope and all outer ones of its list
  /// The list that has it; null: none. Changed by the thread that runs the scope's owner.
  std::shared_ptr<ThreadScopes> home;
};

/// The scopes that are in force on one thread, outermost first. It is told of changes by other threads, too:
/// a scope may end where its coroutine was resumed.
class ThreadScopes : public std::enable_shared_from_this<ThreadScopes> {
 public:
  explicit ThreadScopes(std::atomic<std::uint64_t>& serial) noexcept : serial_{&serial} {}
  /// The calling thread's.
  [[nodiscard]] static std::shared_ptr<ThreadScopes> here();

  void add(const std::shared_ptr<ScopeNode>& node);
  void remove(const ScopeNode& node) noexcept;
  /// Takes away the innermost scopes that are not on a stack, those of a coroutine that is being suspended.
  /// At most those that were made after `until`, which may be null.
  [[nodiscard]] std::vector<std::shared_ptr<ScopeNode>> take_carried(const ScopeNode* until);
  [[nodiscard]] const ScopeNode* innermost() const noexcept;
  /// All fields, an inner one in place of an outer one of its name.
  [[nodiscard]] std::vector<Field> fields() const;
  /// The thread is ending: nothing is told to it any more.
  void thread_ends() noexcept;

 private:
  void tell() noexcept;

  mutable SmallLock lock_;              ///< of what follows
  std::atomic<std::uint64_t>* serial_;  ///< `ThreadLane::scope_serial` of the thread; null: it has ended
  std::vector<std::shared_ptr<ScopeNode>> nodes_;
};

/// The fields of the scopes in force on this thread.
[[nodiscard]] std::vector<Field> fields_of_scopes();

}  // namespace kindred::internal
