#pragma once

namespace kindred::internal {

/// The part of the sandbox that each thread has to apply to itself. Capabilities, no_new_privs and Landlock's
/// rules belong to a thread: those that run already do not get them from the thread that closes the sandbox.
struct ThreadRestriction {
  int ruleset = -1;  ///< of Landlock; -1: none
  bool drops_capabilities = false;
};

/// A call of the system that failed.
struct FailedCall {
  const char* name = nullptr;  ///< null: none failed
  int error = 0;
  explicit operator bool() const noexcept { return name != nullptr; }
};

/// Restricts the calling thread. Async-signal-safe.
[[nodiscard]] FailedCall restrict_this_thread(const ThreadRestriction& restriction) noexcept;

/// Restricts all other threads of the process: a signal interrupts each of them, and its handler restricts
/// the thread. It is a signal that the C library reserves for itself and never blocks. Returns how many
/// threads did not answer, or what failed in one.
struct OtherThreads {
  FailedCall failed;
  unsigned unreachable = 0;
};
[[nodiscard]] OtherThreads restrict_other_threads(const ThreadRestriction& restriction);

/// Returns how many threads this process has; 0 where /proc does not tell.
[[nodiscard]] unsigned count_threads();

}  // namespace kindred::internal
