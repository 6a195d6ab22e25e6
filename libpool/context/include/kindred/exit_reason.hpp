#pragma once

#include <string>
#include <string_view>

namespace kindred {

/// How a worker ended. Never a bare "broken".
struct ExitReason {
  enum class Kind : unsigned char {
    exited,     ///< it called exit or returned: `code`
    signalled,  ///< a signal killed it: `signal`, `core_dumped`
    timed_out,  ///< kindred killed it because a task ran over its `timeout`
    lost        ///< it is gone, and the kernel could not say how (another part of the program reaped it)
  };
  Kind kind = Kind::lost;
  int code = 0;              ///< exit code, for `exited`
  int signal = 0;            ///< signal number, for `signalled` (and `timed_out`)
  bool core_dumped = false;  ///< for `signalled`

  friend bool operator==(const ExitReason&, const ExitReason&) = default;
};

/// Returns words for a message: "exited with code 3", "was killed by SIGSEGV (core dumped)", "ran over its
/// time limit", "is gone; its exit status was taken by another part of this program".
[[nodiscard]] std::string to_string(const ExitReason& reason);

/// Returns `SIGKILL` for 9, `signal 77` for a number without a name.
[[nodiscard]] std::string signal_name(int signal);

}  // namespace kindred
