#include "link/notices.hpp"

#include <cstring>
#include <span>
#include <vector>

namespace kindred::internal {

bool send_notice(const MessageSocket& socket, ParentMessage what, std::uint64_t memory_id, std::size_t bytes,
                 int fd) {
  const AttachmentNotice notice{
      .message = static_cast<std::uint32_t>(what), .spare = 0, .memory_id = memory_id, .bytes = bytes};
  const auto message = std::as_bytes(std::span{&notice, 1});
  const auto sent = fd < 0 ? socket.send(message) : socket.send(message, {&fd, 1});
  return sent == MessageSocket::Sent::yes;
}

bool send_module(const MessageSocket& socket, std::size_t index, const Module& module) {
  const AttachmentNotice notice{.message = static_cast<std::uint32_t>(ParentMessage::module),
                                .spare = 0,
                                .memory_id = index,
                                .bytes = module.path.size()};
  std::vector<std::byte> message(sizeof notice + module.path.size() + 1 + module.build_id.size());
  std::byte* at = message.data();
  std::memcpy(at, &notice, sizeof notice);
  at += sizeof notice;
  std::memcpy(at, module.path.c_str(), module.path.size() + 1);
  at += module.path.size() + 1;
  std::memcpy(at, module.build_id.data(), module.build_id.size());
  return socket.send(message) == MessageSocket::Sent::yes;
}

}  // namespace kindred::internal
