#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "kindred/codec.hpp"
#include "kindred/internal/shared_object.hpp"
#include "kindred/internal/shared_object_channel.hpp"

namespace kindred {

/// A bounded queue between processes: any number of senders and receivers, in the parent and the workers of
/// one executor, first in, first out. Made by `executor.make_channel<T>(capacity)`. An element is whatever
/// can be a task's argument, except handles of shared objects and arrays: pass those to the tasks.
///
/// It holds up to `capacity` elements, and up to a number of encoded bytes that is chosen when it is made:
/// for a trivially copyable `T` it is enough for all; for others it counts 256 bytes an element, 64 KiB at
/// least and 16 MiB at most.
///
/// An element is sent or not sent, and received or not received, whatever dies at whatever instruction: none
/// comes twice or torn, and a dead process stops no other. What a worker had received when it died is gone
/// with it.
///
/// Threads: any. Fork: crosses as an argument or a result; a copy that a fork of your own inherited is
/// refused.
template <class T>
class Channel : public internal::SharedHandle<Channel<T>, internal::SharedKind::channel> {
  static_assert(
      !internal::SharedObjectHandle<T>,
      "kindred::Channel<T>: a shared object can't travel through a channel, because its memory is passed by a descriptor. Pass it to the "
      "tasks as an argument.");
  using Base = internal::SharedHandle<Channel<T>, internal::SharedKind::channel>;

 public:
  using value_type = T;

  Channel() noexcept = default;  ///< an empty handle, to be assigned to

  /// Blocks: while the channel is full. Errors: `UsageError` where it is closed, is of another context, the
  /// element is too large, or the pool has ended meanwhile.
  void send(const T& value) const { send_before(value, {}); }
  /// Returns false where the channel is full. Errors: as `send`.
  [[nodiscard]] bool try_send(const T& value) const { return send_before(value, internal::no_wait()); }
  /// Returns false where the time was over first. Errors: as `send`. Blocks: for at most that time.
  template <class Rep, class Period>
  [[nodiscard]] bool send_for(const T& value, const std::chrono::duration<Rep, Period>& time) const {
    return send_before(value, internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool send_until(const T& value, const std::chrono::time_point<Clock, Duration>& time) const {
    return send_before(value, internal::deadline_at(time));
  }

  /// Returns the oldest element; nothing where the channel is closed and empty. Blocks: until either. Errors:
  /// `UsageError` where it is of another context or the pool has ended meanwhile, and what decoding throws.
  [[nodiscard]] std::optional<T> receive() const { return receive_before({}); }
  /// Returns the oldest element, or nothing where the channel is empty now.
  [[nodiscard]] std::optional<T> try_receive() const { return receive_before(internal::no_wait()); }
  /// Returns nothing where the time was over first, or the channel is closed and empty. Blocks: for at most
  /// that time.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& time) const {
    return receive_before(internal::deadline_after(time));
  }
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> receive_until(const std::chrono::time_point<Clock, Duration>& time) const {
    return receive_before(internal::deadline_at(time));
  }

  /// Nothing more may be sent; what has been sent can still be received. Threads that wait are woken, and
  /// find out.
  void close() const { internal::close_channel(this->use()); }
  [[nodiscard]] bool closed() const { return internal::channel_closed(this->use()); }
  /// Returns how many elements it holds. By the time you read it, it may be another number.
  [[nodiscard]] std::size_t size() const { return internal::channel_size(this->use()); }
  [[nodiscard]] bool empty() const { return size() == 0; }
  [[nodiscard]] std::size_t capacity() const { return internal::channel_capacity(this->use()); }

 private:
  friend Base;
  friend class internal::SharedObjectRegistry;
  explicit Channel(std::shared_ptr<internal::SharedObject> object) noexcept : Base{std::move(object)} {}

  /// What an element takes: the bytes where they are always the same, 0 where they are not.
  [[nodiscard]] static constexpr std::size_t encoded_bytes() noexcept {
    return std::is_trivially_copyable_v<T> ? sizeof(T) : 0;
  }

  bool send_before(const T& value, internal::Deadline deadline) const {
    internal::SharedObject& object = this->use();
    internal::ElementBuffer buffer;
    internal::Encoder encoder{internal::context_of(object), buffer.small_room(),
                              &internal::ElementBuffer::grow, &buffer};
    {
      const internal::NoHandlesScope no_handles;
      internal::encode(encoder, value);
    }
    return internal::send_bytes(object, encoder.written(), deadline);
  }
  [[nodiscard]] std::optional<T> receive_before(internal::Deadline deadline) const {
    internal::SharedObject& object = this->use();
    internal::ElementBuffer buffer;
    const auto bytes = internal::receive_bytes(object, buffer, deadline);
    if (!bytes) return std::nullopt;
    internal::Decoder decoder{internal::context_of(object), *bytes};
    return internal::decode<T>(decoder);
  }
};

}  // namespace kindred
