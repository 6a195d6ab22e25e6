// What workers have of the program's surroundings: environment, folder and umask as they were when the
// executor was constructed; and what a start costs and says where the machine is short of something.
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
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
    std::chrono::steady_clock::time_point since;
    {
      ProcessPoolExecutor pool{entry(),
                               {.start_method = StartMethod::forkserver, .max_workers = 2, .preload = {{+[] {
                                                                                             for (;;)
                                                                                               ::pause();
                                                                                           }}}}};
      auto first = pool.submit(number, 1);
      auto second = pool.submit({.queue_timeout = 100ms}, number, 2);
      REQUIRE(second.wait_for(5s * slowness()));
      CHECK_THROWS_AS(second.get(), TaskTimeout);
      CHECK(first.cancel());
      CHECK(pool.stats().pending == 0);
      auto third = pool.submit(number, 3);
      since = std::chrono::steady_clock::now();
      if (how == How::kill) pool.kill_workers();
      if (how == How::terminate) pool.terminate_workers();
      if (how == How::shut_down) pool.shutdown({.wait = true, .cancel_pending = true});
      if (how == How::destroy) CHECK(third.cancel());
    }
    CHECK(std::chrono::steady_clock::now() - since < 4s * slowness());
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
