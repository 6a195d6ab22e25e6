#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/message_socket.hpp"

namespace kindred::test {

/// Of a task: announces a shared memory of `bytes` bytes to the parent, and sends this descriptor as it.
inline void announce_memory(int fd, std::size_t bytes) {
  using namespace kindred::internal;
  const AttachmentNotice notice{.message = static_cast<std::uint32_t>(WorkerMessage::attachment),
                                .spare = 0,
                                .memory_id = 77,
                                .bytes = bytes};
  MessageSocket socket{Descriptor{worker_fd::socket}};
  (void)socket.send(std::as_bytes(std::span{&notice, 1}), std::span{&fd, 1});
  socket.release();
}

}  // namespace kindred::test
