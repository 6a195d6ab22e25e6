#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "kept_blocks.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/shared_memory.hpp"

namespace kindred::internal {

/// Shared memories that the worker writes its large results into. Some are kept for the next ones, by their
/// place; once a future of the parent has let go of a result, the parent says so in `free_result_blocks`.
class ResultMemory {
 public:
  explicit ResultMemory(std::atomic<std::uint64_t>& freed) noexcept : freed_{freed} {}

  /// Memory for `bytes` bytes: a kept one, if one is free and large enough. What was returned before for the
  /// same result stays readable. `before_new` is called before a new one is made. Errors: `SystemError`.
  [[nodiscard]] std::span<std::byte> take(std::size_t bytes, const std::function<void()>& before_new);
  /// Was memory taken for the result at hand?
  [[nodiscard]] bool is_taken() const noexcept { return block_ != nullptr; }
  [[nodiscard]] bool holds(const std::byte* value) const noexcept {
    return block_ != nullptr && value == block_->bytes().data();
  }

  /// Is the block that was taken one of those that are kept? Then its place names it to the parent.
  [[nodiscard]] bool is_kept() const noexcept { return block_ != &single_; }
  [[nodiscard]] std::size_t place() const noexcept { return place_; }
  /// What was taken, if it is still to be sent to the parent.
  [[nodiscard]] const SharedMemory* unsent() const noexcept {
    return is_kept() && blocks_[place_]->sent ? nullptr : block_;
  }
  void note_sent() noexcept;
  /// The result lies there, and is the parent's from now on.
  void hand_over() noexcept {
    if (is_kept()) blocks_[place_]->ours = false;
  }
  /// The result is published: gives up what was taken for it and not used.
  void end_result() noexcept;

  /// The parent has taken the memory at this place.
  void forget(std::size_t place) noexcept;
  [[nodiscard]] std::uint64_t kept_bytes() const noexcept;

 private:
  struct Block {
    SharedMemory memory;
    bool sent = false;
    bool ours = true;  // to write into; false: a future of the parent may read it
  };
  [[nodiscard]] bool take_kept(std::size_t place, std::size_t bytes, std::uint64_t freed) const noexcept;
  [[nodiscard]] std::size_t best_kept(std::size_t bytes, std::uint64_t freed) const noexcept;
  [[nodiscard]] std::size_t unused_place() const noexcept;

  std::atomic<std::uint64_t>& freed_;
  std::array<std::optional<Block>, max_result_blocks> blocks_;
  KeptBlocks kept_;
  SharedMemory* block_ = nullptr;  // that the result is written into: one of these, or `single_`
  std::size_t place_ = 0;
  SharedMemory single_;    // where all places are taken
  SharedMemory outgrown_;  // the one that the result grew out of
};

}  // namespace kindred::internal
