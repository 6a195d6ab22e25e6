#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/shared_object.hpp"
#include "kindred/internal/this_process.hpp"
#include "shared/object_memory.hpp"

namespace kindred::internal {

[[nodiscard]] const char* to_string(SharedKind kind) noexcept;  ///< "Mutex": as in errors

/// One shared object as this process sees it: its memory, and all that must not be read from there.
/// Process-wide the same for all handles of one object.
class SharedObject {
 public:
  /// The parent's: writes the identity. `owner` is 1, its account the first.
  SharedObject(std::shared_ptr<ContextLife> life, SharedKind kind, std::uint64_t id, std::uint32_t accounts,
               std::uint64_t parameter, std::uint64_t arena_bytes, const ObjectState& start);
  /// A worker's: checks what came, and takes an account. Errors: `UsageError` where the memory does not hold
  /// what the message says, or has no account left.
  SharedObject(std::shared_ptr<ContextLife> life, SharedKind kind, std::uint64_t id, std::uint32_t owner,
               std::shared_ptr<SharedMemory> memory);
  ~SharedObject() = default;
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;

  [[nodiscard]] ObjectMemory& memory() const noexcept { return *memory_; }
  [[nodiscard]] Account& account(std::uint32_t index) const noexcept { return accounts_[index]; }
  [[nodiscard]] std::uint32_t accounts() const noexcept { return account_count_; }
  [[nodiscard]] std::uint32_t accounts_used() const noexcept;  ///< never more than `accounts()`
  [[nodiscard]] std::span<std::byte> arena() const noexcept { return arena_; }
  [[nodiscard]] std::uint64_t parameter() const noexcept { return parameter_; }
  [[nodiscard]] SharedKind kind() const noexcept { return kind_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] std::uint32_t owner() const noexcept { return owner_; }
  [[nodiscard]] std::uint32_t my_account() const noexcept { return my_account_; }
  [[nodiscard]] const ContextLife& life() const noexcept { return *life_; }
  [[nodiscard]] const std::shared_ptr<SharedMemory>& shared_memory() const noexcept { return shared_; }
  [[nodiscard]] bool is_parents() const noexcept { return owner_ == 1; }
  /// False in a process that a fork made after this object was.
  [[nodiscard]] bool in_its_process() const noexcept { return generation_ == fork_generation(); }

  /// A worker's last handle goes: closes the account where it is even. (A semaphore's permits stay on it
  /// until the worker ends.)
  void close_account() noexcept;
  /// Ends every wait in this process.
  void close() noexcept;
  /// Errors: `UsageError` where the object was closed, the context has ended, or this is another process.
  void require_open() const;
  [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_acquire); }
  [[noreturn]] void throw_corrupt(const char* what) const;
  [[noreturn]] void throw_closed() const;

  std::atomic<std::uint32_t> locked_by_thread{0};  ///< a mutex: which thread of this process holds it

 private:
  void lay_out(std::uint32_t accounts, std::uint64_t arena_bytes) noexcept;
  void open_account();

  std::shared_ptr<ContextLife> life_;
  std::shared_ptr<SharedMemory> shared_;
  ObjectMemory* memory_ = nullptr;
  Account* accounts_ = nullptr;
  std::span<std::byte> arena_;
  std::uint64_t id_;
  std::uint64_t parameter_ = 0;
  std::uint32_t account_count_ = 0;
  std::uint32_t my_account_ = 0;
  std::uint32_t owner_;
  std::uint32_t generation_;
  SharedKind kind_;
  std::atomic<bool> closed_{false};
};

/// Holds the lock of an object's state, and with it a copy of the state. A change exists from `commit()` on,
/// whole, or not at all.
class Critical {
 public:
  /// Waits for the lock until the deadline. Errors: `UsageError` where the object is closed.
  explicit Critical(SharedObject& object, Deadline deadline = {});
  /// For a caller that finds the lock taken already: `owner_word::take_from`.
  enum class Taken { already };
  Critical(SharedObject& object, Taken) noexcept;
  ~Critical();
  Critical(const Critical&) = delete;
  Critical& operator=(const Critical&) = delete;

  /// False: the deadline passed first.
  explicit operator bool() const noexcept { return holds_; }
  ObjectState& state() noexcept { return state_; }
  /// Our account, to be changed together with the state. (One account a commit: another one instead, by
  /// `account_to_change`.)
  AccountEntry& account() noexcept { return account_to_change(object_.my_account()); }
  AccountEntry& account_to_change(std::uint32_t index) noexcept;
  void clear(AccountEntry& entry) noexcept;  ///< frees the account, and takes its sleepers out of the sum
  void commit() noexcept;
  /// Registers and deregisters this thread as a sleeper on `words[word]`; to be committed.
  void begin_waiting(int word) noexcept;
  void end_waiting(int word) noexcept;
  /// What `futex_wait` is to expect of `words[word]`, for a caller that has registered while it held this
  /// lock.
  [[nodiscard]] std::uint32_t ticket(int word) const noexcept;
  /// Changes `words[word]` now, and wakes `count` sleepers when the lock is free again.
  void wake(int word, int count) noexcept;

  /// Settles the accounts of all processes that are marked as dead. Bounded: one pass over the accounts.
  void settle() noexcept;

 private:
  void begin() noexcept;
  void apply() noexcept;

  SharedObject& object_;
  ObjectState state_{};
  std::uint32_t active_ = 0;
  bool holds_ = false;
  int wake_count_[2] = {0, 0};
};

/// How long a call that is not to wait waits for the state's lock, which is held for some hundred
/// nanoseconds; longer only where its owner was stopped or killed just there.
inline constexpr std::chrono::milliseconds lock_grace{100};
[[nodiscard]] Deadline with_grace(Deadline deadline) noexcept;  ///< nothing: for ever

/// Marks the dead one's account, gives back what it held or leaves that to the lock's owner, and wakes all
/// that sleep. Bounded. (Parent.)
void settle_dead(SharedObject& object, std::uint32_t dead, std::int32_t worker, std::uint32_t pid) noexcept;

// What the kinds add to settling the account of a dead process: a change of the state.
void settle_semaphore(ObjectState& state, const AccountEntry& dead) noexcept;
void settle_barrier(ObjectState& state, const AccountEntry& dead, std::int32_t worker,
                    std::uint32_t pid) noexcept;
/// Shows the sleepers what the state says. Under the lock.
void publish_barrier(SharedObject& object, const ObjectState& state) noexcept;

/// The registry of the context in this process, asked by handles that come back. Empty where there is none,
/// or no such object.
[[nodiscard]] std::shared_ptr<SharedObject> find_in_registry(ContextId context, std::uint64_t id);

}  // namespace kindred::internal
