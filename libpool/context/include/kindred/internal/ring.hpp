#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "kindred/internal/prefetch.hpp"

namespace kindred::internal {

/// The two cursors of a ring. They count bytes ever published and consumed; each lies in a cache line that
/// one side alone writes.
///
///     producer's line   | published ............ |
///     consumer's line   | consumed ............. |
template <std::unsigned_integral Cursor = std::uint64_t>
struct RingCursors {
  alignas(64) std::atomic<Cursor> published{0};
  alignas(64) std::atomic<Cursor> consumed{0};
};

/// Every message in a ring begins with its size: a multiple of `ring_alignment`, this word included. A
/// message never wraps: where it would, the rest of the lap is one padding message (`ring_padding` set in the
/// word).
inline constexpr std::size_t ring_alignment = 8;
inline constexpr std::uint32_t ring_padding = 0x8000'0000U;

[[nodiscard]] constexpr std::size_t round_to_ring(std::size_t bytes) noexcept {
  return (bytes + ring_alignment - 1) / ring_alignment * ring_alignment;
}

/// The producer's end of a single-producer, single-consumer ring of messages in shared memory. The room's
/// size is a power of two, and `Cursor` counts at least twice as far. All state it relies on is its own; of
/// the peer it reads one cursor, checked.
template <std::unsigned_integral Cursor = std::uint64_t>
class RingWriter {
 public:
  RingWriter() = default;
  RingWriter(std::span<std::byte> room, RingCursors<Cursor>& cursors) noexcept
      : room_{room},
        cursors_{&cursors},
        published_{cursors.published.load(std::memory_order_relaxed)},
        consumed_{published_} {}

  /// Returns room for a message of up to `bytes` bytes (rounded up), in one piece; empty where there is none
  /// now. What it returns may be larger: up to the end of the lap or the reader's position.
  [[nodiscard]] std::span<std::byte> reserve(std::size_t bytes) noexcept {
    const auto wanted = round_to_ring(bytes);
    std::size_t at = offset();
    std::size_t to_end = room_.size() - at;
    const std::size_t needed = wanted <= to_end ? wanted : to_end + wanted;
    if (free() < needed) {
      refresh();
      if (free() < needed) return {};
    }
    if (wanted > to_end) {
      // Crash: nothing is published yet; the padding is seen only together with the message behind it.
      const auto word = static_cast<std::uint32_t>(to_end) | ring_padding;
      std::memcpy(room_.data() + at, &word, sizeof word);
      pending_padding_ = to_end;
      at = 0;
      to_end = room_.size();
    } else {
      pending_padding_ = 0;
    }
    const std::size_t contiguous = free() - pending_padding_ < to_end ? free() - pending_padding_ : to_end;
    return room_.subspan(at, contiguous);
  }

  /// As `reserve`, but does not read the peer's cursor: for a producer to which `give_back` tells how far the
  /// peer has come.
  [[nodiscard]] std::span<std::byte> reserve_in_known(std::size_t bytes) noexcept {
    const auto wanted = round_to_ring(bytes);
    const std::size_t to_end = room_.size() - offset();
    return free() < (wanted <= to_end ? wanted : to_end + wanted) ? std::span<std::byte>{} : reserve(bytes);
  }
  /// The peer is done with everything up to `cursor`, a value that `published` had.
  void give_back(Cursor cursor) noexcept {
    if (static_cast<Cursor>(cursor - consumed_) <= static_cast<Cursor>(published_ - consumed_))
      consumed_ = cursor;
  }

  /// Makes the message that lies in the reserved room visible. `bytes` is its size, rounded up by this call;
  /// its first word is set here.
  void publish(std::size_t bytes) noexcept {
    const auto size = static_cast<std::uint32_t>(round_to_ring(bytes));
    const std::size_t at = (offset() + pending_padding_) & (room_.size() - 1);
    std::memcpy(room_.data() + at, &size, sizeof size);
    published_ = static_cast<Cursor>(published_ + pending_padding_ + size);
    pending_padding_ = 0;
    // Order: release, pairs with the acquire in RingReader::next: the bytes are there before the cursor says
    // so. Crash: before this store the message does not exist, after it it is committed.
    cursors_->published.store(published_, std::memory_order_release);
  }

  /// The next message is about to be written.
  void prefetch() const noexcept { prefetch_to_write(room_.data() + offset()); }
  [[nodiscard]] Cursor published() const noexcept { return published_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return room_.size(); }
  /// Has the peer consumed all? Reads its cursor.
  [[nodiscard]] bool drained() noexcept { return unread() == 0; }
  /// How many bytes has it not consumed? Reads its cursor.
  [[nodiscard]] std::size_t unread() noexcept {
    refresh();
    return static_cast<std::size_t>(static_cast<Cursor>(published_ - consumed_));
  }
  [[nodiscard]] std::size_t free() const noexcept {
    return room_.size() - static_cast<std::size_t>(static_cast<Cursor>(published_ - consumed_));
  }

 private:
  [[nodiscard]] std::size_t offset() const noexcept {
    return static_cast<std::size_t>(published_) & (room_.size() - 1);
  }
  void refresh() noexcept {
    // Order: acquire, pairs with the release in RingReader::release: the peer has read the bytes that we may
    // now overwrite.
    const Cursor seen = cursors_->consumed.load(std::memory_order_acquire);
    // A peer that moves backwards or beyond what was published is corrupted: keep what we know, so that
    // nothing is overrun.
    if (static_cast<Cursor>(seen - consumed_) <= static_cast<Cursor>(published_ - consumed_))
      consumed_ = seen;
  }

  std::span<std::byte> room_;
  RingCursors<Cursor>* cursors_ = nullptr;
  Cursor published_ = 0;
  Cursor consumed_ = 0;
  std::size_t pending_padding_ = 0;
};

/// The consumer's end. Checks all that it reads: a producer that lies is reported by `corrupt()`, and never
/// read out of bounds.
template <std::unsigned_integral Cursor = std::uint64_t>
class RingReader {
 public:
  RingReader() = default;
  RingReader(std::span<std::byte> room, RingCursors<Cursor>& cursors) noexcept
      : room_{room}, cursors_{&cursors} {}

  /// Returns the next message (its size word included) in place, or an empty span. The message stays until
  /// `release`.
  [[nodiscard]] std::span<std::byte> next() noexcept {
    for (;;) {
      if (read_ == known_ && !look()) return {};
      const std::size_t at = static_cast<std::size_t>(read_) & (room_.size() - 1);
      const std::size_t to_end = room_.size() - at;
      std::uint32_t word;
      std::memcpy(&word, room_.data() + at, sizeof word);  // read once: the peer may change it
      const std::size_t size = word & ~ring_padding;
      const auto available = static_cast<std::size_t>(static_cast<Cursor>(known_ - read_));
      if (size < ring_alignment || size % ring_alignment != 0 || size > to_end || size > available)
          [[unlikely]] {
        corrupt_ = true;
        return {};
      }
      read_ = static_cast<Cursor>(read_ + size);
      if ((word & ring_padding) == 0) return room_.subspan(at, size);
    }
  }

  /// Gives back the room of all messages that `next` returned.
  void release() noexcept {
    if (released_ == read_) return;
    released_ = read_;
    // Order: release, pairs with the acquire in RingWriter::refresh.
    cursors_->consumed.store(read_, std::memory_order_release);
  }

  /// Is there something that `next` would return? Reads the peer's cursor only where the known part is used
  /// up.
  [[nodiscard]] bool ready() noexcept { return read_ != known_ || look(); }
  /// The next message is there, and is about to be read and written to.
  void prefetch() const noexcept {
    prefetch_to_write(room_.data() + (static_cast<std::size_t>(read_) & (room_.size() - 1)));
  }
  /// The same look without changing state that only the consumer may touch: any thread.
  [[nodiscard]] bool peek(Cursor read) const noexcept {
    return cursors_->published.load(std::memory_order_acquire) != read;
  }
  [[nodiscard]] Cursor position() const noexcept { return read_; }
  [[nodiscard]] bool corrupt() const noexcept { return corrupt_; }

 private:
  bool look() noexcept {
    // Order: acquire, pairs with the release in RingWriter::publish.
    const Cursor seen = cursors_->published.load(std::memory_order_acquire);
    if (seen == known_ || corrupt_) return false;
    const auto ahead = static_cast<std::size_t>(static_cast<Cursor>(seen - released_));
    if (ahead > room_.size() ||
        static_cast<Cursor>(seen - released_) < static_cast<Cursor>(known_ - released_)) [[unlikely]] {
      corrupt_ = true;
      return false;
    }
    known_ = seen;
    return known_ != read_;
  }

  std::span<std::byte> room_;
  RingCursors<Cursor>* cursors_ = nullptr;
  Cursor read_ = 0;
  Cursor known_ = 0;
  Cursor released_ = 0;
  bool corrupt_ = false;
};

}  // namespace kindred::internal
