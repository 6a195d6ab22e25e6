#pragma once

#include <cstddef>
#include <vector>

#include "kindred/internal/assert.hpp"

namespace kindred::internal {

/// A queue that grows, and keeps its memory. A full boost::circular_buffer would overwrite the oldest call.
template <class T>
class CircularQueue {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
  [[nodiscard]] std::size_t size() const noexcept { return tail_ - head_; }
  [[nodiscard]] T& front() noexcept { return (*this)[0]; }
  [[nodiscard]] const T& front() const noexcept { return (*this)[0]; }
  [[nodiscard]] T& back() noexcept { return (*this)[size() - 1]; }
  [[nodiscard]] T& operator[](std::size_t i) noexcept {
    KINDRED_ASSERT(i < size());
    return cells_[(head_ + i) & mask_];
  }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept {
    KINDRED_ASSERT(i < size());
    return cells_[(head_ + i) & mask_];
  }
  void pop_front() noexcept {
    KINDRED_ASSERT(!empty());
    ++head_;
  }
  void pop_back() noexcept {
    KINDRED_ASSERT(!empty());
    --tail_;
  }
  /// After it the next `push_back` takes no memory.
  void reserve_one() {
    if (size() == cells_.size()) [[unlikely]]
      widen();
  }
  void push_back(T value) {
    reserve_one();
    push_back_reserved(value);
  }
  /// After `reserve_one`.
  void push_back_reserved(const T& value) noexcept {
    KINDRED_ASSERT(size() < cells_.size());
    cells_[tail_++ & mask_] = value;
  }
  void erase(std::size_t i) noexcept {
    KINDRED_ASSERT(i < size());
    for (; i + 1 < size(); ++i) (*this)[i] = (*this)[i + 1];
    --tail_;
  }

 private:
  void widen() {
    std::vector<T> larger(cells_.empty() ? 64 : cells_.size() * 2);
    const std::size_t count = size();
    for (std::size_t i = 0; i < count; ++i) larger[i] = (*this)[i];
    cells_.swap(larger);
    mask_ = cells_.size() - 1;
    head_ = 0;
    tail_ = count;
  }
  std::vector<T> cells_;
  std::size_t mask_ = 0;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

}  // namespace kindred::internal
