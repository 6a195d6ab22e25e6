#include "kindred/internal/worker_groups.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "kindred/error.hpp"
#include "kindred/internal/process.hpp"
#include "session_sweep.hpp"
#include "small_file.hpp"
#include "trial_process.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

constexpr std::string_view pool_prefix = "kindred-pool-";
constexpr std::string_view program_name = "kindred-program";
constexpr std::string_view worker_prefix = "worker-";
constexpr std::uint64_t max_processes_and_threads = 1024;
// Beside `memory_bytes`: the stacks of kindred's own threads in a worker, and what the kernel keeps for it.
constexpr std::uint64_t kindreds_own_memory = 32U << 20U;
constexpr std::uint32_t trial_worker = 0;  // no worker has that number
constexpr const char* doing = "making a control group for a sandboxed worker";
constexpr const char* mend =
    "The group that was delegated to this program was taken back, or changed by another program.";

// Returns 0 or errno. The kernel takes a value as one write. Allocates nothing.
int write_value(const char* path, std::string_view value) noexcept {
  const Descriptor file{::open(path, O_WRONLY | O_CLOEXEC)};
  if (!file) return errno;
  return ::write(file.get(), value.data(), value.size()) < 0 ? errno : 0;
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool has_word(std::string_view text, std::string_view word) {
  for (std::size_t at = 0; (at = text.find(word, at)) != std::string_view::npos; at += word.size()) {
    const std::size_t end = at + word.size();
    if ((at == 0 || text[at - 1] == ' ') && (end == text.size() || text[end] == ' ' || text[end] == '\n'))
      return true;
  }
  return false;
}
bool has_both_controllers(const std::string& file) {
  const std::string text = read_small_file(file);
  return has_word(text, "memory") && has_word(text, "pids");
}

std::string worker_folder(const std::string& pool, std::uint32_t worker) {
  return pool + "/" + std::string{worker_prefix} + std::to_string(worker);
}

GroupFacts facts_of(const std::string& folder, const std::string& top) {
  GroupFacts facts;
  for (const char* const name : {"user.delegate", "trusted.delegate"}) {
    char mark = 0;
    if (::getxattr(folder.c_str(), name, &mark, 1) == 1 && mark == '1') facts.is_marked = true;
  }
  // The machine's own top has no type.
  facts.is_container_top = folder == top && exists(folder + "/cgroup.type");
  struct stat status{};
  facts.is_ours = ::geteuid() != 0 && ::stat(folder.c_str(), &status) == 0 && status.st_uid == ::geteuid();
  facts.has_systemd = exists("/run/systemd/system");
  return facts;
}

bool may_divide(const std::string& folder) {
  return ::access(folder.c_str(), W_OK) == 0 && ::access((folder + "/cgroup.procs").c_str(), W_OK) == 0 &&
         ::access((folder + "/cgroup.subtree_control").c_str(), W_OK) == 0;
}

int enable_controllers(const std::string& folder) {
  const std::string file = folder + "/cgroup.subtree_control";
  return has_both_controllers(file) ? 0 : write_value(file.c_str(), "+memory +pids");
}

std::vector<pid_t> processes_of(const std::string& folder) {
  const std::string text = read_small_file(folder + "/cgroup.procs");
  std::vector<pid_t> pids;
  for (const char *at = text.data(), *const end = at + text.size(); at < end;) {
    pid_t pid = 0;
    const auto [rest, problem] = std::from_chars(at, end, pid);
    if (problem != std::errc{}) break;
    pids.push_back(pid);
    at = rest + 1;
  }
  return pids;
}

bool is_below(pid_t pid, pid_t ancestor) {
  while (pid > 0 && pid != ancestor) pid = parent_of(pid);
  return pid == ancestor;
}
// This program, what it has started, and what has started it: a shell, a container's init.
bool is_moved_with_this_program(pid_t pid) {
  return pid != 0 && (is_below(pid, ::getpid()) || is_below(::getpid(), pid));
}

int move_into(const std::string& folder, pid_t pid) {
  const int problem = write_value((folder + "/cgroup.procs").c_str(), std::to_string(pid));
  return problem == ESRCH ? 0 : problem;
}

// The kernel lets a group divide its resources only where it has no processes. Returns why that cannot be, or
// nothing.
std::string move_program_down(const std::string& folder) {
  const std::string below = folder + "/" + std::string{program_name};
  if (::mkdir(below.c_str(), 0755) != 0 && errno != EEXIST)
    return "mkdir(" + below + ") failed: " + std::strerror(errno);
  // Its processes may start others while they are moved.
  constexpr int max_rounds = 20;
  for (int round = 0; round < max_rounds; ++round) {
    const auto pids = processes_of(folder);
    if (pids.empty()) return {};
    for (const pid_t pid : pids) {
      if (is_moved_with_this_program(pid) || (pid != 0 && parent_of(pid) == 0))
        continue;  // 0: it has just ended
      ::rmdir(below.c_str());
      return "processes of other programs are in " + folder + ", too (pid " + std::to_string(pid) + ")";
    }
    for (const pid_t pid : pids) {
      if (const int problem = move_into(below, pid); problem != 0)
        return "this program cannot be moved to " + below + ": " + std::strerror(problem);
    }
  }
  return "processes are started too fast in " + folder;
}

struct Base {
  std::string folder;  // where the pools' groups are made; empty: nowhere
  std::string why_not;
};

// First the group above this program's, which has no processes where a manager has put the program into a
// group below what it delegated (systemd's DelegateSubgroup=), or an earlier pool has moved it down.
Base find_base() {
  const auto place =
      find_group(read_small_file("/proc/self/mountinfo"), read_small_file("/proc/self/cgroup"));
  if (!place) return {{}, "no cgroup v2 is mounted that has this program"};
  std::string why_not = "the group " + place->folder + " was not delegated to this program";
  const std::string above = std::filesystem::path{place->folder}.parent_path().string();
  for (const std::string& folder : {above, place->folder}) {
    if (folder.size() < place->top.size() || !is_delegated(facts_of(folder, place->top))) continue;
    if (!may_divide(folder)) {
      why_not = "this program may not write in the group " + folder;
    } else if (!has_both_controllers(folder + "/cgroup.controllers")) {
      why_not = "the group " + folder + " was delegated without the controllers memory and pids";
    } else {
      why_not = folder == place->folder && !has_both_controllers(folder + "/cgroup.subtree_control")
                    ? move_program_down(folder)
                    : std::string{};
      if (!why_not.empty()) continue;
      const int problem = enable_controllers(folder);
      if (problem == 0) return {folder, {}};
      why_not = "its resources cannot be divided in the group " + folder + ": " + std::strerror(problem);
    }
  }
  return {{}, why_not};
}

std::vector<std::string> folders_in(const std::string& folder, std::string_view prefix) {
  std::vector<std::string> found;
  std::error_code problem;
  for (std::filesystem::directory_iterator entry{folder, problem}, end; !problem && entry != end;
       entry.increment(problem)) {
    if (entry->path().filename().string().starts_with(prefix) && entry->is_directory(problem))
      found.push_back(entry->path().string());
  }
  return found;
}

void kill_all(const std::string& folder) {
  if (write_value((folder + "/cgroup.kill").c_str(), "1") != ENOENT) return;
  for (const pid_t pid : processes_of(folder)) {  // before Linux 5.14
    if (pid > 0) ::kill(pid, SIGKILL);
  }
}

bool remove_group(const std::string& folder) { return ::rmdir(folder.c_str()) == 0 || errno == ENOENT; }

// Killed processes leave their group at their end, some moments later.
void clear(const std::string& pool) {
  const auto limit = steady_clock::now() + std::chrono::seconds{1};
  for (;;) {
    for (const std::string& group : folders_in(pool, worker_prefix)) {
      kill_all(group);
      (void)remove_group(group);
    }
    if (remove_group(pool) || steady_clock::now() >= limit) return;
    const timespec moment{.tv_sec = 0, .tv_nsec = 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
}

// Open, and locked where no other pool has it.
Descriptor lock_pool(const std::string& folder) {
  Descriptor lock{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) lock.reset();
  return lock;
}

// Programs that were killed hold no lock any more.
void clear_leftovers(const std::string& base) {
  for (const std::string& pool : folders_in(base, pool_prefix)) {
    if (const Descriptor lock = lock_pool(pool)) clear(pool);
  }
}

struct PoolFolder {
  std::string folder;
  Descriptor lock;
  int problem = 0;
};

PoolFolder make_pool_folder(const std::string& base) {
  static std::uint32_t next = 0;
  PoolFolder made;
  constexpr int max_tries = 10;  // another program may take one for a leftover before it is locked
  for (int tries = 0; tries < max_tries; ++tries) {
    made.folder =
        base + "/" + std::string{pool_prefix} + std::to_string(::getpid()) + "-" + std::to_string(++next);
    if (::mkdir(made.folder.c_str(), 0755) != 0) {
      made.problem = errno;
      if (made.problem == EEXIST) continue;
      return made;
    }
    made.lock = lock_pool(made.folder);
    made.problem = made.lock ? enable_controllers(made.folder) : EAGAIN;
    if (made.problem == 0) return made;
    ::rmdir(made.folder.c_str());
  }
  return made;
}

struct Joining {
  std::string file;
  int problem = ESRCH;
};
int join(void* argument) {
  auto& joining = *static_cast<Joining*>(argument);
  joining.problem = write_value(joining.file.c_str(), "0");
  return 0;
}

}  // namespace

WorkerGroups::Choice WorkerGroups::make(std::uint64_t memory_bytes) {
  static std::mutex one_at_a_time;
  const std::scoped_lock lock{one_at_a_time};
  Base base = find_base();
  if (base.folder.empty()) return {nullptr, std::move(base.why_not)};
  clear_leftovers(base.folder);
  PoolFolder made = make_pool_folder(base.folder);
  if (made.problem != 0)
    return {nullptr, "no group can be made in " + base.folder + ": " + std::strerror(made.problem)};
  std::unique_ptr<WorkerGroups> groups{
      new WorkerGroups{std::move(made.folder), std::move(made.lock), memory_bytes}};
  try {
    groups->add(trial_worker);
  } catch (const SystemError& error) {
    return {nullptr, error.what()};
  }
  Joining joining{.file = worker_folder(groups->folder(), trial_worker) + "/cgroup.procs"};
  int problem = run_in_trial_process(join, &joining, 0);
  if (problem == 0) problem = joining.problem;
  (void)groups->end(trial_worker);
  if (problem != 0)
    return {nullptr,
            "a process cannot be moved into a group in " + base.folder + ": " + std::strerror(problem)};
  return {std::move(groups), {}};
}

WorkerGroups::~WorkerGroups() { clear(folder_); }

void WorkerGroups::add(std::uint32_t worker) {
  const std::string group = worker_folder(folder_, worker);
  if (::mkdir(group.c_str(), 0755) != 0) throw SystemError{"mkdir", errno, doing, mend};
  const auto set = [&group](const char* file, std::string_view value, bool must_exist = true) {
    const int problem = write_value((group + "/" + file).c_str(), value);
    if (problem == 0 || (!must_exist && problem == ENOENT)) return;
    ::rmdir(group.c_str());
    throw SystemError{"write(" + std::string{file} + ")", problem, doing, mend};
  };
  set("pids.max", std::to_string(max_processes_and_threads));
  if (memory_bytes_ == 0) return;
  constexpr std::uint64_t no_limit = ~std::uint64_t{0};
  const std::uint64_t most =
      memory_bytes_ > no_limit - kindreds_own_memory ? no_limit : memory_bytes_ + kindreds_own_memory;
  set("memory.max", most == no_limit ? "max" : std::to_string(most));
  set("memory.swap.max", "0", false);   // a kernel without swap has none
  set("memory.oom.group", "1", false);  // else only one of its processes might be killed, and nobody be told
}

MemoryEvents WorkerGroups::end(std::uint32_t worker) noexcept try {
  const std::string group = worker_folder(folder_, worker);
  const MemoryEvents events = read_memory_events(read_small_file(group + "/memory.events"));
  kill_all(group);
  ended_.push_back(group);
  std::erase_if(ended_, remove_group);
  return events;
} catch (const std::bad_alloc&) {
  return {};  // the group stays for now: the end of the pool removes it
}

void join_worker_group(const std::string& folder, std::uint32_t worker) {
  const std::string file = worker_folder(folder, worker) + "/cgroup.procs";
  if (const int problem = write_value(file.c_str(), "0"); problem != 0)
    throw SystemError{"write(cgroup.procs)", problem, "moving a worker into its control group " + file, mend};
}

}  // namespace kindred::internal
