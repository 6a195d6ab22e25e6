#include "kindred/internal/tail_client.hpp"

#include <cerrno>
#include <charconv>

#include <fmt/format.h>

#include "kindred/internal/files.hpp"

namespace kindred::internal {
namespace {

std::optional<std::uint32_t> number_in(std::string_view text) {
  std::uint32_t number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::vector<DoorName> door_names() {
  const std::uint32_t me = user_id();
  std::vector<DoorName> names;
  for (auto& name : local_names(me == 0 ? std::string{"kindred/"} : fmt::format("kindred/{}/", me))) {
    std::string_view rest{name};
    rest.remove_prefix(std::string_view{"kindred/"}.size());
    const auto first = rest.find('/');
    const auto second = rest.find('/', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const auto uid = number_in(rest.substr(0, first));
    const auto pid = number_in(rest.substr(first + 1, second - first - 1));
    if (!uid || !pid) continue;
    std::string serial{rest.substr(second + 1)};
    if (serial.ends_with('+')) serial.pop_back();
    names.push_back({.name = std::move(name), .uid = *uid, .pid = *pid, .serial = std::move(serial)});
  }
  return names;
}

std::optional<DoorPool> connect_to_pool(const DoorName& name, std::chrono::steady_clock::time_point until) {
  Descriptor socket = connect_locally(name.name, until);
  if (!socket) return std::nullopt;
  const auto peer = peer_of(socket.get());
  if (!peer || peer->uid != name.uid) return std::nullopt;
  // Where the pool is in another pid namespace, the kernel tells its number here (or 0); a name that a dead
  // process left to its forks is no pool's.
  const std::uint32_t here = peer->pid != 0 ? peer->pid : name.pid;
  if (peer->pid != 0 && !file_status(fmt::format("/proc/{}", peer->pid))) return std::nullopt;
  return DoorPool{.uid = name.uid, .pid = here, .serial = name.serial, .socket = std::move(socket)};
}

std::vector<DoorPool> find_pools() {
  std::vector<DoorPool> pools;
  // For all: a pool that lets us in does not wait for a request for long.
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{1};
  for (const auto& name : door_names()) {
    if (auto pool = connect_to_pool(name, until)) pools.push_back(std::move(*pool));
  }
  return pools;
}

void ask_pool(const DoorPool& pool, const TailRequest& request) {
  const std::string line = request.to_line();
  for (std::string_view rest{line}; !rest.empty();) {
    const auto sent = send_some(pool.socket.get(), rest);
    if (sent > 0)
      rest.remove_prefix(static_cast<std::size_t>(sent));
    else if (sent == -EAGAIN)
      static_cast<void>(wait_for_socket(pool.socket.get(), true, -1, {}));
    else
      return;
  }
}

std::optional<std::string_view> PoolAnswers::next(Deadline deadline, const std::function<void()>& idle) & {
  for (;;) {
    if (const auto end = text_.find('\n', searched_); end != std::string::npos) {
      const std::string_view line = std::string_view{text_}.substr(begin_, end - begin_);
      begin_ = searched_ = end + 1;
      return line;
    }
    text_.erase(0, begin_);
    begin_ = 0;
    searched_ = text_.size();
    const std::size_t size = text_.size();
    text_.resize(size + 64 * 1024);
    const auto got = receive_some(socket_.get(), text_.data() + size, text_.size() - size);
    text_.resize(size + static_cast<std::size_t>(std::max<std::ptrdiff_t>(got, 0)));
    if (got > 0) continue;
    if (got != -EAGAIN) return std::nullopt;
    if (idle) idle();
    if (deadline && std::chrono::steady_clock::now() >= *deadline) return std::nullopt;
    static_cast<void>(wait_for_socket(socket_.get(), false, -1, deadline));
  }
}

}  // namespace kindred::internal
