#pragma once

#include <cstdint>
#include <span>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/message_socket.hpp"

namespace kindred::internal {

/// Sends shared memories to a worker, as many in a message as descriptors may travel in one: a socket holds a
/// few hundred messages, and a call may name `max_attachments` memories. Their ids count up from `first_id`.
/// False: its socket is full or closed, and some may have been sent.
[[nodiscard]] bool send_memories(const MessageSocket& socket, std::uint64_t first_id,
                                 const Attachments& memories);

}  // namespace kindred::internal
