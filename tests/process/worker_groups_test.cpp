// Control groups of sandboxed workers. The cases need cgroup v2 with its controllers memory and pids beside
// this process's group: tests/support/run_in_vm has it.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <csignal>

#include "kindred/internal/worker_groups.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;
namespace inside = kindred::internal;

namespace {

constexpr std::uint64_t memory_limit = std::uint64_t{64} << 20U;

std::string folder_of(const std::string& groups) {
  const auto place = inside::find_group(read_file("/proc/self/mountinfo"), groups);
  return place ? place->folder : std::string{};
}
std::string own_folder() { return folder_of(read_file("/proc/self/cgroup")); }

/// A group beside this process's, marked as delegated, with no process in it. It is removed at the end, with
/// all below it.
class DelegatedGroup {
 public:
  DelegatedGroup() {
    const std::string own = own_folder();
    const auto above = std::filesystem::path{own}.parent_path();
    std::ifstream file{above / "cgroup.subtree_control"};
    std::stringstream controllers;
    controllers << file.rdbuf();
    if (own.empty() || !contains(controllers.str(), "memory") || !contains(controllers.str(), "pids")) return;
    folder_ = above / ("case-" + std::to_string(::getpid()));
    std::error_code problem;
    if (!std::filesystem::create_directory(folder_, problem)) folder_.clear();
    if (!folder_.empty()) ::setxattr(folder_.c_str(), "user.delegate", "1", 1, 0);
  }
  DelegatedGroup(const DelegatedGroup&) = delete;
  DelegatedGroup& operator=(const DelegatedGroup&) = delete;
  ~DelegatedGroup() {
    if (folder_.empty()) return;
    std::ofstream{folder_ / "cgroup.kill"} << "1" << std::flush;
    for (int i = 0; i < 5000 && std::filesystem::exists(folder_); ++i) {
      remove_below(folder_);
      std::this_thread::sleep_for(1ms);
    }
  }

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  explicit operator bool() const { return !folder_.empty(); }
  /// Moves the calling process into it, or into a group below it.
  void enter(const std::string& below = {}) const {
    const auto group = folder_ / below;
    std::filesystem::create_directories(group);
    write_file((group / "cgroup.procs").string(), std::to_string(::getpid()));
  }
  [[nodiscard]] std::vector<std::filesystem::path> pools() const {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator{folder_}) {
      if (entry.path().filename().string().starts_with("kindred-pool-")) found.push_back(entry.path());
    }
    return found;
  }

 private:
  static void remove_below(const std::filesystem::path& group) {
    std::error_code problem;
    std::vector<std::filesystem::path> below;
    for (std::filesystem::directory_iterator entry{group, problem}, end; !problem && entry != end;
         entry.increment(problem)) {
      if (entry->is_directory(problem)) below.push_back(entry->path());
    }
    for (const auto& each : below) remove_below(each);
    ::rmdir(group.c_str());
  }

  std::filesystem::path folder_;
};

#define NEEDS_A_GROUP(name)  \
  const DelegatedGroup name; \
  if (!name)                 \
  KINDRED_SKIP(              \
      "no group of cgroup v2 beside ours that divides memory and pids: tests/support/run_in_vm has one")

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error{what};
}

std::string own_groups() { return read_file("/proc/self/cgroup"); }
std::string folder_of_worker(ProcessPoolExecutor& pool) { return folder_of(pool.submit(own_groups).get()); }
Sandbox limited() { return {.memory_bytes = memory_limit}; }

/// Memory that RLIMIT_AS does not see: many files in memory, of which none is mapped.
int fill_files_in_memory(std::size_t count, std::size_t bytes_each) {
  const std::vector<char> bytes(bytes_each, 'x');
  for (std::size_t i = 0; i < count; ++i) {
    const int file = ::memfd_create("fill", 0);
    if (file < 0 || ::write(file, bytes.data(), bytes.size()) < 0) return static_cast<int>(i);
  }
  return static_cast<int>(count);
}

void* wait_for_ever(void*) {
  for (;;) ::pause();
}
int start_threads(int most) {
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, 16384);
  int count = 0;
  for (pthread_t thread{};
       count < most && ::pthread_create(&thread, &attributes, wait_for_ever, nullptr) == 0;)
    ++count;
  return count;
}

int leave_a_process_and_die() {
  if (::fork() == 0) {
    for (;;) ::pause();
  }
  ::_exit(3);
}
int start_a_daemon() {
  std::array<int, 2> told{};
  if (::pipe(told.data()) != 0) return -1;
  if (::fork() == 0) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    const int self = static_cast<int>(::getpid());
    if (::write(told[1], &self, sizeof self) != sizeof self) ::_exit(1);
    for (;;) ::pause();
  }
  int pid = -1;
  return ::read(told[0], &pid, sizeof pid) == sizeof pid ? pid : -1;
}
int die() { ::_exit(3); }
int number(int value) { return value; }

// As a kernel that cannot filter system calls.
void refuse_filters() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = std::size(code), .filter = code};
  require(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
              ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
          "no filter can be set");
}

ExecutorOptions with(StartMethod method, Sandbox sandbox, int workers = 1) {
  return {.start_method = method, .max_workers = workers, .worker = {.sandbox = std::move(sandbox)}};
}
Sandbox with_processes() {
  return {.processes = true, .memory_bytes = memory_limit, .waive = {"signal_scope"}};
}

std::string text_of_loss(Future<int> future) {
  try {
    return "no error, but " + std::to_string(future.get());
  } catch (const WorkerLost& error) {
    return error.what();
  }
}

// The line of the log that says which layers of the sandbox hold.
std::string layers_of(ProcessPoolExecutor& pool) {
  pool.logger().flush();
  for (const LogRecord& record : pool.logger().kept_records()) {
    if (contains(record.message, "workers are sandboxed")) return record.message;
  }
  return "no such line";
}

template <class Holds>
bool comes_true(const Holds& holds) {
  for (int i = 0; i < 20'000 * slowness(); ++i) {
    if (holds()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

void check_forked(const std::function<void()>& body) {
  const auto outcome = run_forked(body, 60s);
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "each sandboxed worker has a control group with its limits, the program is moved down beside them, and no group outlives the pool") {
  NEEDS_A_GROUP(group);
  check_forked([&] {
    group.enter();
    {
      ProcessPoolExecutor pool{entry(), with(method, limited())};
      pool.logger().add_sink([](const LogRecord&) {});
      const auto folder = folder_of_worker(pool);
      require(group.pools().size() == 1 && folder.starts_with(group.pools()[0].string() + "/worker-"),
              folder);
      require(own_folder() == group.folder() / "kindred-program", own_folder());
      require(read_file(folder + "/memory.max") == std::to_string(memory_limit + (32U << 20U)) + "\n",
              "memory.max");
      require(!std::filesystem::exists(folder + "/memory.swap.max") ||
                  read_file(folder + "/memory.swap.max") == "0\n",
              "memory.swap.max");
      require(read_file(folder + "/memory.oom.group") == "1\n", "memory.oom.group");
      require(read_file(folder + "/pids.max") == "1024\n", "pids.max");
      require(contains(layers_of(pool), "a control group each (memory, processes and threads)"),
              layers_of(pool));
      // A second pool finds the program moved already.
      ProcessPoolExecutor other{entry(), with(method, Sandbox::compute())};
      other.logger().add_sink([](const LogRecord&) {});
      require(folder_of_worker(other).starts_with(group.folder().string() + "/kindred-pool-"), "other");
      require(group.pools().size() == 2, "two pools");
    }
    require(group.pools().empty(), "a group is left");
  });
}

TEST_CASE_EACH_START_METHOD(
    "where the program is in a group below the one that was delegated, it stays there") {
  NEEDS_A_GROUP(group);
  check_forked([&] {
    group.enter("main");
    ProcessPoolExecutor pool{entry(), with(method, limited())};
    pool.logger().add_sink([](const LogRecord&) {});
    require(folder_of_worker(pool).starts_with(group.folder().string() + "/kindred-pool-"), "groups");
    require(own_folder() == group.folder() / "main", own_folder());
  });
}

TEST_CASE_EACH_START_METHOD("memory that a sandboxed worker does not map counts, too, and its loss says so") {
  NEEDS_A_GROUP(group);
  check_forked([&] {
    group.enter();
    const TemporaryFolder folder;
    Sandbox sandbox = Sandbox::files({}, {folder.path()});
    sandbox.memory_bytes = memory_limit;
    ProcessPoolExecutor pool{entry(), with(method, sandbox)};
    pool.logger().add_sink([](const LogRecord&) {});
    require(pool.submit(fill_files_in_memory, std::size_t{10}, std::size_t{1} << 20U).get() == 10,
            "what fits");
    const auto text =
        text_of_loss(pool.submit(fill_files_in_memory, std::size_t{400}, std::size_t{1} << 20U));
    require(contains(text, "SIGKILL") && contains(text, "more memory than Sandbox::memory_bytes allows"),
            text);
    require(pool.submit(number, 7).get() == 7, "the pool goes on");
  });
}

TEST_CASE_EACH_START_METHOD("threads of a sandboxed worker are bounded, also those of root's") {
  NEEDS_A_GROUP(group);
  check_forked([&] {
    group.enter();
    ProcessPoolExecutor pool{entry(), with(method, Sandbox::compute())};
    pool.logger().add_sink([](const LogRecord&) {});
    const int threads = pool.submit(start_threads, 2000).get();
    require(threads > 900 && threads < 1024, std::to_string(threads) + " threads");
  });
}

TEST_CASE_EACH_START_METHOD("what a sandboxed worker started dies with it, and its group goes") {
  NEEDS_A_GROUP(group);
  check_forked([&] {
    group.enter();
    ProcessPoolExecutor pool{entry(), with(method, with_processes())};
    pool.logger().add_sink([](const LogRecord&) {});
    const auto text = text_of_loss(pool.submit(leave_a_process_and_die));
    require(contains(text, "exited with code 3"), text);
    const auto folder = folder_of_worker(pool);
    // The next worker's end removes what was not empty yet.
    (void)text_of_loss(pool.submit(leave_a_process_and_die));
    require(pool.submit(number, 1).get() == 1, "the pool goes on");
    require(comes_true([&] {
              std::ifstream processes{folder + "/cgroup.procs"};  // none where the group is gone
              return std::string{std::istreambuf_iterator<char>{processes}, {}}.empty();
            }),
            "the second worker's process lives");
  });
}

// A filter of system calls keeps processes in the worker's session, and all of that ends with it. Only the
// group knows of the others.
TEST_CASE_EACH_START_METHOD(
    "where system calls cannot be filtered, a daemon that a sandboxed worker left dies with the worker's group") {
  NEEDS_A_GROUP(group);
  check_forked([&] {
    group.enter();
    refuse_filters();
    Sandbox sandbox = with_processes();
    sandbox.waive.emplace_back("seccomp");
    ProcessPoolExecutor pool{entry(), with(method, sandbox)};
    pool.logger().add_sink([](const LogRecord&) {});
    require(contains(layers_of(pool), "WITHOUT seccomp"), layers_of(pool));
    const int daemon = pool.submit(start_a_daemon).get();
    require(daemon > 0 && process_exists(daemon), "the daemon runs");
    (void)text_of_loss(pool.submit(die));
    require(comes_true([&] { return !process_exists(daemon); }), "the daemon outlives its worker");
    require(pool.submit(number, 7).get() == 7, "the pool goes on");
  });
}

TEST_CASE_EACH_START_METHOD(
    "the groups of a program that was killed are removed by the next pool, with what runs in them") {
  NEEDS_A_GROUP(group);
  const TemporaryFolder folder;
  const std::string note = folder / "daemon";
  const auto outcome = run_forked([&] {
    group.enter();
    refuse_filters();  // under spawn the daemon then outlives the program
    Sandbox sandbox = with_processes();
    sandbox.waive.emplace_back("seccomp");
    ProcessPoolExecutor pool{entry(), with(method, sandbox)};
    pool.logger().add_sink([](const LogRecord&) {});
    write_file(note, std::to_string(pool.submit(start_a_daemon).get()));
    ::raise(SIGKILL);
  });
  REQUIRE(outcome.signal == SIGKILL);
  const pid_t daemon = std::stoi(read_file(note));
  REQUIRE(daemon > 0);
  if (method == StartMethod::spawn) CHECK(process_exists(daemon));
  const auto left = group.pools();
  REQUIRE(left.size() == 1);
  check_forked([&] {
    group.enter("main");
    ProcessPoolExecutor pool{entry(), with(method, limited())};
    pool.logger().add_sink([](const LogRecord&) {});
    require(!std::filesystem::exists(left[0]), "it is there still");
    require(!process_exists(daemon), "the daemon runs still");
    require(pool.submit(number, 7).get() == 7, "the next pool works");
    // A pool that lives is no leftover.
    ProcessPoolExecutor other{entry(), with(method, limited())};
    other.logger().add_sink([](const LogRecord&) {});
    require(
        other.submit(number, 8).get() == 8 && pool.submit(number, 9).get() == 9 && group.pools().size() == 2,
        "both work");
  });
}

TEST_CASE_EACH_START_METHOD(
    "where no group can be divided, the limits of processes hold, and the log says why") {
  NEEDS_A_GROUP(group);
  const pid_t stranger = ::fork();
  REQUIRE(stranger >= 0);
  if (stranger == 0) {
    for (;;) ::pause();
  }
  write_file((group.folder() / "cgroup.procs").string(), std::to_string(stranger));
  check_forked([&] {
    group.enter();
    std::string text;
    int result = 0;
    {
      ProcessPoolExecutor pool{entry(), with(method, limited())};
      pool.logger().add_sink([](const LogRecord&) {});
      text = layers_of(pool);
      result = pool.submit(number, 7).get();
    }
    require(contains(text, "no control groups (processes of other programs are in"), text);
    require(result == 7, "it works");
    require(group.pools().empty() && !std::filesystem::exists(group.folder() / "kindred-program"),
            "nothing is made");
    ::removexattr(group.folder().c_str(), "user.delegate");
    if (::getuid() != 0 && !std::filesystem::exists("/run/systemd/system")) return;  // it is its owner's
    ProcessPoolExecutor pool{entry(), with(method, limited())};
    pool.logger().add_sink([](const LogRecord&) {});
    require(contains(layers_of(pool), "was not delegated to this program"), layers_of(pool));
  });
  ::kill(stranger, SIGKILL);
  ::waitpid(stranger, nullptr, 0);
}

TEST_CASE_EACH_START_METHOD(
    "a program's own processes, and the shell that started it, are moved down with it") {
  NEEDS_A_GROUP(group);
  check_forked([&] {  // this is the shell
    group.enter();
    const auto program = run_forked([&] {
      ProcessPoolExecutor earlier{entry(), {.start_method = method, .max_workers = 1}};
      earlier.logger().add_sink([](const LogRecord&) {});
      require(earlier.submit(number, 1).get() == 1, "a pool without a sandbox");
      ProcessPoolExecutor pool{entry(), with(method, limited())};
      pool.logger().add_sink([](const LogRecord&) {});
      require(folder_of_worker(pool).starts_with(group.folder().string() + "/kindred-pool-"),
              layers_of(pool));
      require(folder_of_worker(earlier) == group.folder() / "kindred-program", "the other pool's worker");
    });
    require(program.code == 0, to_string(program));
    require(own_folder() == group.folder() / "kindred-program", own_folder());
  });
}
