#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// A message as it came: bytes and the descriptors that travelled with it.
struct Message {
  std::vector<std::byte> bytes;
  std::vector<Descriptor> descriptors;
  bool cut = false;  ///< it was longer than `message_limit`
};

/// One end of a pair of local sockets that keep messages apart (SOCK_SEQPACKET) and carry descriptors.
/// Nothing has a name, and no other process can connect.
class MessageSocket {
 public:
  static constexpr std::size_t message_limit = 64 * 1024;
  static constexpr std::size_t descriptor_limit = 64;
  enum class Sent { yes, full, closed };

  MessageSocket() = default;
  explicit MessageSocket(Descriptor fd) noexcept : fd_{std::move(fd)} {}
  /// Errors: `SystemError` (limit on open files).
  [[nodiscard]] static std::pair<MessageSocket, MessageSocket> pair();

  /// Sends without blocking and without SIGPIPE. Errors: `SystemError` for what is neither a full nor a
  /// closed socket.
  Sent send(std::span<const std::byte> bytes, std::span<const int> descriptors = {}) const;
  /// Receives one message; nothing where the deadline passes or (see `closed`) the peer is gone. A deadline
  /// in the past asks without waiting.
  [[nodiscard]] std::optional<Message> receive(Deadline deadline, bool* closed = nullptr) const;

  /// The process that made the pair, by the kernel's word (SO_PEERCRED).
  [[nodiscard]] std::uint32_t peer_pid() const noexcept;
  /// A number that the kernel gives to this socket alone (SO_COOKIE); 0: there is none behind the descriptor.
  /// A task may have closed the descriptor, and its number may be another file's.
  [[nodiscard]] std::uint64_t identity() const noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  void close() noexcept { fd_.reset(); }
  void release() noexcept {
    (void)fd_.release();
  }  ///< the descriptor stays open, and other code owns it from here on
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 private:
  Descriptor fd_;
};

}  // namespace kindred::internal
