// What a worker gets from its parent, and what it does not: descriptors, environment, limits, streams, locks.
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include "kindred/internal/clock.hpp"
#include "kindred/kindred.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

std::vector<std::string> open_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    std::error_code ignored;
    files.push_back(std::filesystem::read_symlink(entry.path(), ignored).string());
  }
  return files;
}
std::string variable(const std::string& name) {
  const char* const value = std::getenv(name.c_str());
  return value == nullptr ? "(none)" : value;
}
/// The signals of these whose action is not the default one here.
std::vector<int> with_other_action(const std::vector<int>& signals) {
  std::vector<int> found;
  for (const int number : signals) {
    struct sigaction action{};
    ::sigaction(number, nullptr, &action);
    if (action.sa_handler != SIG_DFL) found.push_back(number);
  }
  return found;
}
std::string folder() { return std::filesystem::current_path().string(); }
int niceness() { return ::getpriority(PRIO_PROCESS, 0); }
std::uint64_t limit_of_files() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}
int cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  return CPU_COUNT(&set);
}
long read_input() {
  char byte = 0;
  return ::read(0, &byte, 1);
}
long read_input_of_child() {
  FILE* const child = ::popen("cat; echo end", "r");
  char text[16]{};
  const bool read = std::fgets(text, sizeof text, child) != nullptr;
  ::pclose(child);
  return read && std::string{text} == "end\n" ? 0 : -1;
}
std::set<int> blocked_signals() {
  sigset_t set;
  ::sigprocmask(SIG_BLOCK, nullptr, &set);
  std::set<int> blocked;
  for (int signal = 1; signal < 32; ++signal) {
    if (::sigismember(&set, signal) == 1) blocked.insert(signal);
  }
  return blocked;
}
std::string allocate_and_print() {
  std::vector<std::string> texts(1000, std::string(100, 'x'));
  std::fflush(stdout);
  return texts.back().substr(0, 1);
}
void leave_thread_behind() {
  std::thread{[] {
    for (;;) ::pause();
  }}.detach();
}
void count(Counter counter) { ++counter; }
// With everything whose locks a thread of the parent may have held at the fork.
std::size_t use_everything(Barrier all) {
  all.arrive_and_wait();  // so that each worker has one
  std::vector<std::string> texts;
  for (std::size_t i = 1; i < 200; ++i) texts.emplace_back(i * 37 % 5000, 'z');
  std::printf("%s", "");
  std::fflush(nullptr);
  spdlog::info("by spdlog");
  if (const auto busy = spdlog::get("busy")) busy->info("by the busy logger");
  log_info("by kindred");
  return texts.size();
}
// Eight threads that hold, most of the time, one of the locks of malloc, stdio, spdlog and our logger.
class BusyThreads {
 public:
  explicit BusyThreads(ProcessPoolExecutor& pool) : file_{std::fopen("/dev/null", "w")} {
    spdlog::create<spdlog::sinks::basic_file_sink_mt>("busy", "/dev/null");
    for (int i = 0; i < 2; ++i) {
      run([] { std::vector<std::string>(50, std::string(700, 'y')); });
      run([this] {
        std::fprintf(file_, "%d %s\n", 5, "and a word");
        std::fflush(nullptr);
      });
      run([] {
        for (int k = 0; k < 100; ++k) (void)spdlog::get("busy");  // under the registry's lock
        spdlog::get("busy")->info("a line");
      });
      run([&pool] { pool.logger().info("a record {}", 1); });
    }
  }
  ~BusyThreads() {
    stop_ = true;
    for (auto& thread : threads_) thread.join();
    spdlog::drop("busy");
    std::fclose(file_);
  }

 private:
  template <class F>
  void run(F work) {
    threads_.emplace_back([this, work]() mutable {
      while (!stop_) {
        for (int i = 0; i < 100; ++i) work();
        std::this_thread::sleep_for(100us);  // or the workers would hardly be given a CPU
      }
    });
  }
  std::FILE* file_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};
int preloaded = 0;
void preload(int value) { preloaded = value; }
int what_was_preloaded() { return preloaded; }
void fail_to_preload() { throw std::runtime_error{"libmodel.so is missing"}; }

}  // namespace

TEST_CASE_EACH_START_METHOD("a worker is told what a tick of the clock is, and does not measure it") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  // The same to the last bit: what is measured twice differs.
  CHECK(pool.submit([] { return kindred::internal::ticks_per_nanosecond(); }).get() ==
        kindred::internal::ticks_per_nanosecond());
}

TEST_CASE_EACH_START_METHOD("a worker has its own descriptors only, whatever the parent has open") {
  ResourceAudit audit;
  const int secret = ::open("/etc/hostname", O_RDONLY);  // without close-on-exec, as careless code opens it
  const int high = ::fcntl(secret, F_DUPFD, 700);
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    const auto files = pool.submit(open_files).get();
    for (const auto& file : files) CHECK_MESSAGE(!contains(file, "hostname"), file);
    CHECK(files.size() < 24);
    const auto all = pool.make_barrier(2);
    auto one = pool.submit(pid_together, all), two = pool.submit(pid_together, all);
    CHECK(one.get() != two.get());
    CHECK(pool.submit(open_files).get().size() < 24);  // none of the other worker's
  }
  ::close(high);
  ::close(secret);
}

TEST_CASE_EACH_START_METHOD(
    "with a thousand descriptors open in the parent, a worker has the documented ones exactly (row 20)") {
  ResourceAudit audit;
  std::vector<int> many;
  for (int i = 0; i < 1000; ++i) many.push_back(::dup(0));
  if (many.back() < 0) {
    for (const int fd : many) ::close(fd);
    KINDRED_SKIP("the limit on open files is below a thousand");
  }
  const auto numbers = [] {
    std::vector<int> found;
    for (int fd = 0; fd < 4096; ++fd) {
      if (::fcntl(fd, F_GETFD) >= 0) found.push_back(fd);
    }
    return found;
  };
  for (const bool capture : {false, true}) {
    ProcessPoolExecutor pool{
        entry(), {.start_method = method, .max_workers = 1, .worker = {.capture_output = capture}}};
    const auto found = pool.submit(numbers).get();
    std::string listed;
    for (const int fd : found) listed += std::to_string(fd) + " ";
    CAPTURE(listed);
    CHECK(found == (capture ? std::vector{0, 1, 2, 3, 4, 5, 8, 10} : std::vector{0, 1, 2, 3}));
  }
  for (const int fd : many) ::close(fd);
  scorecard(20, "exactly the 4 documented descriptors (8 with captured output), with 1000 open in the host");
}

TEST_CASE_EACH_START_METHOD(
    "environment, folder, niceness, limits and CPUs hold in the worker, and the parent is as before") {
  ResourceAudit audit;
  ::setenv("KINDRED_TEST_KEPT", "kept", 1);
  ::setenv("KINDRED_TEST_GONE", "gone", 1);
  TemporaryFolder temporary;
  const auto here = folder();
  const auto files = limit_of_files();
  {
    ProcessPoolExecutor pool{
        entry(),
        {.start_method = method,
         .max_workers = 1,
         .worker = {.env = {{"KINDRED_TEST_NEW", "new"}, {"KINDRED_TEST_GONE", std::nullopt}},
                    .cwd = temporary.path(),
                    .nice = 5,
                    .cpu_affinity = {0},
                    .rlimits = {{RLIMIT_NOFILE, 99}}}}};
    CHECK(pool.submit(variable, "KINDRED_TEST_NEW").get() == "new");
    CHECK(pool.submit(variable, "KINDRED_TEST_KEPT").get() == "kept");
    CHECK(pool.submit(variable, "KINDRED_TEST_GONE").get() == "(none)");
    CHECK(pool.submit(folder).get() == temporary.path());
    CHECK(pool.submit(niceness).get() == niceness() + 5);
    CHECK(pool.submit(limit_of_files).get() == 99);
    CHECK(pool.submit(cpus).get() == 1);
  }
  CHECK(variable("KINDRED_TEST_NEW") == "(none)");
  CHECK(variable("KINDRED_TEST_GONE") == "gone");
  CHECK(folder() == here);
  CHECK(limit_of_files() == files);
  ::unsetenv("KINDRED_TEST_KEPT");
  ::unsetenv("KINDRED_TEST_GONE");
}

TEST_CASE_EACH_START_METHOD("a worker, and its subprocess, that reads standard input meets its end") {
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(read_input).get() == 0);
  CHECK(pool.submit(read_input_of_child).get() == 0);
}

TEST_CASE_EACH_START_METHOD("a worker blocks no signal, whatever its parent's threads block") {
  ResourceAudit audit;
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    const auto blocked = pool.submit(blocked_signals).get();
    CHECK(blocked.count(SIGTERM) == 0);
    CHECK(blocked.count(SIGSEGV) == 0);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE_EACH_START_METHOD(
    "workers start and are replaced while other threads hold locks of the C library") {
  ResourceAudit audit;
  std::atomic<bool> stop{false};
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2, .max_tasks_per_worker = 1}};
  std::thread allocates{[&] {
    while (!stop) std::vector<std::string>(50, std::string(500, 'y'));
  }};
  std::thread prints{[&] {
    while (!stop) {
      ::flockfile(stdout);
      std::this_thread::yield();
      ::funlockfile(stdout);
    }
  }};
  for (int i = 0; i < 12; ++i) CHECK(pool.submit(allocate_and_print).get() == "x");
  stop = true;
  allocates.join();
  prints.join();
}

TEST_CASE_EACH_START_METHOD(
    "pools made while eight threads are busy with malloc, stdio, spdlog and the logger start workers that do all this (row 21)") {
  KINDRED_SKIP_UNDER_TSAN("it ends forks of a program with threads");
  const Deadline deadline{long_run() ? 900s : 120s};
  ResourceAudit audit;
  constexpr int workers = 5;
  const int pools = long_run() ? 200 : 20;
  int ran = 0;
  {
    ProcessPoolExecutor host{entry(), {.start_method = method, .max_workers = 1}};
    host.logger().add_sink([](const LogRecord&) {});
    const BusyThreads busy{host};
    for (int i = 0; i < pools; ++i) {
      ProcessPoolExecutor pool{entry(),
                               {.start_method = method,
                                .max_workers = workers,
                                .start_all = true}};  // under fork, here the busy program is forked
      pool.logger().add_sink([](const LogRecord&) {});
      const auto all = pool.make_barrier(workers);
      std::vector<Future<std::size_t>> futures;
      for (int k = 0; k < workers; ++k) futures.push_back(pool.submit(use_everything, all));
      for (auto& future : futures) ran += future.get() == 199 ? 1 : 0;
    }
  }
  CHECK(ran == pools * workers);
  audit.finish();
  scorecard(21, fmt::format("{} workers of {} pools made beside 8 busy threads, 0 hangs", ran, pools));
}

TEST_CASE_EACH_START_METHOD("a thread that a task leaves behind does not keep its worker from ending") {
  ResourceAudit audit;
  // Nobody is killed before the grace is over, and this one is over after the case's own deadline.
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .shutdown_grace = 1h}};
  pool.submit(leave_thread_behind).get();
  CHECK(pool.submit(number, 1).get() == 1);
  pool.shutdown();
  CHECK(pool.stats().restarts == 0);
}

TEST_CASE_EACH_START_METHOD("many workers that are all terminated leave no process and no zombie") {
  ResourceAudit audit;
  constexpr int many = 24;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = many, .restart_limit = {.count = 1000}}};
  pool.logger().add_sink([](const LogRecord&) {});
  const auto all = pool.make_barrier(many);
  std::vector<Future<int>> futures;
  for (int i = 0; i < many; ++i) futures.push_back(pool.submit(pid_together, all));
  std::set<int> pids;
  for (auto& future : futures) pids.insert(future.get());
  CHECK(pids.size() == many);
  for (const int pid : pids) ::kill(pid, SIGTERM);
  for (const int pid : pids) {
    while (process_exists(pid)) std::this_thread::yield();
  }
  CHECK(pids.count(pool.submit({.retries = 1}, pid_of_worker).get()) == 0);
}

TEST_CASE_EACH_START_METHOD("the parent's standard streams may be closed or broken") {
  const auto outcome = run_forked([method] {
    ::close(0);
    ::close(1);
    ::close(2);
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    // Else the log, and each print, would write into whichever descriptor of the pool has these numbers.
    for (const char* const place : {"/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"}) {
      if (std::filesystem::read_symlink(place) != "/dev/null") ::_exit(5);
    }
    if (pool.submit(number, 5).get() != 5) ::_exit(3);
    const auto all = pool.make_barrier(2);
    auto one = pool.submit(pid_together, all), two = pool.submit(pid_together, all);
    if (one.get() == two.get()) ::_exit(4);
  });
  INFO(to_string(outcome));
  CHECK(outcome.code == 0);
}

TEST_CASE("two pools of different start methods run beside each other, each with its own objects") {
  ResourceAudit audit;
  ProcessPoolExecutor one{entry(), {.start_method = StartMethod::fork, .max_workers = 1}};
  ProcessPoolExecutor two{entry(), {.start_method = StartMethod::spawn, .max_workers = 1}};
  ProcessPoolExecutor three{entry(), {.start_method = StartMethod::forkserver, .max_workers = 1}};
  const auto mine = one.make_counter(), other = two.make_counter();
  one.submit(count, mine).get();
  two.submit(count, other).get();
  CHECK_THROWS_CONTAINS(two.submit(count, mine), UsageError, "fork");
  CHECK_THROWS_CONTAINS(three.submit(count, mine), UsageError, "forkserver");
  CHECK(mine.load() == 1);
  CHECK(other.load() == 1);
}

TEST_CASE(
    "what preload made is there in every worker of a fork server, and its failure is told at the first start") {
  ResourceAudit audit;
  {
    ProcessPoolExecutor pool{entry(),
                             {.start_method = StartMethod::forkserver,
                              .max_workers = 1,
                              .max_tasks_per_worker = 1,
                              .preload = {{preload, 17}}}};
    CHECK(pool.submit(what_was_preloaded).get() == 17);
    CHECK(pool.submit(what_was_preloaded).get() == 17);
    CHECK(preloaded == 0);
  }
  ProcessPoolExecutor pool{
      entry(), {.start_method = StartMethod::forkserver, .max_workers = 1, .preload = {{fail_to_preload}}}};
  pool.logger().add_sink([](const LogRecord&) {});
  CHECK_THROWS_CONTAINS(pool.submit(number, 1).get(), BrokenProcessPool, "libmodel.so is missing");
  CHECK_THROWS_AS(
      (ProcessPoolExecutor{entry(), {.start_method = StartMethod::spawn, .preload = {{fail_to_preload}}}}),
      UsageError);
}

TEST_CASE("a fork server survives SIGINT and SIGTERM, and after SIGKILL another one serves, with a warning") {
  ResourceAudit audit;
  std::mutex mutex;
  std::string log;
  ProcessPoolExecutor pool{
      entry(), {.start_method = StartMethod::forkserver, .max_workers = 1, .max_tasks_per_worker = 1}};
  pool.logger().add_sink([&](const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    if (record.level >= Level::warn) log += record.message + "\n";
  });
  const auto server = [&] {
    std::vector<pid_t> children;
    for (const auto& info : descendants(::getpid())) {
      if (info.parent == ::getpid()) children.push_back(info.pid);
    }
    REQUIRE(children.size() == 1);
    return children[0];
  };
  CHECK(pool.submit(number, 1).get() == 1);
  const pid_t first = server();
  ::kill(first, SIGINT);
  ::kill(first, SIGTERM);
  CHECK(pool.submit(number, 2).get() == 2);
  CHECK(server() == first);
  {
    const std::scoped_lock lock{mutex};
    CHECK(log.empty());
  }
  ::kill(first, SIGKILL);
  while (process_exists(first)) std::this_thread::yield();
  CHECK(pool.submit({.retries = 2}, number, 3).get() == 3);
  CHECK(pool.submit({.retries = 2}, number, 4).get() == 4);
  CHECK(server() != first);
  CHECK(pool.logger().flush());
  const std::scoped_lock lock{mutex};
  CHECK_CONTAINS(log, "fork server");
}

TEST_CASE_EACH_START_METHOD("the program's signal handlers and what it ignores are not its workers'") {
  const std::vector<int> signals{SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGRTMIN + 3};
  struct sigaction handled{};
  handled.sa_handler = [](int) {};
  struct sigaction ignored{};
  ignored.sa_handler = SIG_IGN;
  std::vector<struct sigaction> before(signals.size());
  for (std::size_t i = 0; i < signals.size(); ++i)
    ::sigaction(signals[i], i % 2 == 0 ? &handled : &ignored, &before[i]);
  CHECK(with_other_action(signals) == signals);
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(with_other_action, signals).get().empty());
  pool.shutdown();
  for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &before[i], nullptr);
}
