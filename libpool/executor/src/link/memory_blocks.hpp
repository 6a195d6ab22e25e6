#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "kept_blocks.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/shared_memory.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {

/// Told, by any thread, that a block is free again. It outlives the blocks.
using BlockFreed = std::function<void()>;

/// A shared memory for large arguments. It is sealed, so that the workers that map it can only read, and it
/// is used again for other calls: making one costs a page fault for each 4 KiB in both processes, many times
/// what copying the bytes costs.
struct CallBlock : SharedMemory {
  explicit CallBlock(SharedMemory memory) : SharedMemory{std::move(memory)} {}
  struct Known {
    int slot;
    std::uint32_t incarnation;
    std::uint64_t id;
  };
  bool kept = false;
  std::vector<Known> known_by;  // guarded by the pool's lock: which workers have it, and by which number
  std::chrono::steady_clock::time_point free_since{};
};

/// The call blocks of an executor. A block in use belongs to a submission or a task, and comes back when that
/// lets go of it. Any thread. In a fork of the user's own it does not come back: there another thread may
/// have held the lock for ever.
class CallBlocks {
 public:
  /// Beyond this many in use, arguments wait in ordinary memory: each block is a descriptor.
  static constexpr std::size_t max_in_use = 64;

  explicit CallBlocks(BlockFreed freed) : freed_{std::move(freed)} {}
  CallBlocks(const CallBlocks&) = delete;
  CallBlocks& operator=(const CallBlocks&) = delete;
  ~CallBlocks() = default;

  /// Returns a block of at least `bytes` with all its pages mapped. Errors: `SystemError`.
  [[nodiscard]] std::shared_ptr<CallBlock> take(std::size_t bytes);
  /// As `take`, but returns null if many blocks are in use, or if no descriptor is left for another one.
  [[nodiscard]] std::shared_ptr<CallBlock> take_if_few(std::size_t bytes);
  /// Takes out what was free since `moment` or longer.
  [[nodiscard]] std::vector<std::unique_ptr<CallBlock>> free_since(
      std::chrono::steady_clock::time_point moment);
  [[nodiscard]] bool any_free() const;

 private:
  void give_back(std::unique_ptr<CallBlock> block);
  void keep(std::unique_ptr<CallBlock> block) noexcept;

  const BlockFreed freed_;
  const std::uint32_t pid_ = process_id();
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<CallBlock>> free_;
  KeptBlocks kept_;
  std::size_t in_use_ = 0;
};

/// The memories that one worker incarnation keeps for its large results, by the worker's numbering: the
/// parent's end of it.
///
/// A result in a block belongs to the future that reads it. Once that lets go, the block's bit is set in the
/// segment's `free_result_blocks`, and the process that clears the bit, by one atomic step, owns the block:
/// the worker, to write its next result, or the parent, to give it back to the system.
class ResultBlocks {
 public:
  ResultBlocks() = default;
  ResultBlocks(std::shared_ptr<Segment> segment, BlockFreed freed)
      : shared_{std::make_shared<Shared>(std::move(segment), std::move(freed))} {}

  void add(std::size_t place, std::shared_ptr<SharedMemory> memory) {
    KINDRED_ASSERT(place < max_result_blocks);
    blocks_[place] = std::move(memory);
  }
  /// The block, lent: it is free once the last holder lets go. Null where there is none.
  [[nodiscard]] std::shared_ptr<SharedMemory> lend(std::size_t place);
  /// The block, to be read once its worker has died. Null where there is none.
  [[nodiscard]] const SharedMemory* at(std::size_t place) const noexcept {
    return place < max_result_blocks ? blocks_[place].get() : nullptr;
  }
  /// If none was freed since the last time this was called, takes the free ones from the worker and calls
  /// `forget(place)` for each. Returns whether some are left to be looked at again.
  bool release_idle(const std::function<void(std::size_t)>& forget);

 private:
  struct Shared {
    Shared(std::shared_ptr<Segment> of, BlockFreed then) : segment{std::move(of)}, freed{std::move(then)} {}
    std::shared_ptr<Segment> segment;
    BlockFreed freed;
    std::uint32_t pid = process_id();  // a fork of the user's own has futures that are copies: the parent's
                                       // still read the block
    std::atomic<std::uint32_t> times{0};
  };
  std::shared_ptr<Shared> shared_;
  std::array<std::shared_ptr<SharedMemory>, max_result_blocks> blocks_{};
  std::uint32_t times_seen_ = 0;
};

}  // namespace kindred::internal
