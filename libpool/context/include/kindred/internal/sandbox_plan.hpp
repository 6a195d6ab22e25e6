#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/sandbox.hpp"

namespace kindred::internal {

/// A seccomp program: one instruction of classic BPF in each word.
using FilterProgram = std::vector<std::uint64_t>;

/// A path and what Landlock grants below it.
struct SandboxPath {
  std::string path;
  std::uint64_t rights = 0;
  bool must_exist = true;
};

/// All that a worker does to itself to close its sandbox. The parent decides it, and tries it out; the worker
/// only obeys, without allocating memory. A member that is empty or 0 is a layer that is left out.
struct SandboxPlan {
  std::vector<SandboxPath> paths;
  std::uint64_t handled_files = 0;    ///< Landlock: rights on files that are refused unless granted
  std::uint64_t handled_network = 0;  ///< Landlock: likewise for TCP
  std::uint64_t scopes = 0;           ///< Landlock: abstract sockets, signals
  FilterProgram refusals;             ///< seccomp: what is refused by the arguments of a call
  FilterProgram calls;                ///< seccomp: which calls there are
  std::uint64_t memory_bytes = 0;
  bool limits_file_size = false;  ///< to `memory_bytes`: no file can be written, so it bounds memfds
  bool landlock = false;
  bool drops_capabilities = true;
  bool own_namespaces = false;  ///< user, network and System V namespaces, where the worker has one thread
  bool after_initializer = false;
  bool refuses_forks = false;  ///< `calls` has none that makes a process
  std::string groups;          ///< the folder of `WorkerGroups`, in which each worker has a control group
  std::string why_no_groups;   ///< where it is empty: for the log, in the parent only
};

/// What a plan is made from: which layers the kernel and this build have.
struct SandboxPlatform {
  int landlock_abi = 0;      ///< 0: none
  int landlock_error = 0;    ///< errno that says why
  bool has_seccomp = false;  ///< the kernel has filters, and this build has libseccomp
  int seccomp_error = 0;     ///< errno of the kernel; 0: this build has no libseccomp
  bool has_namespaces = false;
};
[[nodiscard]] SandboxPlatform sandbox_platform(bool ask_for_namespaces);

/// Decides what is done for `sandbox` on that platform. Errors: `SystemError` or `UsageError` for a layer
/// that is missing and not waived.
[[nodiscard]] SandboxPlan make_sandbox_plan(const Sandbox& sandbox, const SandboxPlatform& platform);
/// Closes the plan's sandbox around a process of its own, which then ends. Errors: what that process met.
void try_sandbox_plan(const SandboxPlan& plan);
/// Validates, decides and tries. Errors: `UsageError`, `SystemError`.
[[nodiscard]] SandboxPlan plan_sandbox(const Sandbox& sandbox);

/// Closes the sandbox around this process, all of its threads. It cannot be opened again. Errors:
/// `SystemError`, `UsageError` where a thread cannot be reached.
void enter_sandbox(const SandboxPlan& plan);

/// Returns one line for the log: which layers hold, and which do not.
[[nodiscard]] std::string describe(const SandboxPlan& plan);
/// Returns a sentence about the system call that ended a worker by SIGSYS; a negative number: not known. The
/// number is the worker's word.
[[nodiscard]] std::string sandbox_violation(int system_call);

void write_sandbox_plan(Encoder& out, const SandboxPlan& plan);
[[nodiscard]] SandboxPlan read_sandbox_plan(Decoder& in);

/// The filters for a sandbox, made by libseccomp. `own_signals_only`: signals reach this process alone, else
/// Landlock bounds them. `landlock_abi` tells which holes of older versions are to be closed here.
struct SandboxFilters {
  FilterProgram refusals;
  FilterProgram calls;
};
[[nodiscard]] SandboxFilters make_sandbox_filters(const Sandbox& sandbox, bool own_signals_only,
                                                  int landlock_abi);
/// Does this build have libseccomp?
[[nodiscard]] bool has_libseccomp() noexcept;
/// Returns the name of a system call of this machine; its number where it has none.
[[nodiscard]] std::string system_call_name(int number);
/// In a filter program, this stands for the number of the process that installs it.
inline constexpr std::uint32_t sandbox_own_pid = 0x6b696e64;

/// Rights of Landlock, by their numbers in the kernel's interface.
namespace landlock {
inline constexpr std::uint64_t execute = 1U << 0U, write_file = 1U << 1U, read_file = 1U << 2U,
                               read_folder = 1U << 3U, remove_folder = 1U << 4U, remove_file = 1U << 5U,
                               make_folder = 1U << 7U, make_file = 1U << 8U, refer = 1U << 13U,
                               truncate = 1U << 14U, device_ioctl = 1U << 15U;
inline constexpr std::uint64_t bind_tcp = 1U << 0U, connect_tcp = 1U << 1U;
inline constexpr std::uint64_t scope_abstract_sockets = 1U << 0U, scope_signals = 1U << 1U;
/// Rights that a file, which is no folder, can have.
inline constexpr std::uint64_t of_files = execute | write_file | read_file | truncate | device_ioctl;
[[nodiscard]] std::uint64_t all_file_rights(int abi) noexcept;
}  // namespace landlock

}  // namespace kindred::internal
