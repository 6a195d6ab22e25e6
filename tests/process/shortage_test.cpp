// Too few descriptors, processes or too little memory: an error that names the limit, nothing left behind,
// and it goes on when there is more.
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

constexpr int cannot_be_tried = 77;  // exit code of a child that may not do what the test needs

std::size_t size_of(const std::vector<char>& bytes) { return bytes.size(); }
std::vector<char> bytes_of(std::size_t size) { return std::vector<char>(size, 'b'); }
std::size_t touch(std::size_t size) {
  std::vector<char> kept(size, 't');
  return static_cast<std::size_t>(std::count(kept.begin(), kept.end(), 't'));
}
void count_a_kill_and_die(const std::string& file, const std::string& text) {
  std::ofstream{file} << text;
  ::raise(SIGKILL);
}

// What the log says, and a wait for a word in it.
class Heard {
 public:
  void operator()(const LogRecord& record) {
    const std::scoped_lock lock{mutex_};
    text_ += record.message + "\n";
    changed_.notify_all();
  }
  bool wait_for(const std::string& part) {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, 20s * slowness(), [&] { return contains(text_, part); });
  }
  std::string text() {
    const std::scoped_lock lock{mutex_};
    return text_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
};

int lowest_free_descriptor() {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  ::close(fd);
  return fd;
}
void limit_descriptors(rlim_t most) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = most;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}
// Of this process and of all that it started: the fork server forks under its own limit.
void limit_processes(rlim_t most) {
  auto pids = descendants(::getpid());
  pids.emplace_back().pid = ::getpid();
  for (const auto& info : pids) {
    rlimit limit{};
    if (::prlimit(info.pid, RLIMIT_NPROC, nullptr, &limit) != 0) throw std::runtime_error{"prlimit"};
    limit.rlim_cur = most;
    if (::prlimit(info.pid, RLIMIT_NPROC, &limit, nullptr) != 0) throw std::runtime_error{"prlimit"};
  }
}

// Two workers run; under the limit that `shorten` sets no third one starts, the two do all work, and after
// `restore` there are five.
template <class Shorten, class Restore>
void run_short(StartMethod method, const std::string& words, const Shorten& shorten, const Restore& restore) {
  const auto require = [](bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error{what};
  };
  Heard heard;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 5}};
  pool.logger().add_sink([&](const LogRecord& record) { heard(record); });
  const auto two = pool.make_barrier(2), five = pool.make_barrier(5);
  {
    auto one = pool.submit(pid_together, two), other = pool.submit(pid_together, two);
    require(one.get() != other.get(), "two workers");
  }
  shorten();
  std::vector<Future<int>> futures;
  for (int i = 0; i < 50; ++i) futures.push_back(pool.submit(number, i));
  for (int i = 0; i < 5; ++i) futures.push_back(pool.submit(pid_together, five));
  require(heard.wait_for("a worker could not be started, and is tried again: "), "no word of it in the log");
  for (int i = 0; i < 50; ++i) require(futures[static_cast<std::size_t>(i)].get() == i, "a wrong result");
  require(pool.worker_pids().size() == 2, "other than two workers");
  require(contains(heard.text(), words), "the log lacks '" + words + "': " + heard.text());
  restore();
  std::set<int> pids;
  for (std::size_t i = 50; i < 55; ++i) pids.insert(futures[i].get());
  require(pids.size() == 5, "not five workers");
  require(pool.stats().restarts == 0 && pool.stats().lost == 0, "a worker died");
}

// Where the kernel would tell of this process's memory group, v2 and v1.
std::string group_of(const std::string& line, const std::string& root) {
  std::ifstream file{"/proc/self/cgroup"};
  for (std::string one; std::getline(file, one);) {
    if (const auto at = one.find(line); at != std::string::npos) return root + one.substr(at + line.size());
  }
  return {};
}
std::string unified_group() { return group_of("0::", "/sys/fs/cgroup"); }
std::string memory_group() { return group_of(":memory:", "/sys/fs/cgroup/memory"); }

// In this process and those that it starts, /sys/fs/cgroup is an empty folder with the two groups in it. Ends
// the process where it may not.
void enter_mounts_of_our_own() {
  const auto uid = std::to_string(::getuid()), gid = std::to_string(::getgid());
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(cannot_be_tried);
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", "0 " + uid + " 1");
    write_file("/proc/self/gid_map", "0 " + gid + " 1");
  }
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) ::_exit(cannot_be_tried);
}

void fake_groups() {
  enter_mounts_of_our_own();
  if (::mount("none", "/sys/fs/cgroup", "tmpfs", 0, "size=1m") != 0) ::_exit(cannot_be_tried);
  for (const auto& group : {unified_group(), memory_group()}) {
    if (!group.empty()) std::filesystem::create_directories(group);
  }
}

/// At once: who reads it meanwhile finds no empty file.
void set_memory_in_use(const std::string& group, std::uint64_t bytes) {
  write_file(group + "/memory.current.new", std::to_string(bytes));
  std::filesystem::rename(group + "/memory.current.new", group + "/memory.current");
}

std::size_t size_of_array(const SharedArray<char>& array) { return array.size(); }
/// There is memory again once no array is mapped here.
std::size_t make_array_where_memory_is_short(const std::string& group) {
  set_memory_in_use(group, 60U << 20U);
  const std::jthread others{[&group](const std::stop_token& stop) {
    while (contains(read_file("/proc/self/maps"), "memfd:kindred-array")) {
      if (stop.stop_requested()) return;
      std::this_thread::yield();
    }
    set_memory_in_use(group, 0);
  }};
  return make_shared_array<char>(std::size_t{32} << 20U).size();
}

/// Writes to all of a mapped file that has more bytes than its file system.
void fill_mapped_file(const std::string& path, std::size_t bytes) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ::ftruncate(file, static_cast<off_t>(bytes)) != 0)
    throw std::runtime_error{"no file " + path};
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) throw std::runtime_error{"no mapping of " + path};
  for (std::size_t at = 0; at < bytes; at += 4096) static_cast<volatile char*>(memory)[at] = 'x';
}

void log_lines(int first, int count) {
  for (int i = first; i < first + count; ++i) log_info("line {} {}", i, std::string(90, '.'));
}

std::string text_of_loss(Future<void> future) {
  try {
    future.get();
  } catch (const WorkerLost& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "where the third of five workers finds no descriptor, two do the work until there are more (row 23)") {
  ResourceAudit audit;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  try {
    run_short(
        method, "ulimit -n", [] { limit_descriptors(static_cast<rlim_t>(lowest_free_descriptor()) + 1); },
        [&] { limit_descriptors(before.rlim_cur); });
  } catch (const std::exception& error) {
    limit_descriptors(before.rlim_cur);
    FAIL(error.what());
  }
}

TEST_CASE_EACH_START_METHOD(
    "where the third of five workers finds no process, two do the work until there are more (row 23)") {
  const auto outcome = run_forked([method] {
    // The limit does not hold for root.
    if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(cannot_be_tried);
    ::prctl(PR_SET_DUMPABLE, 1);
    rlimit before{};
    ::getrlimit(RLIMIT_NPROC, &before);
    run_short(method, "ulimit -u", [] { limit_processes(1); }, [&] { limit_processes(before.rlim_cur); });
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("root of this machine may not become nobody");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE_EACH_START_METHOD(
    "where the only worker cannot be replaced, what is pending fails with what was missing") {
  ResourceAudit audit;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  pool.logger().add_sink([](const LogRecord&) {});
  const auto begun = pool.make_event(), go = pool.make_event();
  auto dying = pool.submit(die_on, begun, go);
  begun.wait();
  auto pending = pool.submit(number, 1);
  limit_descriptors(3);
  go.set();
  std::string text;
  bool caused = false;
  try {
    pending.get();
  } catch (const BrokenProcessPool& error) {
    text = error.what();
    try {
      if (error.cause()) std::rethrow_exception(error.cause());
    } catch (const SystemError&) {
      caused = true;
    }
  }
  limit_descriptors(before.rlim_cur);
  CHECK_CONTAINS(text, "no worker could be started");
  CHECK_CONTAINS(text, "ulimit -n");
  CHECK(caused);
  CHECK_THROWS_AS(dying.get(), WorkerLost);
  CHECK_THROWS_CONTAINS(pool.submit(number, 1), BrokenProcessPool, "ulimit -n");
  pool.shutdown();
}

TEST_CASE_EACH_START_METHOD(
    "a kill for want of memory is told by the cgroup's own count, and by no older one") {
  int tried = 0;
  for (const bool unified : {true, false}) {
    CAPTURE(unified);
    const auto outcome = run_forked([method, unified] {
      if ((unified ? unified_group() : memory_group()).empty()) ::_exit(cannot_be_tried);
      fake_groups();
      const auto file = unified ? unified_group() + "/memory.events" : memory_group() + "/memory.oom_control";
      const auto count = [&](int kills) {
        return std::string{unified ? "oom 5\noom_kill " : "under_oom 0\noom_kill "} + std::to_string(kills) +
               "\n";
      };
      write_file(file, count(5));
      ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
      pool.logger().add_sink([](const LogRecord&) {});
      const auto before = text_of_loss(pool.submit(kill_itself));
      if (!contains(before, "SIGKILL") || !contains(before, "see dmesg") || contains(before, "cgroup"))
        throw std::runtime_error{before};
      const auto at = text_of_loss(pool.submit(count_a_kill_and_die, file, count(6)));
      if (!contains(at, "SIGKILL") ||
          !contains(at, "The kernel killed a process of this cgroup for want of memory just now"))
        throw std::runtime_error{at};
      const auto after = text_of_loss(pool.submit(kill_itself));
      if (!contains(after, "see dmesg") || contains(after, "cgroup")) throw std::runtime_error{after};
    });
    if (outcome.code == cannot_be_tried) continue;  // a machine has cgroups of one version, as a rule
    ++tried;
    CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  }
  if (tried == 0) KINDRED_SKIP("no mount namespace to be had, or no cgroups");
}

TEST_CASE_EACH_START_METHOD("a worker that the kernel kills for want of memory is told to be that") {
  const auto mine = unified_group();
  const auto parent = std::filesystem::path{mine}.parent_path().string();
  const auto group = parent + "/kindred-test-" + std::to_string(::getpid());
  std::error_code problem;
  if (mine.empty() || mine == "/sys/fs/cgroup/" ||
      !std::filesystem::exists(parent + "/cgroup.subtree_control") ||
      !contains(read_file(parent + "/cgroup.subtree_control"), "memory") ||
      !std::filesystem::create_directory(group, problem)) {
    KINDRED_SKIP("no cgroup v2 beside ours whose memory could be limited");
  }
  const auto outcome = run_forked([method, group] {
    write_file(group + "/memory.max", std::to_string(256U << 20U));
    write_file(group + "/memory.swap.max", "0");
    write_file(group + "/cgroup.procs", std::to_string(::getpid()));
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    pool.logger().add_sink([](const LogRecord&) {});
    try {
      (void)pool.submit(touch, std::size_t{1} << 30U).get();
    } catch (const WorkerLost& error) {
      if (contains(error.what(), "for want of memory just now")) return;
      throw std::runtime_error{error.what()};
    }
    throw std::runtime_error{"no error"};
  });
  std::filesystem::remove(group, problem);
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE_EACH_START_METHOD(
    "where memory for an argument or a result is short, that task gets an error with sizes, and nobody a SIGBUS (row 24)") {
  const auto outcome = run_forked([method] {
    if (unified_group().empty()) ::_exit(cannot_be_tried);
    fake_groups();
    write_file(unified_group() + "/memory.max", std::to_string(24U << 20U));
    write_file(unified_group() + "/memory.current", "0");
    const auto require = [](bool holds, const std::string& what) {
      if (!holds) throw std::runtime_error{what};
    };
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    pool.logger().add_sink([](const LogRecord&) {});
    require(pool.submit(size_of, std::vector<char>(1U << 20U)).get() == 1U << 20U, "what fits");
    std::string text = "no error";
    try {
      (void)pool.submit(size_of, std::vector<char>(64U << 20U));
    } catch (const SystemError& error) {
      text = error.what();
    }
    require(contains(text, "bytes of shared memory") && contains(text, "to be had") &&
                contains(text, "raise the cgroup's memory limit"),
            text);
    text = "no error";
    try {
      (void)pool.submit(bytes_of, std::size_t{64} << 20U).get();
    } catch (const TaskError& error) {
      text = error.what();
      require(error.phase() == TaskPhase::writing_result, text);
    }
    require(contains(text, "bytes of shared memory") && contains(text, "raise the cgroup's memory limit"),
            text);
    require(pool.submit(number, 7).get() == 7 && pool.stats().lost == 0 && pool.stats().restarts == 0,
            "the pool goes on");
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("no mount namespace to be had, or no cgroup v2");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE_EACH_START_METHOD(
    "where memory for an array is short, a worker lets go of those that it keeps, which are in no task's hands") {
  const auto outcome = run_forked([method] {
    if (unified_group().empty()) ::_exit(cannot_be_tried);
    fake_groups();
    write_file(unified_group() + "/memory.max", std::to_string(64U << 20U));
    set_memory_in_use(unified_group(), 0);
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    pool.submit(number, 1).get();  // a worker that was forked has no array of the parent's
    const auto array = pool.make_array<char>(1000);
    if (pool.submit(size_of_array, array).get() != 1000) throw std::runtime_error{"no array came"};
    if (pool.submit(make_array_where_memory_is_short, unified_group()).get() != 32U << 20U)
      throw std::runtime_error{"no array was made"};
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("no mount namespace to be had, or no cgroup v2");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE("where memory for an array is short, it is had when others give some back within a second") {
  const auto outcome = run_forked([] {
    if (unified_group().empty()) ::_exit(cannot_be_tried);
    fake_groups();
    const auto in_use = [](std::uint64_t bytes) { set_memory_in_use(unified_group(), bytes); };
    write_file(unified_group() + "/memory.max", std::to_string(64U << 20U));
    ProcessPoolExecutor pool{entry(), {.max_workers = 1}};
    pool.submit(number, 1).get();
    in_use(60U << 20U);
    const std::string caller = "/proc/self/task/" + std::to_string(::gettid()) + "/stat";
    const std::jthread others{[&] {
      while (!contains(read_file(caller), ") S ")) std::this_thread::yield();
      in_use(0);
    }};
    if (pool.make_array<char>(std::size_t{32} << 20U).size() != 32U << 20U)
      throw std::runtime_error{"no array"};
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("no mount namespace to be had, or no cgroup v2");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE_EACH_START_METHOD(
    "a full /dev/shm is a SIGBUS of the task that fills it, told as what it is, and of nobody else") {
  const auto outcome = run_forked([method] {
    enter_mounts_of_our_own();
    if (::mount("none", "/dev/shm", "tmpfs", 0, "size=1m") != 0) ::_exit(cannot_be_tried);
    const auto require = [](bool holds, const std::string& what) {
      if (!holds) throw std::runtime_error{what};
    };
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    pool.logger().add_sink([](const LogRecord&) {});
    const std::string text =
        text_of_loss(pool.submit(fill_mapped_file, "/dev/shm/too_large", std::size_t{8} << 20U));
    require(contains(text, "was killed by SIGBUS") && contains(text, "fill_mapped_file") &&
                contains(text, "the file system or huge pages ran out"),
            text);
    // It is full still. The pool's own memory lies elsewhere: a new worker, large values and arrays.
    require(pool.submit(size_of, std::vector<char>(4U << 20U)).get() == 4U << 20U, "a large argument");
    require(pool.submit(bytes_of, std::size_t{4} << 20U).get().size() == 4U << 20U, "a large result");
    require(pool.make_array<char>(std::size_t{4} << 20U).size() == 4U << 20U, "an array");
    require(pool.stats().lost == 1, "one task is lost");
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("no mount namespace to be had");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}

TEST_CASE_EACH_START_METHOD(
    "where /dev/shm is full the log goes on: its lanes lie elsewhere, and a file there counts what it lost") {
  constexpr int lines = 20'000;  // some 3 MB
  const auto outcome = run_forked([method] {
    enter_mounts_of_our_own();
    if (::mount("none", "/dev/shm", "tmpfs", 0, "size=1m") != 0) ::_exit(cannot_be_tried);
    const auto require = [](bool holds, const std::string& what) {
      if (!holds) throw std::runtime_error{what};
    };
    // Full to its last page, but for what the log file has: so it is while the pool is made.
    write_file("/dev/shm/app.log", "");
    write_file("/dev/shm/filler", std::string(std::size_t{1} << 19U, 'f'));
    std::ofstream rest{"/dev/shm/rest"};
    while (rest.write("0123456789abcdef", 16).flush()) {}
    std::atomic<int> delivered = 0;
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    pool.logger().add_sink(sinks::file("/dev/shm/app.log"));
    pool.logger().add_sink([&](const LogRecord& record) { delivered += record.origin == Origin::log; });
    auto one = pool.submit(log_lines, 0, lines / 2);
    auto other = pool.submit(log_lines, lines / 2, lines / 2);
    one.get();
    other.get();
    require(pool.logger().flush(), "flush");
    require(delivered == lines, "the other sink has " + std::to_string(delivered.load()) + " lines");
    require(pool.stats().log.dropped == 0 && pool.stats().lost == 0, "something was dropped");
    // With room again the file goes on by itself, and says in its place what is missing.
    std::filesystem::remove("/dev/shm/filler");
    int logged = lines;
    do {
      pool.submit(log_lines, logged++, 1).get();
      require(pool.logger().flush(), "flush, with room");
    } while (!contains(read_file("/dev/shm/app.log"), "line " + std::to_string(logged - 1) + " "));
    int found = 0;
    std::uint64_t missing = 0;
    auto file = read_log("/dev/shm/app.log");
    for (const auto& record : file) {
      if (record.origin == Origin::log) {
        ++found;
      } else if (contains(record.message, "records are missing here")) {
        missing += std::stoull(record.message);
      }
    }
    require(file.bad_lines() == 0, "lines that are not whole");
    require(missing > 0 && found + static_cast<int>(missing) == logged,
            std::to_string(found) + " lines are in the file, " + std::to_string(missing) +
                " are missing by its word");
  });
  if (outcome.code == cannot_be_tried) KINDRED_SKIP("no mount namespace to be had");
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
}
