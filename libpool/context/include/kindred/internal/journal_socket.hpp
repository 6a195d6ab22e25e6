#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// The way to systemd-journald, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram a
/// record, or a sealed memfd where it is too large for one. Threads: one at a time.
class JournalSocket {
 public:
  /// Errors: `SystemError` where no journald listens at `path`.
  explicit JournalSocket(std::string path);
  /// Sends one record. Returns 0 or the errno. A journald that was restarted is found again. Blocks: while
  /// the journal's queue is full, at most a second.
  int send(std::string_view record) noexcept;

 private:
  int connect() noexcept;
  int send_once(std::string_view record) const noexcept;

  std::string path_;
  Descriptor socket_;
};

/// How this program is called: the last part of its executable's path.
[[nodiscard]] std::string program_name();

}  // namespace kindred::internal
