#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kindred/internal/locked.hpp"

namespace kindred::internal {

/// Memory for the states of tasks: many, all of one size, taken while the pool's lock is held and given back
/// by any thread. Of what a short task costs, a third was malloc, free and the page faults between them.
/// Cells lie in chunks that double up to a large page, and are used again, the latest first.
///
/// It counts the cells that are out, so that a cell keeps its pool without a reference of its own: to give it
/// back is one atomic step, which puts it on a list and counts it there.
///
///     returned_   | cells in the list: 32 | the first of them: 32 |        all bits set: closed
///
/// Out are `taken_` less those in the list. The caller that closes the store learns how many there are, and
/// counts them from then on: no step is counted twice or not at all, since a thread that gives a cell back
/// after that finds it closed.
class TaskStore {
 public:
  static constexpr std::size_t cell_bytes = 128;
  static constexpr std::size_t cell_alignment = 128;

  TaskStore() = default;
  TaskStore(const TaskStore&) = delete;
  TaskStore& operator=(const TaskStore&) = delete;

  /// Errors: `std::bad_alloc`.
  [[nodiscard]] void* take(Locked);
  /// Any thread. After it the store may be gone, unless the caller keeps it by other means. False: it is
  /// closed, and the caller that closed it counts this cell.
  [[nodiscard]] bool give_back(void* cell) noexcept;
  /// How many cells are out. Exact for a caller that holds the pool's lock, where none is; else, as of a
  /// moment ago. Means nothing once the store is closed.
  [[nodiscard]] std::int64_t in_use() const noexcept {
    // Order: acquire, pairs with the release in give_back: a thread that had a cell which is counted there is
    // done with it.
    const auto returned = count_of(returned_.load(std::memory_order_acquire));
    return static_cast<std::int64_t>(taken_.load(std::memory_order_relaxed)) -
           static_cast<std::int64_t>(returned);
  }
  /// Is there so much memory that it is worth giving back? Any thread.
  [[nodiscard]] bool is_large() const noexcept { return bytes_.load(std::memory_order_relaxed) > kept_bytes; }
  /// Where no cell is out: gives the memory back.
  void clear(Locked) noexcept;
  /// From now on no cell is counted here. Returns how many are out.
  [[nodiscard]] std::size_t close(Locked) noexcept;

 private:
  // This much stays though no task uses it.
  static constexpr std::size_t kept_bytes = std::size_t{4} << 20U;
  static constexpr std::uint64_t closed = ~std::uint64_t{0};

  // A cell is named by its place: which aligned block of memory, and which cell in that. The first cell of a
  // block says which it is, so no cell is named 0.
  using Place = std::uint32_t;
  struct BlockHead {
    Place first;
  };
  struct FreeCell {
    Place next;
  };
  struct Free {
    void operator()(std::byte* chunk) const noexcept { std::free(chunk); }
  };

  static std::uint64_t count_of(std::uint64_t returned) noexcept { return returned >> 32U; }
  [[nodiscard]] std::byte* cell_at(Place place) const noexcept;
  [[nodiscard]] static Place place_of(void* cell) noexcept;
  void begin_block();
  void add_chunk();

  // Guarded by the pool's lock.
  Place free_ = 0;
  bool is_closed_ = false;
  std::byte* next_ = nullptr;  // the rest of the latest block, never used
  std::byte* block_end_ = nullptr;
  std::byte* chunk_end_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> chunks_;
  std::vector<std::byte*> blocks_;
  std::atomic<std::uint64_t> taken_{
      0};  // less those that came back and left the list; written while the lock is held
  std::atomic<std::size_t> bytes_{0};

  alignas(64) std::atomic<std::uint64_t> returned_{0};  // pushed one by one, taken all at once: so no ABA
};

}  // namespace kindred::internal
