#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/modules.hpp"

namespace kindred::internal {

/// What a crash is by its circumstances, where more is known than its signal.
enum class CrashCause : std::uint32_t { unknown, stack_overflow, read_only_array };

/// What a dying worker writes into the crash page of its segment, from its signal handler.
struct CrashPage {
  static constexpr std::uint32_t complete = 0x6372617a;
  static constexpr std::uint32_t expected = 0x65787063;
  static constexpr std::size_t frames_limit = 64;
  std::atomic<std::uint32_t> state;  ///< written last: `complete` or `expected` where there is a report
  std::uint32_t signal;
  std::uint64_t address;  ///< of the fault
  std::uint64_t task_id;
  std::uint32_t thread;
  std::uint32_t frame_count;
  std::int64_t system_call;            ///< for SIGSYS: its number; -1: none
  std::uint32_t cause;                 ///< a `CrashCause`
  std::uint64_t frames[frames_limit];  ///< code references; the top byte pair is 0 where the place is in no
                                       ///< known module
};

/// Has glibc load what a stack is walked with: in the process that workers are forked of, so that each of
/// them need not.
void load_unwinder() noexcept;

/// Installs handlers for SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and SIGSYS that write a report, and then
/// let the signal take its usual effect. They run on a stack of their own, so a stack overflow is reported
/// too. `attempt` (an `AttemptId`) is read at the crash. `modules`: the parent's list. Worker, once.
void install_crash_handlers(std::span<std::byte> page, const std::atomic<std::uint64_t>& attempt,
                            const std::vector<Module>& modules);

/// From now on, a fork(3) in this process is reported as a refused `clone` before it is tried: newer C
/// libraries block all signals around that call, so no handler runs when the sandbox refuses it. Worker,
/// once, in a sandbox that allows no processes.
void report_forks_beforehand() noexcept;

/// Tells of modules that are loaded here now, anew where a library came: places in them get references.
/// Worker, one thread.
void note_modules(const std::vector<Module>& modules);
/// What the place is in the parent; without a module where it is in none that the parent knows.
/// Async-signal-safe.
[[nodiscard]] CodeReference reference_in_parent(std::uintptr_t address) noexcept;

/// A report for people; empty where there is none. The page is the worker's word: every value is read once
/// and checked.
struct CrashReport {
  std::string summary;      ///< "SIGSEGV at address 0x10"
  std::string explanation;  ///< a sentence about what it is and how to mend it; may be empty
  std::string frames;       ///< a line a frame, innermost first
  int system_call = -1;     ///< for SIGSYS: which call the sandbox refused; -1: not known
};
[[nodiscard]] CrashReport read_crash_report(std::span<const std::byte> page, const CodeBook& code);

}  // namespace kindred::internal
