#include "kindred/internal/shared_object_channel.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kindred/error.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/ring.hpp"
#include "shared/handles.hpp"
#include "shared/shared_object.hpp"
#include "shared/sleep.hpp"

namespace kindred::internal {

namespace {

// The arena is a ring of bytes; an element wraps where it must.
//
//     head                                   tail
//      v                                      v
//      | size (8 bytes) | bytes | pad to 8 |  | ...
constexpr std::size_t size_bytes = 8;
constexpr int elements_word = 0;  ///< receivers sleep on it
constexpr int room_word = 1;      ///< senders sleep on it

constexpr std::uint64_t footprint(std::uint64_t bytes) noexcept { return size_bytes + round_to_ring(bytes); }

void copy_in(std::span<std::byte> arena, std::uint64_t at, std::span<const std::byte> bytes) noexcept {
  const auto offset = static_cast<std::size_t>(at % arena.size());
  const std::size_t first = std::min(bytes.size(), arena.size() - offset);
  copy_bytes(arena.data() + offset, bytes.data(), first);
  copy_bytes(arena.data(), bytes.data() + first, bytes.size() - first);
}

void copy_out(std::span<const std::byte> arena, std::uint64_t at, std::span<std::byte> bytes) noexcept {
  const auto offset = static_cast<std::size_t>(at % arena.size());
  const std::size_t first = std::min(bytes.size(), arena.size() - offset);
  copy_bytes(bytes.data(), arena.data() + offset, first);
  copy_bytes(bytes.data() + first, arena.data(), bytes.size() - first);
}

ChannelState read(SharedObject& object, Critical& critical) {
  const auto channel = critical.state().get<ChannelState>();
  if (channel.tail - channel.head > object.arena().size() || channel.count > object.parameter())
    object.throw_corrupt("its cursors are out of range");
  return channel;
}

/// Stops being registered, where one is.
void leave(Critical& critical, int word, bool waiting) noexcept {
  if (!waiting) return;
  critical.end_waiting(word);
  critical.commit();
}

}  // namespace

std::span<std::byte> ElementBuffer::room(std::size_t bytes) {
  if (bytes <= sizeof small_) return small_;
  large_.resize(bytes);
  return large_;
}

std::span<std::byte> ElementBuffer::grow(void* buffer, std::span<const std::byte> written, std::size_t more) {
  auto& self = *static_cast<ElementBuffer*>(buffer);
  const bool was_small = self.large_.empty();
  self.large_.resize(std::max(2 * written.size(), written.size() + more));
  if (was_small) copy_bytes(self.large_.data(), written.data(), written.size());
  return self.large_;
}

ContextId context_of(const SharedObject& object) noexcept { return object.life().id; }
std::size_t channel_capacity(SharedObject& object) noexcept {
  return static_cast<std::size_t>(object.parameter());
}
Deadline no_wait() noexcept { return std::chrono::steady_clock::time_point::min(); }

bool send_bytes(SharedObject& object, std::span<const std::byte> element, Deadline deadline) {
  const std::uint64_t needed = footprint(element.size());
  const auto arena = object.arena();
  if (needed > arena.size()) {
    throw UsageError{"an element of " + std::to_string(element.size()) +
                     " encoded bytes does not fit into a Channel with room for " +
                     std::to_string(arena.size() - size_bytes) +
                     ". Make the channel with more bytes, or pass large data in a SharedArray."};
  }
  bool waiting = false;
  for (bool in_time = true;;) {
    std::uint32_t ticket = 0;
    {
      Critical critical{object, with_grace(deadline)};
      if (!critical) return false;  // a process was stopped while it held the lock
      ChannelState channel = read(object, critical);
      if (channel.closed != 0) {
        leave(critical, room_word, waiting);
        throw UsageError{
            "the Channel was closed, and an element was sent after that. Close it when all senders are done."};
      }
      const std::uint64_t free = arena.size() - (channel.tail - channel.head);
      if (channel.count < object.parameter() && needed <= free) {
        const std::uint64_t size = element.size();
        copy_in(arena, channel.tail, std::as_bytes(std::span{&size, 1}));
        copy_in(arena, channel.tail + size_bytes, element);
        channel.tail += needed;
        ++channel.count;
        critical.state().set(channel);
        if (waiting) critical.end_waiting(room_word);
        // Crash: before the commit the element does not exist, after it it will be received.
        critical.commit();
        critical.wake(elements_word, critical.state().waiting[elements_word] != 0 ? 1 : 0);
        // One large element that was received has made room for several: each sender calls the next.
        if (channel.count < object.parameter() && needed < free && critical.state().waiting[room_word] != 0)
          critical.wake(room_word, 1);
        return true;
      }
      if (!in_time || is_past(deadline)) {
        leave(critical, room_word, waiting);
        return false;
      }
      if (!waiting) {
        critical.begin_waiting(room_word);
        critical.commit();
        waiting = true;
      }
      ticket = critical.ticket(room_word);
    }
    in_time = spin_then_sleep(object.memory().words[room_word], ticket, deadline);
  }
}

std::optional<std::span<const std::byte>> receive_bytes(SharedObject& object, ElementBuffer& buffer,
                                                        Deadline deadline) {
  const auto arena = object.arena();
  bool waiting = false;
  for (bool in_time = true;;) {
    std::uint32_t ticket = 0;
    {
      Critical critical{object, with_grace(deadline)};
      if (!critical) return std::nullopt;
      ChannelState channel = read(object, critical);
      if (channel.count != 0) {
        const std::uint64_t used = channel.tail - channel.head;
        std::uint64_t size = 0;
        copy_out(arena, channel.head,
                 std::as_writable_bytes(std::span{&size, 1}));  // read once: from here on, our copy
        if (used < size_bytes || size > used - size_bytes || footprint(size) > used)
          object.throw_corrupt("an element is larger than what was sent");
        const auto bytes = buffer.room(static_cast<std::size_t>(size)).first(static_cast<std::size_t>(size));
        copy_out(arena, channel.head + size_bytes, bytes);
        channel.head += footprint(size);
        --channel.count;
        critical.state().set(channel);
        if (waiting) critical.end_waiting(elements_word);
        // Crash: before the commit the element is still to be received, by another; after it, it was
        // received, and is gone with us.
        critical.commit();
        critical.wake(room_word, critical.state().waiting[room_word] != 0 ? 1 : 0);
        return bytes;
      }
      if (channel.closed != 0 || !in_time || is_past(deadline)) {
        leave(critical, elements_word, waiting);
        return std::nullopt;
      }
      if (!waiting) {
        critical.begin_waiting(elements_word);
        critical.commit();
        waiting = true;
      }
      ticket = critical.ticket(elements_word);
    }
    in_time = spin_then_sleep(object.memory().words[elements_word], ticket, deadline);
  }
}

void close_channel(SharedObject& object) {
  Critical critical{object};
  ChannelState channel = read(object, critical);
  channel.closed = 1;
  critical.state().set(channel);
  critical.commit();
  // Crash: it is closed, and sleepers do not know; the parent wakes them when it hears of the death.
  for (const int word : {elements_word, room_word}) critical.wake(word, std::numeric_limits<int>::max());
}

bool channel_closed(SharedObject& object) {
  Critical critical{object};
  return read(object, critical).closed != 0;
}

std::size_t channel_size(SharedObject& object) {
  Critical critical{object};
  return static_cast<std::size_t>(read(object, critical).count);
}

}  // namespace kindred::internal
