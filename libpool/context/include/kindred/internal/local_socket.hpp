#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"

// Stream sockets of one machine under abstract names: no file stands for them, and the kernel forgets a name
// with the last descriptor of it. A name belongs to a network namespace, and anyone in it may take it or
// connect to it: each side asks the kernel which user the other is.
namespace kindred::internal {

/// Listens under `name` without blocking. Errors: `SystemError` (EADDRINUSE: the name is taken).
[[nodiscard]] Descriptor listen_locally(const std::string& name);
/// Takes in the next connection; none where none waits.
[[nodiscard]] Descriptor accept_locally(int listener) noexcept;
void stop_listening(int listener) noexcept;  ///< peers that wait or come are refused
/// Returns none where no process listens under that name, or where its queue stays full until `until`.
[[nodiscard]] Descriptor connect_locally(
    const std::string& name, std::chrono::steady_clock::time_point until = std::chrono::steady_clock::now() +
                                                                           std::chrono::seconds{1}) noexcept;
/// Returns the names that begin so and are listened to, sorted.
[[nodiscard]] std::vector<std::string> local_names(std::string_view beginning);

/// The process at the other end of a connection and its user, as the kernel says (SO_PEERCRED). There is no
/// answer where that user has no number in this process's user namespace.
struct Peer {
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;  ///< the effective one
};
[[nodiscard]] std::optional<Peer> peer_of(int fd) noexcept;
[[nodiscard]] std::uint32_t user_id() noexcept;  ///< of this process, the effective one

/// Sends and receives what is possible now. Return the number of bytes, 0 at the end (or for none), or the
/// negative errno; never SIGPIPE.
[[nodiscard]] std::ptrdiff_t send_some(int fd, std::string_view bytes) noexcept;
[[nodiscard]] std::ptrdiff_t receive_some(int fd, char* target, std::size_t bytes) noexcept;

/// Sleeps until the other side has said something or gone away, until there is room to send (where
/// `to_send`), or until `also` is readable.
struct SocketNews {
  bool readable = false;  ///< or gone
  bool gone = false;
  bool room = false;
  bool also = false;
};
[[nodiscard]] SocketNews wait_for_socket(int fd, bool to_send, int also, Deadline deadline) noexcept;

}  // namespace kindred::internal
