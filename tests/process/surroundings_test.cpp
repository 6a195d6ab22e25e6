// What workers have of the program's surroundings: environment, folder and umask as they were when the
// executor was constructed; and what a start costs and says where the machine is short of something.
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "support/test.hpp"

extern char** environ;

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

struct Surroundings {
  std::string variable, folder;
  int umask = 0, variables = 0, pid = 0;
};
Surroundings look() {
  Surroundings found;
  const char* const value = std::getenv("KINDRED_TEST_VARIABLE");
  found.variable = value == nullptr ? "none" : value;
  found.folder = std::filesystem::current_path().string();
  found.umask = static_cast<int>(::umask(0));
  ::umask(static_cast<mode_t>(found.umask));
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) ++found.variables;
  found.pid = static_cast<int>(::getpid());
  return found;
}
int die(int code) { ::_exit(code); }
int number(int value) { return value; }

// A library of the program whose handler hangs in the fork server when it is about to fork, while the file is
// there.
constexpr const char* hang_variable = "KINDRED_TEST_HANGS_BEFORE_FORK";
void hang_before_fork() {
  std::array<char, 16> name{};
  ::prctl(PR_GET_NAME, name.data());
  const char* const path = std::getenv(hang_variable);
  while (path != nullptr && std::string_view{name.data()} == "kindred-server" && ::access(path, F_OK) == 0)
    ::usleep(1000);
}
[[maybe_unused]] const int registered = ::pthread_atfork(hang_before_fork, nullptr, nullptr);

// Returns the pid of the fork server, or of the template, of the only pool; 0: there is none.
pid_t server_pid() {
  for (const auto& process : descendants(::getpid())) {
    if (process.parent == ::getpid() && process.name == "kindred-server") return process.pid;
  }
  return 0;
}
// Kills or stops it.
void signal_server(int signal) {
  if (const pid_t server = server_pid(); server != 0) ::kill(server, signal);
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "environment, folder and umask of a worker are those of the executor's construction, also of a later one") {
  ResourceAudit audit;
  TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  ::setenv("KINDRED_TEST_VARIABLE", "construction", 1);
  const mode_t mask = ::umask(027);
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    ::setenv("KINDRED_TEST_VARIABLE", "changed", 1);
    ::umask(077);
    std::filesystem::current_path(folder.path());
    const Surroundings first = pool.submit(look).get();
    CHECK_THROWS_AS(pool.submit(die, 3).get(), WorkerLost);
    const Surroundings second = pool.submit(look).get();
    CHECK(first.pid != second.pid);
    for (const auto& found : {first, second}) {
      CHECK(found.variable == "construction");
      CHECK(found.folder == before.string());
      CHECK(found.umask == 027);
    }
    CHECK(::umask(077) == 077);
  }
  std::filesystem::current_path(before);
  ::umask(mask);
  ::unsetenv("KINDRED_TEST_VARIABLE");
}

TEST_CASE_EACH_START_METHOD("a program may change its environment while workers are started") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 2, .restart_limit = {1'000'000, 1s}}};
  pool.logger().set_level(Level::off);
  std::atomic<bool> stop{false};
  std::thread changing{[&] {
    // Each of these moves the table that `environ` names to other memory.
    for (long round = 0; !stop; ++round) {
      const std::string name = "KINDRED_TEST_NAME_" + std::to_string(round % 3000);
      if (round % 3 == 2)
        ::unsetenv(name.c_str());
      else
        ::setenv(name.c_str(), std::to_string(round).c_str(), 1);
    }
  }};
  for (int i = 0; i < 100 / slowness(); ++i) CHECK_THROWS_AS(pool.submit(die, 3).get(), WorkerLost);
  stop = true;
  changing.join();
  for (int i = 0; i < 3000; ++i) ::unsetenv(("KINDRED_TEST_NAME_" + std::to_string(i)).c_str());
}

TEST_CASE_EACH_START_METHOD("clear_env leaves a worker the variables that are named, and no others") {
  ResourceAudit audit;
  ::setenv("KINDRED_TEST_VARIABLE", "secret", 1);
  ProcessPoolExecutor pool{
      entry(),
      {.start_method = method, .max_workers = 1, .worker = {.env = {{"NAMED", "here"}}, .clear_env = true}}};
  const Surroundings found = pool.submit(look).get();
  CHECK(found.variable == "none");
  CHECK(found.variables == 1);
  ::unsetenv("KINDRED_TEST_VARIABLE");
}

TEST_CASE_EACH_START_METHOD("a start costs by the descriptors that are open, not by the limit on them") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer makes calls of its own");
  // A kernel that knows no close_range, as some before 5.11, a limit as in containers; and who asks for a
  // number that is not open is killed.
  const auto outcome = run_forked([&] {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 500, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{.len = std::size(code), .filter = code};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) ::_exit(77);
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    if (pool.submit(number, 5).get() != 5) ::_exit(3);
  });
  INFO(to_string(outcome));
  if (outcome.code == 77) KINDRED_SKIP("no filter of system calls can be set here");
  CHECK(outcome.code == 0);
}

TEST_CASE("while a preload hangs, tasks can be cancelled and time out, and the pool can be ended") {
  enum class How { kill, terminate, shut_down, destroy };
  for (const How how : {How::kill, How::terminate, How::shut_down, How::destroy}) {
    CAPTURE(static_cast<int>(how));
    ResourceAudit audit;
    {
      // No end may wait for the grace, which is over after the case's own deadline.
      ProcessPoolExecutor pool{entry(),
                               {.start_method = StartMethod::forkserver,
                                .max_workers = 2,
                                .preload = {{+[] {
                                  for (;;) ::pause();
                                }}},
                                .shutdown_grace = 1h}};
      auto first = pool.submit(number, 1);
      auto second = pool.submit({.queue_timeout = 100ms}, number, 2);
      REQUIRE(second.wait_for(5s * slowness()));
      CHECK_THROWS_AS(second.get(), TaskTimeout);
      CHECK(first.cancel());
      CHECK(pool.stats().pending == 0);
      auto third = pool.submit(number, 3);
      if (how == How::kill) pool.kill_workers();
      if (how == How::terminate) pool.terminate_workers();
      if (how == How::shut_down) pool.shutdown({.wait = true, .cancel_pending = true});
      if (how == How::destroy) CHECK(third.cancel());
    }
  }
}

TEST_CASE("a preload that takes longer than preload_timeout breaks the pool, with that as the cause") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = StartMethod::forkserver,
                            .max_workers = 2,
                            .preload = {{+[] {
                              for (;;) ::pause();
                            }}},
                            .preload_timeout = 200ms}};
  auto future = pool.submit(number, 1);
  REQUIRE(future.wait_for(5s * slowness()));
  CHECK_THROWS_CONTAINS(future.get(), BrokenProcessPool, "preload_timeout");
}

TEST_CASE("a preload that takes some time is waited for") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{
      entry(),
      {.start_method = StartMethod::forkserver, .max_workers = 2, .preload = {{+[] { ::usleep(300'000); }}}}};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 6; ++i) futures.push_back(pool.submit(number, i));
  for (int i = 0; i < 6; ++i) CHECK(futures[static_cast<std::size_t>(i)].get() == i);
}

TEST_CASE("while the fork server does not answer, results, limits and deaths go on") {
  for (const StartMethod method : {StartMethod::fork, StartMethod::forkserver}) {
    CAPTURE(std::string{to_string(method)});
    ResourceAudit audit;
    TemporaryFolder folder;
    const std::string path = folder.path() + "/hang";
    ::setenv(hang_variable, path.c_str(), 1);
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 3}};
    ::unsetenv(hang_variable);
    const auto meet = pool.make_barrier(2);
    const auto wait_at = [](Barrier barrier) { barrier.arrive_and_wait(); };
    auto one = pool.submit(wait_at, meet), other = pool.submit(wait_at, meet);
    one.get();
    other.get();
    std::ofstream{path} << "hangs";
    auto go = pool.make_event();
    const auto wait_for = [](Event event) { event.wait(); };
    std::vector<Future<void>> three;
    for (int i = 0; i < 3; ++i) three.push_back(pool.submit(wait_for, go));
    const auto asked = std::chrono::steady_clock::now() + 5s * slowness();
    while (pool.stats().workers < 3 && std::chrono::steady_clock::now() < asked) std::this_thread::yield();
    CHECK(pool.stats().workers == 3);
    const pid_t server = server_pid();
    REQUIRE(server != 0);
    go.set();
    for (auto& future : three) future.get();
    auto limited = pool.submit({.timeout = 100ms}, [] {
      for (;;) ::pause();
    });
    CHECK_THROWS_AS(limited.get(), TaskTimeout);
    auto lost = pool.submit(die, 3);
    CHECK_THROWS_AS(lost.get(), WorkerLost);
    // None of that has waited for the server: a server without an answer is killed after a while.
    CHECK(process_exists(server));
    auto later = pool.submit(number, 7);
    std::filesystem::remove(path);
    REQUIRE(later.wait_for(10s * slowness()));
    CHECK(later.get() == 7);
  }
}

TEST_CASE("a pool whose fork server does not answer can be ended at once") {
  for (const StartMethod method : {StartMethod::fork, StartMethod::forkserver}) {
    for (const bool kill : {true, false}) {
      CAPTURE(std::string{to_string(method)});
      CAPTURE(kill);
      ResourceAudit audit;
      TemporaryFolder folder;
      const std::string path = folder.path() + "/hang";
      ::setenv(hang_variable, path.c_str(), 1);
      std::ofstream{path} << "hangs";
      {
        // No end may wait for the grace, which is over after the case's own deadline.
        ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .shutdown_grace = 1h}};
        ::unsetenv(hang_variable);
        auto future = pool.submit(number, 1);
        const auto asked = std::chrono::steady_clock::now() + 5s * slowness();
        while (pool.stats().workers < 1 && std::chrono::steady_clock::now() < asked)
          std::this_thread::yield();
        if (kill) {
          pool.kill_workers();
          CHECK_THROWS_AS(future.get(), BrokenProcessPool);
        } else {
          CHECK(future.cancel());
        }
      }
    }
  }
}

TEST_CASE("a fork server that was stopped is continued when a worker is needed of it") {
  for (const StartMethod method : {StartMethod::fork, StartMethod::forkserver}) {
    CAPTURE(std::string{to_string(method)});
    ResourceAudit audit;
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .max_tasks_per_worker = 1}};
    std::atomic<int> servers_lost{0};
    pool.logger().add_sink([&](const LogRecord& record) {
      servers_lost += contains(record.message, "takes its place") ? 1 : 0;
    });
    CHECK(pool.submit(number, 1).get() == 1);
    for (int i = 0; i < 3; ++i) {
      signal_server(SIGSTOP);
      auto future = pool.submit(number, i);
      REQUIRE(future.wait_for(5s * slowness()));
      CHECK(future.get() == i);
    }
    CHECK(pool.logger().flush());
    CHECK(servers_lost == 0);
  }
}

namespace {

// Has a system call fail for this process, for ever. For `fcntl` and the like, only with that second
// argument.
void refuse_call(long number, int error_number, std::optional<std::uint32_t> second = {}) {
  std::vector<sock_filter> code{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0,
                                         static_cast<std::uint8_t>(second ? 3 : 1))};
  if (second) {
    code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])));
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, *second, 0, 1));
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error_number)));
  code.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{.len = static_cast<unsigned short>(code.size()), .filter = code.data()};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) ::_exit(77);
}

// What the construction of an executor says in a process where `spoil` was done before.
std::string what_construction_says(StartMethod method, const std::function<void()>& spoil) {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/said";
  const auto outcome = run_forked([&] {
    const int said = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    spoil();
    std::string text = "nothing";
    try {
      const ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    } catch (const SystemError& error) {
      text = error.what();
    }
    if (::write(said, text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(3);
    ::_exit(0);
  });
  if (outcome.code == 77) return "skip";
  if (outcome.code != 0) return to_string(outcome);
  std::ifstream file{path};
  return {std::istreambuf_iterator<char>{file}, {}};
}

struct Refused {
  const char* call;
  long number;
  std::optional<std::uint32_t> second;
};
const Refused refused_calls[] = {
    {"pidfd_open", SYS_pidfd_open, {}},       {"pidfd_send_signal", SYS_pidfd_send_signal, {}},
    {"waitid(P_PIDFD)", SYS_waitid, {}},      {"memfd_create", SYS_memfd_create, {}},
    {"fallocate", SYS_fallocate, {}},         {"fcntl(F_ADD_SEALS)", SYS_fcntl, 1033},
    {"fcntl(F_SETSIG)", SYS_fcntl, 10},       {"futex", SYS_futex, FUTEX_WAKE},
    {"epoll_create1", SYS_epoll_create1, {}}, {"epoll_ctl", SYS_epoll_ctl, {}},
    {"socketpair", SYS_socketpair, {}},       {"pipe2", SYS_pipe2, {}},
};

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "what the kernel refuses is an error of the construction that names the call, its errno and a mend") {
  for (const Refused& refused : refused_calls) {
    for (const int error_number : {ENOSYS, EPERM}) {
      CAPTURE(std::string{refused.call});
      CAPTURE(error_number);
      const std::string said =
          what_construction_says(method, [&] { refuse_call(refused.number, error_number, refused.second); });
      if (said == "skip") KINDRED_SKIP("no filter of system calls can be set here");
      CHECK_CONTAINS(said, std::string{refused.call} + " failed while looking whether this system has");
      CHECK_CONTAINS(said, "(errno " + std::to_string(error_number) + ")");
      CHECK_CONTAINS(said,
                     error_number == ENOSYS ? "kindred needs Linux 5.10 or later" : "is forbidden here");
    }
  }
}

TEST_CASE_EACH_START_METHOD("without /dev/null or /proc the construction of an executor says what to mount") {
  const auto hide = [](const char* folder) {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", folder, "tmpfs", 0, nullptr) != 0)
      ::_exit(77);
  };
  const std::string without_null = what_construction_says(method, [&] { hide("/dev"); });
  if (without_null == "skip") KINDRED_SKIP("nothing can be mounted here");
  CHECK_CONTAINS(without_null, "open(/dev/null) failed");
  CHECK_CONTAINS(without_null, "mount /dev");
  const std::string without_proc = what_construction_says(method, [&] { hide("/proc"); });
  if (method == StartMethod::fork) {
    CHECK(without_proc == "nothing");
  } else {
    CHECK_CONTAINS(without_proc, "access(/proc/self/exe) failed");
    CHECK_CONTAINS(without_proc, "mount /proc, or use StartMethod::fork");
  }
}
