#include "link/sent_memories.hpp"

#include <algorithm>
#include <array>

namespace kindred::internal {

bool send_memories(const MessageSocket& socket, std::uint64_t first_id, const Attachments& memories) {
  constexpr std::size_t at_once = MessageSocket::descriptor_limit;
  std::array<AttachmentNotice, at_once> notices;
  std::array<int, at_once> descriptors;
  for (std::size_t begin = 0; begin < memories.size(); begin += at_once) {
    const std::size_t count = std::min(memories.size() - begin, at_once);
    for (std::size_t i = 0; i < count; ++i) {
      notices[i] = {.message = static_cast<std::uint32_t>(ParentMessage::attachment),
                    .spare = 0,
                    .memory_id = first_id + begin + i,
                    .bytes = memories[begin + i]->size()};
      descriptors[i] = memories[begin + i]->fd();
    }
    if (socket.send(std::as_bytes(std::span{notices}.first(count)), std::span{descriptors}.first(count)) !=
        MessageSocket::Sent::yes)
      return false;
  }
  return true;
}

}  // namespace kindred::internal
