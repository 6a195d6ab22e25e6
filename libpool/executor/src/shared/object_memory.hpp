#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "shared/owner_word.hpp"

namespace kindred::internal {

// The memory of one shared object (see doc/shared_objects.md).
//
//     +-------------------+ 0
//     | identity          |  what it is: written by the parent before any other process has it, read once and
//     checked by the process that adopts it
//     +-------------------+ 64
//     | lock, repair      |  the lock of the state, and whether there are accounts of the dead to settle
//     +-------------------+ 128
//     | words             |  what is slept on, the mutex, the counter
//     +-------------------+ 192
//     | active            |  which copy of the state counts: its store is the commit
//     | state 0 | state 1 |
//     +-------------------+ accounts_offset (512)
//     | accounts          |  one for each process that has the object: the parent's is the first
//     +-------------------+
//     | arena             |  a channel's elements
//     +-------------------+

inline constexpr std::uint64_t object_magic = 0x6b696e647265646fULL;  // "kindredo"
inline constexpr std::uint32_t object_version = 1;

struct ObjectIdentity {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t kind;
  std::uint64_t context;
  std::uint64_t id;
  std::uint64_t parameter;    ///< a channel's capacity in elements
  std::uint64_t arena_bytes;  ///< a channel's room
  std::uint32_t accounts;     ///< how many there are
  std::uint32_t spare;
};

// What the kinds keep, guarded by the lock. 32 bytes each, and none of them padding.

struct SemaphoreState {
  std::int64_t available;
  std::uint64_t given_back;  ///< permits that came back from the dead and that no process has acknowledged
  std::uint64_t spare[2];
};

struct BarrierState {
  std::uint32_t expected;
  std::uint32_t arrived;
  std::uint32_t phase;
  std::uint32_t resets;
  std::uint32_t broken;  ///< BarrierBreak
  std::int32_t dead_worker;
  std::uint32_t dead_pid;
  std::uint32_t spare;
};

struct ChannelState {
  std::uint64_t head;  ///< bytes ever received
  std::uint64_t tail;  ///< bytes ever sent
  std::uint64_t count;
  std::uint64_t closed;
};

/// What one process holds of an object.
struct AccountEntry {
  std::uint32_t owner;       ///< 0: free
  std::uint32_t held;        ///< permits of a semaphore
  std::uint32_t waiting[2];  ///< its threads that are registered as sleepers on `words[i]`

  friend bool operator==(const AccountEntry&, const AccountEntry&) = default;
};

/// The state that the lock guards. A change writes the copy that does not count, flips `active`, and then
/// carries `change` over to its account: that last step is repeated by the next owner of the lock, so it is
/// done even where the process stops in between.
struct ObjectState {
  static constexpr std::uint32_t no_account = 0xffff'ffff;

  std::uint32_t change_index;  ///< which account is to hold `change`; `no_account`: none
  std::uint32_t spare;
  AccountEntry change;
  std::uint32_t waiting[2];  ///< sum over all accounts
  std::array<std::uint64_t, 4> part;

  template <class Part>
  [[nodiscard]] Part get() const noexcept {
    return std::bit_cast<Part>(part);
  }
  template <class Part>
  void set(const Part& value) noexcept {
    part = std::bit_cast<std::array<std::uint64_t, 4>>(value);
  }
};
static_assert(std::has_unique_object_representations_v<ObjectState>, "no padding: it is copied as words");

/// Read and written word by word, each once: another process may write at the same time, a hostile one at any
/// time.
class SharedState {
 public:
  static constexpr std::size_t words = sizeof(ObjectState) / sizeof(std::uint64_t);
  static_assert(sizeof(ObjectState) % sizeof(std::uint64_t) == 0);

  [[nodiscard]] ObjectState load() const noexcept {
    std::array<std::uint64_t, words> copy;  // NOLINT: filled below
    for (std::size_t i = 0; i < words; ++i) copy[i] = words_[i].load(std::memory_order_relaxed);
    return std::bit_cast<ObjectState>(copy);
  }
  void store(const ObjectState& state) noexcept {
    const auto copy = std::bit_cast<std::array<std::uint64_t, words>>(state);
    for (std::size_t i = 0; i < words; ++i) words_[i].store(copy[i], std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, words> words_;
};

/// An account in shared memory. Written only while the lock is held, but for `dead`, which the parent sets at
/// any time.
///
///     | owner | held | waiting 0 | waiting 1 | dead | worker | pid | spare |
struct Account {
  std::atomic<std::uint32_t> owner;
  std::atomic<std::uint32_t> held;
  std::atomic<std::uint32_t> waiting[2];
  std::atomic<std::uint32_t> dead;   ///< the owner has ended: the next holder of the lock settles the account
  std::atomic<std::int32_t> worker;  ///< how to name it in errors, with `dead`
  std::atomic<std::uint32_t> pid;
  std::uint32_t spare;

  [[nodiscard]] AccountEntry load() const noexcept {
    return {
        .owner = owner.load(std::memory_order_relaxed),
        .held = held.load(std::memory_order_relaxed),
        .waiting = {waiting[0].load(std::memory_order_relaxed), waiting[1].load(std::memory_order_relaxed)}};
  }
  void store(const AccountEntry& entry) noexcept {
    held.store(entry.held, std::memory_order_relaxed);
    waiting[0].store(entry.waiting[0], std::memory_order_relaxed);
    waiting[1].store(entry.waiting[1], std::memory_order_relaxed);
    // Order: release, pairs with the parent's acquire when it asks without the lock whether a process still
    // has the object.
    owner.store(entry.owner, std::memory_order_release);
  }
};
static_assert(sizeof(Account) == 32);

struct ObjectMemory {
  ObjectIdentity identity;

  alignas(64) owner_word::Word lock;
  std::atomic<std::uint32_t> repair_wanted;
  std::atomic<std::uint32_t> accounts_used;  ///< accounts from here on have never been used
  std::atomic<std::uint32_t>
      on_the_way;  ///< handles that workers have sent to the parent and that it has not read yet

  alignas(64) std::atomic<std::uint32_t> words[2];
  std::atomic<std::int64_t> value;

  alignas(64) std::atomic<std::uint32_t> active;
  SharedState states[2];
};

inline constexpr std::size_t accounts_offset = 512;
static_assert(sizeof(ObjectMemory) <= accounts_offset);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
              std::atomic<std::uint64_t>::is_always_lock_free &&
              std::atomic<std::int64_t>::is_always_lock_free);

}  // namespace kindred::internal
