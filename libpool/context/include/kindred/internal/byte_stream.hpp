#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kindred/internal/context_id.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/shared_memory.hpp"

namespace kindred::internal {

/// Bytes that do not hold what was promised: too short, a length beyond the end, an unknown tag. Thrown by
/// `Decoder`.
class DecodeError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Shared memory that travels beside a message's bytes (its descriptor is passed over the worker's socket).
using Attachments = std::vector<std::shared_ptr<SharedMemory>>;
/// How many one call or result may have: their ids share a ring with its bytes.
inline constexpr std::size_t max_attachments = 1024;
/// Throws the `UsageError` of a call or result that has more.
[[noreturn]] void refuse_attachments();

/// Appends bytes to memory that its owner provides: a thread's scratch buffer, the free space of a ring, a
/// large shared block. One thread at a time.
class Encoder {
 public:
  /// Moves what is written to memory with room for `more` further bytes, and returns all of it. May throw.
  using Grow = std::span<std::byte> (*)(void* owner, std::span<const std::byte> written, std::size_t more);

  Encoder(ContextId context, std::span<std::byte> room, Grow grow, void* owner) noexcept
      : begin_{room.data()},
        cursor_{room.data()},
        end_{room.data() + room.size()},
        grow_{grow},
        owner_{owner},
        context_{context} {}
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  void write(const void* source, std::size_t bytes) {
    reserve(bytes);
    copy_bytes(cursor_, source, bytes);
    cursor_ += bytes;
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  void write_value(const T& value) {
    write(&value, sizeof value);
  }
  /// Makes room for `bytes` more, so that a large value is written in one piece.
  void reserve(std::size_t bytes) {
    if (bytes > static_cast<std::size_t>(end_ - cursor_)) [[unlikely]]
      move_to_larger(bytes);
  }
  /// The same, where `reserve` has made room for it.
  void write_reserved(const void* source, std::size_t bytes) noexcept {
    copy_bytes(cursor_, source, bytes);
    cursor_ += bytes;
  }
  /// Returns the position for `patch`, for a length that is known later.
  [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(cursor_ - begin_); }
  void patch(std::size_t at, const void* source, std::size_t bytes) noexcept {
    std::memcpy(begin_ + at, source, bytes);
  }
  void truncate(std::size_t size) noexcept { cursor_ = begin_ + size; }

  /// Sends `memory` along; returns its index in the message, to be written so that the reader finds it.
  /// Memory that is sent along already is not sent twice: a map passes the same handles with each item.
  std::uint32_t attach(std::shared_ptr<SharedMemory> memory) {
    for (std::size_t i = attachments_.size(); i-- > 0;) {
      if (attachments_[i] == memory) return static_cast<std::uint32_t>(i);
    }
    if (attachments_.size() == max_attachments) refuse_attachments();
    attachments_.push_back(std::move(memory));
    return static_cast<std::uint32_t>(attachments_.size() - 1);
  }
  [[nodiscard]] std::span<const std::byte> written() const noexcept { return {begin_, size()}; }
  [[nodiscard]] Attachments& attachments() noexcept { return attachments_; }
  /// The context that the bytes are meant for: a handle of another one must refuse to be written.
  [[nodiscard]] ContextId context() const noexcept { return context_; }
  /// How deep the value nests that is being written; the codec counts and limits it.
  [[nodiscard]] std::uint32_t& depth() noexcept { return depth_; }

 private:
  void move_to_larger(std::size_t more) {
    const auto used = size();
    const auto room = grow_(owner_, written(), more);
    begin_ = room.data();
    cursor_ = begin_ + used;
    end_ = begin_ + room.size();
  }

  std::byte* begin_;
  std::byte* cursor_;
  std::byte* end_;
  Grow grow_;
  void* owner_;
  ContextId context_;
  std::uint32_t depth_ = 0;
  Attachments attachments_;
};

/// Reads what an `Encoder` wrote. Every read is checked against the end, and every byte is read once: the
/// writer may be hostile and may change the bytes meanwhile. One thread at a time.
class Decoder {
 public:
  Decoder(ContextId context, std::span<const std::byte> bytes, Attachments* attachments = nullptr) noexcept
      : cursor_{bytes.data()},
        end_{bytes.data() + bytes.size()},
        context_{context},
        attachments_{attachments} {}

  void read(void* target, std::size_t bytes) {
    if (bytes > left()) [[unlikely]]
      throw_short(bytes);
    copy_bytes(target, cursor_, bytes);
    cursor_ += bytes;
  }
  template <class T>
    requires std::is_trivially_copyable_v<T>
  [[nodiscard]] T read_value() {
    T value;
    read(&value, sizeof value);
    return value;
  }
  /// Returns the next `bytes` bytes in place.
  [[nodiscard]] std::span<const std::byte> take(std::size_t bytes) {
    if (bytes > left()) [[unlikely]]
      throw_short(bytes);
    return {std::exchange(cursor_, cursor_ + bytes), bytes};
  }
  /// Reads a count of elements that take at least `bytes_each` bytes each: a count that cannot be true is
  /// refused before anything is allocated for it.
  [[nodiscard]] std::size_t read_count(std::size_t bytes_each) {
    const auto count = read_value<std::uint64_t>();
    if (bytes_each != 0 && count > left() / bytes_each) [[unlikely]]
      throw_short(static_cast<std::size_t>(count));
    return static_cast<std::size_t>(count);
  }
  [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - cursor_); }
  /// Goes back to where `left()` was `left`.
  void rewind(std::size_t left) noexcept { cursor_ = end_ - left; }
  /// Errors: `DecodeError` where the message carries no such attachment.
  [[nodiscard]] std::shared_ptr<SharedMemory> attachment(std::uint32_t index) const {
    if (attachments_ == nullptr || index >= attachments_->size())
      throw DecodeError{"a shared memory that the message names did not come with it"};
    return (*attachments_)[index];
  }
  [[nodiscard]] ContextId context() const noexcept { return context_; }
  /// How deep the value nests that is being read; the codec counts and limits it, so that no message
  /// overflows the stack.
  [[nodiscard]] std::uint32_t& depth() noexcept { return depth_; }
  /// What filling hash tables has cost so far beyond what their sizes allow; the codec counts and limits it.
  [[nodiscard]] std::uint32_t& hash_steps() noexcept { return hash_steps_; }

 private:
  [[noreturn]] void throw_short(std::size_t wanted) const {
    throw DecodeError{"the message ends early: " + std::to_string(wanted) + " bytes wanted, " +
                      std::to_string(left()) + " left"};
  }

  const std::byte* cursor_;
  const std::byte* end_;
  ContextId context_;
  std::uint32_t depth_ = 0;
  std::uint32_t hash_steps_ = 0;
  Attachments* attachments_;
};

}  // namespace kindred::internal
