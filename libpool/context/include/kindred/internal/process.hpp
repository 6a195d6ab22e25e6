#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kindred/exit_reason.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// A process that is watched by pidfd, so that neither the reuse of its number nor the program's SIGCHLD
/// handling can mislead the pool.
class Process {
 public:
  Process() = default;
  Process(std::uint32_t pid, Descriptor pidfd, bool our_child) noexcept
      : pid_{pid}, pidfd_{std::move(pidfd)}, our_child_{our_child} {}

  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_; }
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(pidfd_); }
  [[nodiscard]] bool dead() const noexcept;  ///< has it ended? No wait.
  bool wait_dead(Deadline deadline) const noexcept;
  /// Reaps a dead child and says how it ended; for another's child, or one that another part of the program
  /// has reaped, asks the kernel's record (PIDFD_GET_INFO, Linux 6.15); nothing where the kernel cannot tell.
  std::optional<ExitReason> reap() noexcept;
  /// How a dead child ended; it is not reaped, so that its number stays its own.
  [[nodiscard]] std::optional<ExitReason> look() const noexcept;
  void signal(int number) const noexcept;  ///< the process alone; safe against reuse of its number
  /// The process itself, whatever group it is in, and all that is left of the group that it led at its start:
  /// subprocesses of tasks. Call before `reap`: the number is ours until then.
  void signal_group(int number) const noexcept;

 private:
  std::uint32_t pid_ = 0;
  Descriptor pidfd_;
  bool our_child_ = false;
};

[[nodiscard]] Descriptor open_pidfd(std::uint32_t pid);  ///< Errors: `SystemError` (ESRCH, EMFILE)
/// Watches a child just made. Where it cannot be watched it is killed and reaped at once. Errors:
/// `SystemError` (EMFILE).
[[nodiscard]] Process watch_child(std::uint32_t pid);
void kill_and_reap(std::uint32_t pid) noexcept;  ///< a child that has no pidfd
[[nodiscard]] std::optional<ExitReason> to_exit_reason(int wait_status);
[[nodiscard]] std::uint64_t resident_bytes(std::uint32_t pid) noexcept;  ///< RSS; 0 where it cannot be read
/// Processor time of all its threads, by the kernel's clock ticks; 0 where it cannot be read.
[[nodiscard]] std::uint64_t processor_nanoseconds(std::uint32_t pid) noexcept;
[[nodiscard]] unsigned thread_count() noexcept;  ///< of this process, but for those that hold no lock ever
/// Says that the calling thread never holds a lock, so that a fork of this process may copy another.
void count_harmless_thread() noexcept;
[[nodiscard]] bool is_stopped(std::uint32_t pid) noexcept;  ///< by a stop signal; a debugger's stop is none
/// Is the kernel ending it, or is it a zombie? It closes its files some time before its pidfd tells of its
/// end.
[[nodiscard]] bool is_ending(std::uint32_t pid) noexcept;
[[nodiscard]] unsigned usable_cpus();  ///< by affinity and cgroup quota, at least 1
[[nodiscard]] std::uint64_t
oom_kills() noexcept;  ///< of this cgroup so far (memory.events; v1: memory.oom_control), 0 where unknown
void complain_on_stderr(const char* text) noexcept;  ///< raw: async-signal-safe
[[noreturn]] void exit_now(int code) noexcept;       ///< _exit
[[nodiscard]] std::string executable_path();         ///< of /proc/self/exe

}  // namespace kindred::internal
