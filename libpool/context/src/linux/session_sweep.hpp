#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "kindred/internal/process.hpp"

namespace kindred::internal {

/// Ends what dead workers' tasks had started and put into groups of their own. A worker leads a session, and
/// what it starts stays in it, unless it makes a session of its own. The members are found in /proc, which
/// takes a system call for each process of the machine: so deaths are collected for 20 ms, and no thread
/// waits for it. Until then the dead are not reaped: their numbers name their sessions.
///
/// One thread at a time.
class SessionSweep {
 public:
  SessionSweep() = default;
  SessionSweep(const SessionSweep&) = delete;
  SessionSweep& operator=(const SessionSweep&) = delete;
  ~SessionSweep() { run(); }

  /// `leader` is a dead child of this process.
  void add(Process leader);
  /// When `run` is to be called; nothing: there is nothing to do.
  [[nodiscard]] Deadline due() const noexcept;
  /// Kills the members of all sessions that were added, and reaps their leaders.
  void run() noexcept;

 private:
  std::vector<Process> leaders_;
  std::chrono::steady_clock::time_point due_{};
};

/// Kills all processes of these sessions but the leaders. The numbers must not be free: each leader lives, or
/// is a zombie.
void end_sessions(std::span<const Process> leaders) noexcept;

/// The number of a process's parent, by /proc; 0: the process is gone, or its parent is in another namespace.
[[nodiscard]] int parent_of(int pid) noexcept;

/// Makes this process the parent of all below it whose own parent ends.
void adopt_orphans() noexcept;
/// Reaps dead children but those in `kept`, which are reaped otherwise.
void reap_orphans(std::span<const Process> kept) noexcept;
/// Kills all processes below this one, and reaps those whose parent it is or becomes. Returns when none is
/// left, however long the machine takes for that: whoever cannot wait ends this process.
void end_children() noexcept;
/// A descriptor that is readable when a child has died; the signal stays blocked in this thread. None where
/// it cannot be made.
[[nodiscard]] Descriptor hear_of_children() noexcept;
void hush(const Descriptor& children) noexcept;  ///< until the next one dies

}  // namespace kindred::internal
