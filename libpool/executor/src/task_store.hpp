#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace kindred::internal {

/// Room for the states of tasks: many, all of one size, made under the pool's lock and given back by any thread. Of what a short task costs, a third was
/// malloc, free and the page faults between them. Rooms lie in chunks that double up to a large page, and are used again, the latest first.
///
/// Who counts the rooms in use is the pool: each state holds a reference to it.
class TaskStore {
 public:
  static constexpr std::size_t room_bytes = 192;
  static constexpr std::size_t room_alignment = 64;

  TaskStore() = default;
  TaskStore(const TaskStore&) = delete;
  TaskStore& operator=(const TaskStore&) = delete;

  /// Under the pool's lock. Errors: `std::bad_alloc`.
  [[nodiscard]] void* take();
  /// Any thread.
  void give_back(void* room) noexcept;
  /// Is there so much memory that it is worth giving back? Any thread.
  [[nodiscard]] bool is_large() const noexcept { return bytes_.load(std::memory_order_relaxed) > kept_bytes; }
  /// Under the pool's lock, where nobody has a room: gives the memory back.
  void clear() noexcept;

 private:
  // So much stays though nobody uses it.
  static constexpr std::size_t kept_bytes = std::size_t{4} << 20U;

  struct FreeRoom {
    FreeRoom* next;
  };
  struct Free {
    void operator()(std::byte* chunk) const noexcept { std::free(chunk); }
  };

  void add_chunk();

  // Under the pool's lock.
  FreeRoom* free_ = nullptr;
  std::byte* next_ = nullptr;  // what of the latest chunk nobody ever had
  std::byte* end_ = nullptr;
  std::vector<std::unique_ptr<std::byte, Free>> chunks_;
  std::atomic<std::size_t> bytes_{0};

  alignas(64) std::atomic<FreeRoom*> returned_{nullptr};  // pushed one by one, taken all at once: so no ABA
};

}  // namespace kindred::internal
