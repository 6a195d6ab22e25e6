#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// Where a process is in the tree of control groups (cgroup v2), as folders.
struct GroupPlace {
  std::string folder;  ///< of its own group
  std::string top;     ///< the highest group that is mounted here
};
/// Reads the texts of /proc/self/mountinfo and /proc/self/cgroup. Returns nothing where no cgroup v2 is
/// mounted, or the process's group lies outside of what is mounted.
[[nodiscard]] std::optional<GroupPlace> find_group(std::string_view mounts, std::string_view groups);

/// What tells whether a group was delegated to this program.
struct GroupFacts {
  bool is_marked = false;         ///< systemd marks what it delegates: user.delegate or trusted.delegate
  bool is_container_top = false;  ///< the top of a cgroup namespace, but not of the machine
  bool is_ours = false;           ///< its owner is this user, and not root
  bool has_systemd = false;       ///< systemd runs this machine: what it has not marked is its own
};
[[nodiscard]] constexpr bool is_delegated(const GroupFacts& group) noexcept {
  return group.is_marked || group.is_container_top || (group.is_ours && !group.has_systemd);
}

/// What memory.events of a group counts.
struct MemoryEvents {
  std::uint64_t over_limit = 0;  ///< allocations that failed because of the group's own limit
  std::uint64_t kills = 0;       ///< processes of the group that the kernel killed for want of memory
};
[[nodiscard]] MemoryEvents read_memory_events(std::string_view text);

/// The control groups of one executor's sandboxed workers: a group for the pool, and in it one for each
/// worker, whose limits hold for all of the worker's memory (memfds and page tables included), processes and
/// threads. They lie in a group that was delegated to the program. Where the program itself is in that group,
/// it is moved into a group `kindred-program` below, with what it has started and what has started it,
/// because a group with processes cannot divide its resources. The supervisor's thread, but for `make`.
class WorkerGroups {
 public:
  /// Why there are none is a part of a sentence, for the log.
  struct Choice {
    std::unique_ptr<WorkerGroups> groups;
    std::string why_not;
  };
  /// Looks for a delegated group, removes what programs that were killed have left there, makes the pool's
  /// group, and tries one worker's with a process of its own. `memory_bytes`: of each worker; 0: no limit.
  [[nodiscard]] static Choice make(std::uint64_t memory_bytes);

  WorkerGroups(const WorkerGroups&) = delete;
  WorkerGroups& operator=(const WorkerGroups&) = delete;
  ~WorkerGroups();  ///< kills what still runs in the groups, waits 1 s at most for its end, removes them

  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  /// Makes the group of the worker with that number. Errors: `SystemError`.
  void add(std::uint32_t worker);
  /// The worker has died: kills all that is left in its group, removes the group, and returns what had
  /// happened in it. A group that is not empty yet is removed by a later call.
  MemoryEvents end(std::uint32_t worker) noexcept;

 private:
  WorkerGroups(std::string folder, Descriptor lock, std::uint64_t memory_bytes)
      : folder_{std::move(folder)}, lock_{std::move(lock)}, memory_bytes_{memory_bytes} {}

  std::string folder_;
  Descriptor lock_;  ///< the folder, with an flock that ends with the program: the program that gets it may
                     ///< clear the folder
  std::uint64_t memory_bytes_;
  std::vector<std::string> ended_;  ///< groups that were not empty yet
};

/// Moves this process into the group of the worker with that number. `folder`: of `WorkerGroups`. Errors:
/// `SystemError`.
void join_worker_group(const std::string& folder, std::uint32_t worker);

}  // namespace kindred::internal
