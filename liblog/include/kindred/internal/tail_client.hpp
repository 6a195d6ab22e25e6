#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/local_socket.hpp"
#include "kindred/internal/tail_request.hpp"

// The other side of the log's door: how kindred-tail, kindred-view and kindred-top find pools and talk to
// them.
namespace kindred::internal {

/// A name under which a pool may listen. Anyone may take such a name, so it proves nothing.
struct DoorName {
  std::string name;
  std::uint32_t uid = 0;
  std::uint32_t pid = 0;  ///< in the pool's own pid namespace
  std::string serial;     ///< counts the pools of that process
};
/// Returns the names of this user's pools, and for root those of all users. Connects to none of them.
[[nodiscard]] std::vector<DoorName> door_names();

/// A pool that listens, and the connection to it.
struct DoorPool {
  std::uint32_t uid = 0;
  std::uint32_t pid = 0;  ///< as the kernel says, in the PID namespace of this process
  std::string serial;
  Descriptor socket;
};
/// Connects. Nothing where no log listens by `until`, where the listener is not the user that the name
/// says, or where the process has died and a fork of it holds the socket.
[[nodiscard]] std::optional<DoorPool> connect_to_pool(const DoorName& name,
                                                      std::chrono::steady_clock::time_point until);
/// Connects to each pool that this user may follow, within a second for all.
[[nodiscard]] std::vector<DoorPool> find_pools();
/// Sends a request. Where the pool has closed the connection, its answer says why.
void ask_pool(const DoorPool& pool, const TailRequest& request);

/// What a pool sends, line by line.
class PoolAnswers {
 public:
  explicit PoolAnswers(const Descriptor& socket) : socket_{socket} {}
  /// A view into this object, until the next call. Nothing: the pool has closed the connection, or the
  /// deadline has passed. `idle` is called before there is a wait.
  [[nodiscard]] std::optional<std::string_view> next(Deadline deadline,
                                                     const std::function<void()>& idle = {}) &;

 private:
  const Descriptor& socket_;
  std::string text_;
  std::size_t begin_ = 0;
  std::size_t searched_ = 0;
};

}  // namespace kindred::internal
