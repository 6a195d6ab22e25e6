#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace kindred::internal {

/// Room for the states of tasks: many, all of one size, made under the pool's lock and given back by any
/// thread. Of what a short task costs, a third was malloc, free and the page faults between them. Rooms lie
/// in chunks that double up to a large page, and are used again, the latest first.
///
/// It counts the rooms that are out, so that a room keeps its pool without a reference of its own: to give it
/// back is one atomic step, which puts it on a list and counts it there.
///
///     returned_   | rooms in the list: 32 | the first of them: 32 |        all bits set: closed
///
/// Out are `taken_` less those in the list. Who closes the store learns how many there are, and counts them
/// from then on: nobody's step is counted twice or not at all, since whoever gives a room back after that
/// finds it closed.
class TaskStore {
 public:
  static constexpr std::size_t room_bytes = 128;
  static constexpr std::size_t room_alignment = 128;

  TaskStore() = default;
  TaskStore(const TaskStore&) = delete;
  TaskStore& operator=(const TaskStore&) = delete;

  /// Under the pool's lock. Errors: `std::bad_alloc`.
  [[nodiscard]] void* take();
  /// Any thread. After it the store may be gone, unless the caller keeps it by other means. False: it is
  /// closed, and who closed it counts this room.
  [[nodiscard]] bool give_back(void* room) noexcept;
  /// How many rooms are out. Exact under the pool's lock where none is; else, as of a moment ago. Means
  /// nothing once the store is closed.
  [[nodiscard]] std::int64_t in_use() const noexcept {
    // Order: acquire, pairs with the release in give_back: whoever had a room that is counted there is done
    // with it.
    const auto returned = count_of(returned_.load(std::memory_order_acquire));
    return static_cast<std::int64_t>(taken_.load(std::memory_order_relaxed)) -
           static_cast<std::int64_t>(returned);
  }
  /// Is there so much memory that it is worth giving back? Any thread.
  [[nodiscard]] bool is_large() const noexcept { return bytes_.load(std::memory_order_relaxed) > kept_bytes; }
  /// Under the pool's lock, where nobody has a room: gives the memory back.
  void clear() noexcept;
  /// Under the pool's lock: from now on no room is counted here. Returns how many are out.
  [[nodiscard]] std::size_t close() noexcept;

 private:
  // So much stays though nobody uses it.
  static constexpr std::size_t kept_bytes = std::size_t{4} << 20U;
  static constexpr std::uint64_t closed = ~std::uint64_t{0};

  // A room is named by its place: which aligned block of memory, and which room in that. The first room of a
  // block says which it is, so no room is named 0.
  using Place = std::uint32_t;
  struct BlockHead {
    Place first;
  };
  struct FreeRoom {
    Place next;
  };
  struct Free {
    void operator()(std::byte* chunk) const noexcept { std::free(chunk); }
  };

  static std::uint64_t count_of(std::uint64_t returned) noexcept { return returned >> 32U; }
  [[nodiscard]] std::byte* room_at(Place place) const noexcept;
  [[nodiscard]] static Place place_of(void* room) noexcept;
  void begin_block();
  void add_chunk();

  // Under the pool's lock.
  Place free_ = 0;
  bool is_closed_ = false;
  std::byte* next_ = nullptr;  // what of the latest block nobody ever had
  std::byte* block_end_ = nullptr;
  std::byte* chunk_end_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> chunks_;
  std::vector<std::byte*> blocks_;
  std::atomic<std::uint64_t> taken_{
      0};  // less those that came back and left the list; written under the lock
  std::atomic<std::size_t> bytes_{0};

  alignas(64) std::atomic<std::uint64_t> returned_{0};  // pushed one by one, taken all at once: so no ABA
};

}  // namespace kindred::internal
