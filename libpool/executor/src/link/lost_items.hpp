#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <utility>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/items_left.hpp"
#include "kindred/internal/segment.hpp"
#include "link/memory_blocks.hpp"
#include "task/task_state.hpp"

namespace kindred::internal {

/// The failure of a map's chunk as a whole: its worker died, say. The chunk's call is kept, and so are the
/// results of the items that were done, so that the map loses one item and not the chunk.
class LostItems final : public Failure {
 public:
  LostItems(std::unique_ptr<Failure> cause, ItemsLeft left)
      : cause_{std::move(cause)}, left_{std::move(left)} {}
  [[nodiscard]] std::exception_ptr make() const override { return cause_->make(); }
  [[nodiscard]] bool keeps_call() const noexcept override { return true; }
  [[nodiscard]] const ItemsLeft& left() const noexcept { return left_; }

 private:
  std::unique_ptr<Failure> cause_;
  ItemsLeft left_;
};

/// Is the task a map's chunk?
[[nodiscard]] bool runs_items(const TaskState& task, const CodeBook& code);

/// What a dead worker's segment says of the chunk that it ran. Every word is the worker's: it is read once
/// and checked. Nothing is known where the words are another attempt's, or do not add up.
[[nodiscard]] ItemsLeft read_items_left(const Segment& segment, const ResultBlocks& blocks,
                                        AttemptId attempt);

}  // namespace kindred::internal
