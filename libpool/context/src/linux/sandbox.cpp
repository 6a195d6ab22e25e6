#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "child.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/sandbox_plan.hpp"
#include "sandbox_threads.hpp"
#include "trial_process.hpp"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#endif

namespace kindred::internal {
namespace {

// Words of the kernel's interface (linux/landlock.h) that older headers have not.
struct RulesetAttributes {
  std::uint64_t handled_files;
  std::uint64_t handled_network;
  std::uint64_t scopes;
};
struct [[gnu::packed]] PathRule {
  std::uint64_t rights;
  std::int32_t folder;
};
constexpr unsigned long version_flag = 1;
constexpr int path_rule = 1;

constexpr int own_namespaces = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC;
// Of threads and processes: a worker in a user namespace of its own is counted for itself.
constexpr rlim_t max_threads = 1024;
// Added to `memory_bytes`, for the stacks of kindred's own threads in a worker.
constexpr rlim_t kindreds_own_memory = rlim_t{32} << 20U;
// With a limit on memory: a memfd is memory, and as large as a file may be.
constexpr rlim_t max_descriptors = 256;

struct Ids {
  unsigned user = ::geteuid();
  unsigned group = ::getegid();
};

/// The first thing that went wrong on the way into the sandbox.
struct Refusal {
  FailedCall call;
  const SandboxPath* path = nullptr;
  unsigned unreachable_threads = 0;
};

enum class Where { worker, trial };  ///< a trial begins in the namespaces that a worker goes to

FailedCall failed(const char* name) noexcept { return {.name = name, .error = errno}; }

bool write_file(const char* path, std::string_view text) noexcept {
  const Descriptor file{::open(path, O_WRONLY | O_CLOEXEC)};
  return file && ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// In its own user namespace the process keeps its number, and all others are nobody.
FailedCall keep_ids(const Ids& ids) noexcept {
  std::array<char, 64> line{};
  const auto map = [&](const char* path, unsigned id) {
    const int length = std::snprintf(line.data(), line.size(), "%u %u 1", id, id);
    return write_file(path, {line.data(), static_cast<std::size_t>(length)});
  };
  if (!write_file("/proc/self/setgroups", "deny")) return failed("write(/proc/self/setgroups)");
  if (!map("/proc/self/uid_map", ids.user)) return failed("write(/proc/self/uid_map)");
  if (!map("/proc/self/gid_map", ids.group)) return failed("write(/proc/self/gid_map)");
  return {};
}

FailedCall make_ruleset(const SandboxPlan& plan, Descriptor& ruleset, const SandboxPath*& path) noexcept {
  const RulesetAttributes attributes{
      .handled_files = plan.handled_files, .handled_network = plan.handled_network, .scopes = plan.scopes};
  ruleset =
      Descriptor{static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0))};
  if (!ruleset) return failed("landlock_create_ruleset");
  for (const SandboxPath& entry : plan.paths) {
    path = &entry;
    const Descriptor place{::open(entry.path.c_str(), O_PATH | O_CLOEXEC)};
    struct stat status{};
    if (!place || ::fstat(place.get(), &status) != 0) {
      if (!entry.must_exist) continue;
      return failed("open");
    }
    const PathRule rule{.rights = S_ISDIR(status.st_mode) ? entry.rights : entry.rights & landlock::of_files,
                        .folder = place.get()};
    if (rule.rights == 0) continue;
    if (::syscall(SYS_landlock_add_rule, ruleset.get(), path_rule, &rule, 0) != 0 && entry.must_exist)
      return failed("landlock_add_rule");
  }
  path = nullptr;
  return {};
}

std::optional<rlim_t> address_space_in_use() noexcept {
  const Descriptor file{::open("/proc/self/statm", O_RDONLY | O_CLOEXEC)};
  std::array<char, 128> text{};
  if (!file || ::read(file.get(), text.data(), text.size() - 1) <= 0) return std::nullopt;
  unsigned long pages = 0;
  if (std::sscanf(text.data(), "%lu", &pages) != 1) return std::nullopt;
  return static_cast<rlim_t>(pages) * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

// The hard limit too: nothing inside raises it again.
FailedCall limit(int resource, rlim_t most) noexcept {
  const auto which = static_cast<__rlimit_resource>(resource);
  rlimit value{};
  if (::getrlimit(which, &value) != 0) return failed("getrlimit");
  value.rlim_cur = std::min(value.rlim_cur, most);
  value.rlim_max = value.rlim_cur;
  return ::setrlimit(which, &value) == 0 ? FailedCall{} : failed("setrlimit");
}

FailedCall set_limits(const SandboxPlan& plan, bool counted_alone) noexcept {
  FailedCall result;
  const auto set = [&](int resource, rlim_t most) {
    if (!result) result = limit(resource, most);
  };
  // The worker can no longer raise a limit: the hard limit becomes the soft one, which WorkerOptions::rlimits
  // or the program has set.
  for (int resource = 0; resource < static_cast<int>(RLIMIT_NLIMITS); ++resource)
    set(resource, RLIM_INFINITY);
  set(RLIMIT_RTPRIO, 0);  // real-time scheduling takes a core from everybody
  set(RLIMIT_CORE, 0);    // the kernel would write the core dump into the working folder
  if (counted_alone) set(RLIMIT_NPROC, max_threads);
  if (plan.memory_bytes == 0 || result) return result;
  const auto in_use = address_space_in_use();
  if (!in_use) return failed("open(/proc/self/statm)");
  const rlim_t without = *in_use + kindreds_own_memory;
  set(RLIMIT_AS, plan.memory_bytes > RLIM_INFINITY - without ? RLIM_INFINITY : without + plan.memory_bytes);
  if (plan.limits_file_size) {
    set(RLIMIT_FSIZE, plan.memory_bytes);
    set(RLIMIT_NOFILE, max_descriptors);
  }
  return result;
}

FailedCall install_filter(const FilterProgram& program) noexcept {
  std::array<sock_filter, BPF_MAXINSNS> code;
  if (program.empty()) return {};
  if (program.size() > code.size()) return {.name = "seccomp", .error = E2BIG};
  static_assert(sizeof(sock_filter) == sizeof program[0]);
  std::memcpy(code.data(), program.data(), program.size() * sizeof program[0]);
  for (std::size_t i = 0; i < program.size(); ++i) {
    if (code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && code[i].k == sandbox_own_pid)
      code[i].k = static_cast<std::uint32_t>(::getpid());
  }
  const sock_fprog whole{.len = static_cast<unsigned short>(program.size()), .filter = code.data()};
  const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &whole);
  if (result == 0) return {};
  // A positive number is a thread that has a filter of its own.
  return {.name = "seccomp(SECCOMP_SET_MODE_FILTER)", .error = result > 0 ? ESRCH : errno};
}

// Order: what needs files, rights or calls comes before what takes them away. Of the trial's process it is
// called beside threads of the program that it shares its memory with: it allocates nothing there.
Refusal close_sandbox(const SandboxPlan& plan, const Ids& ids, Where where, unsigned threads) noexcept {
  Refusal refusal;
  auto& call = refusal.call;
  bool alone = false;
  if (plan.own_namespaces && threads == 1) {
    if (where == Where::worker && ::unshare(own_namespaces) != 0) {
      call = failed("unshare");
      return refusal;
    }
    if ((call = keep_ids(ids))) return refusal;
    alone = true;
  }
  Descriptor ruleset;
  if (plan.landlock && (call = make_ruleset(plan, ruleset, refusal.path))) return refusal;
  if ((call = set_limits(plan, alone))) return refusal;
  const ThreadRestriction restriction{.ruleset = ruleset ? ruleset.get() : -1,
                                      .drops_capabilities = plan.drops_capabilities};
  if (threads != 1) {
    try {
      const OtherThreads others = restrict_other_threads(restriction);
      call = others.failed;
      refusal.unreachable_threads = others.unreachable;
    } catch (...) {
      call = {.name = "malloc", .error = ENOMEM};
    }
    if (call || refusal.unreachable_threads != 0) return refusal;
  }
  if ((call = restrict_this_thread(restriction))) return refusal;
  ruleset.reset();
  if ((call = install_filter(plan.refusals))) return refusal;
  call = install_filter(plan.calls);
  return refusal;
}

[[noreturn]] void throw_refusal(const Refusal& refusal) {
  if (refusal.unreachable_threads != 0) {
    throw UsageError{
        "WorkerOptions::sandbox could not be closed around all threads of a worker: " +
        std::to_string(refusal.unreachable_threads) +
        " of them did not answer within 2 s. A thread that was not made by the C library, or that the kernel holds, "
        "would stay outside. End it in the initializer, or close the sandbox before: .after_initializer = false."};
  }
  const std::string doing = refusal.path == nullptr ? std::string{"closing WorkerOptions::sandbox"}
                                                    : "letting the sandbox have '" + refusal.path->path + "'";
  throw SystemError{
      refusal.call.name, refusal.call.error, doing,
      refusal.path == nullptr
          ? "The kernel has this layer, and refused it here: a container's or service manager's own "
            "filter may forbid the call."
          : "Name files and folders that the worker may open."};
}

// --- trials: a process that shares the program's memory, and nothing else, closes the sandbox and ends

struct Trial {
  const SandboxPlan* plan = nullptr;
  Ids ids;
  Refusal refusal;
  bool ended = false;
};

int run_trial(void* argument) {
  auto& trial = *static_cast<Trial*>(argument);
  if (trial.plan != nullptr) {
    trial.refusal = close_sandbox(*trial.plan, trial.ids, Where::trial, 1);
  } else {
    trial.refusal.call = keep_ids(trial.ids);
  }
  trial.ended = true;
  return 0;
}

}  // namespace

SandboxPlatform sandbox_platform(bool ask_for_namespaces) {
  SandboxPlatform platform;
  const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, version_flag);
  platform.landlock_abi = abi > 0 ? static_cast<int>(abi) : 0;
  platform.landlock_error = abi > 0 ? 0 : errno;
  const std::uint32_t action = SECCOMP_RET_TRAP;
  const bool kernel = ::syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
  platform.seccomp_error = kernel ? 0 : errno;
  platform.has_seccomp = kernel && has_libseccomp();
  if (ask_for_namespaces) {
    Trial trial;
    platform.has_namespaces =
        run_in_trial_process(run_trial, &trial, own_namespaces) == 0 && trial.ended && !trial.refusal.call;
  }
  return platform;
}

void try_sandbox_plan(const SandboxPlan& plan) {
  Trial trial{.plan = &plan, .ids = {}, .refusal = {}};
  if (const int error = run_in_trial_process(run_trial, &trial, plan.own_namespaces ? own_namespaces : 0);
      error != 0)
    throw SystemError{"clone", error, "trying WorkerOptions::sandbox out"};
  if (!trial.ended)
    throw SystemError{
        "seccomp", EPERM, "trying WorkerOptions::sandbox out",
        "The process that tried it was killed: a filter that this program runs under forbids it."};
  if (trial.refusal.call) throw_refusal(trial.refusal);
}

void enter_sandbox(const SandboxPlan& plan) {
  const unsigned threads = count_threads();
  if (threads == 0)
    throw SystemError{"opendir", ENOENT, "looking for the threads of a worker in /proc/self/task",
                      "Mount /proc: WorkerOptions::sandbox needs it."};
  const Refusal refusal = close_sandbox(plan, Ids{}, Where::worker, threads);
  if (refusal.call || refusal.unreachable_threads != 0) throw_refusal(refusal);
}

}  // namespace kindred::internal
