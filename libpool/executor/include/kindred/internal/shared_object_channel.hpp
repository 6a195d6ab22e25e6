#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "kindred/internal/context_id.hpp"
#include "kindred/internal/deadline.hpp"

namespace kindred::internal {

class SharedObject;

/// The bytes of one element: on the stack where they are few.
class ElementBuffer {
 public:
  ElementBuffer() noexcept = default;
  ElementBuffer(const ElementBuffer&) = delete;
  ElementBuffer& operator=(const ElementBuffer&) = delete;

  [[nodiscard]] std::span<std::byte> small_room() noexcept { return small_; }
  /// Returns room for `bytes` bytes; what was there before is lost.
  [[nodiscard]] std::span<std::byte> room(std::size_t bytes);
  /// `Encoder::Grow` for one of these.
  static std::span<std::byte> grow(void* buffer, std::span<const std::byte> written, std::size_t more);

 private:
  alignas(16) std::byte small_[512];
  std::vector<std::byte> large_;
};

/// While one lives, handles refuse to be encoded on its thread: what travels through a channel cannot take a
/// descriptor along.
class NoHandlesScope {
 public:
  NoHandlesScope() noexcept;
  ~NoHandlesScope();
  NoHandlesScope(const NoHandlesScope&) = delete;
  NoHandlesScope& operator=(const NoHandlesScope&) = delete;
};

[[nodiscard]] ContextId context_of(const SharedObject& object) noexcept;
/// Returns false where there was no room before the deadline. Errors: `UsageError` where the channel is
/// closed, or the element is larger than the channel.
bool send_bytes(SharedObject& object, std::span<const std::byte> element, Deadline deadline);
/// Returns the bytes in `buffer`; nothing where none came before the deadline, or the channel is closed and
/// empty.
[[nodiscard]] std::optional<std::span<const std::byte>> receive_bytes(SharedObject& object,
                                                                      ElementBuffer& buffer,
                                                                      Deadline deadline);
void close_channel(SharedObject& object);
[[nodiscard]] bool channel_closed(SharedObject& object);
[[nodiscard]] std::size_t channel_size(SharedObject& object);
[[nodiscard]] std::size_t channel_capacity(SharedObject& object) noexcept;
[[nodiscard]] Deadline no_wait() noexcept;

}  // namespace kindred::internal
