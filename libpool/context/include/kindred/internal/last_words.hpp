#pragma once

#include <atomic>
#include <cstdint>

namespace kindred::internal {

/// Counts the SIGHUPs that this process gets, from the first call on. The handler calls the one that was
/// there before; the default action, which ends the program, is not taken any more. Threads: any thread.
[[nodiscard]] const std::atomic<std::uint64_t>& watch_hangups();

/// Has `speak(signal)` called, once in the life of this process, before a signal ends it: SIGSEGV, SIGBUS,
/// SIGFPE, SIGILL, SIGSYS, SIGABRT, and where their default action is in force now SIGTERM, SIGINT, SIGHUP
/// and SIGQUIT. Then the signal takes the course that it would have taken. `speak` must be async-signal-safe.
/// Not in processes that are forked later. Idempotent; the first `speak` counts.
void call_before_fatal_signals(void (*speak)(int signal) noexcept) noexcept;

/// The signal's name, "SIGSEGV"; a string that lives for ever. Async-signal-safe.
[[nodiscard]] const char* fatal_signal_name(int signal) noexcept;

}  // namespace kindred::internal
