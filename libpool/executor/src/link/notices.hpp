#pragma once

#include <cstddef>
#include <cstdint>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/message_socket.hpp"
#include "kindred/internal/modules.hpp"

namespace kindred::internal {

/// Tells a worker, on its socket, of a shared memory; `fd` is its descriptor, which goes along, or -1: none.
/// False: the socket takes no more at present.
[[nodiscard]] bool send_notice(const MessageSocket& socket, ParentMessage what, std::uint64_t memory_id,
                               std::size_t bytes = 0, int fd = -1);
/// Tells a worker of a library whose code a call names. False: the socket takes no more at present.
[[nodiscard]] bool send_module(const MessageSocket& socket, std::size_t index, const Module& module);

}  // namespace kindred::internal
