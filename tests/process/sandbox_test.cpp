// Workers in a sandbox: what a plug-in would do to the program, its user and its files, and what must go on
// working inside.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

#include <arpa/inet.h>
#include <poll.h>

#include "kindred/internal/sandbox_plan.hpp"
#include "kindred/kindred.hpp"
#include "support/sandbox_attempts.hpp"
#include "support/tasks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;
namespace inside = kindred::internal;
using inside::SandboxPlan;

namespace {

constexpr std::uint64_t memory_limit = std::uint64_t{256} << 20U;

// Why this machine cannot run a case; empty where it can.
std::string what_is_missing() {
  const auto platform = inside::sandbox_platform(false);
  if (!inside::has_libseccomp()) return "this build has no libseccomp";
  if (!platform.has_seccomp) return "the kernel has no seccomp filters here";
  if (platform.landlock_abi < 1) return "the kernel has no Landlock here";
  return {};
}

#define NEEDS_A_SANDBOX()                                                                                \
  KINDRED_SKIP_UNDER_TSAN("it takes the clone that tries a sandbox for a fork, and forgets our thread"); \
  if (const std::string missing = what_is_missing(); !missing.empty()) KINDRED_SKIP(missing)

/// A process beside the program, with a secret in its memory and an open file, that counts its signals.
class Victim {
 public:
  explicit Victim(const std::string& file)
      : shared_{static_cast<Shared*>(
            ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))} {
    shared_->secret = 42;
    shared = shared_;
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::setpgid(0, 0);
      // The handler of SIGUSR1 is not interrupted by that of SIGUSR2: what the second one answers, the first
      // one has counted.
      struct sigaction counts{};
      counts.sa_handler = [](int) { shared->signals.fetch_add(1); };
      ::sigaddset(&counts.sa_mask, SIGUSR2);
      ::sigaction(SIGUSR1, &counts, nullptr);
      std::signal(SIGUSR2, [](int) { shared->answers.fetch_add(1); });
      shared_->descriptor = ::open(file.c_str(), O_RDONLY);
      shared_->ready.store(1);
      shared_->ready.notify_all();
      for (;;) ::pause();
    }
    while (shared_->ready.load() == 0) std::this_thread::yield();
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::munmap(shared_, sizeof(Shared));
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Returns how many SIGUSR1 it got, those included that were sent before this call and were on their way.
  [[nodiscard]] int signals() const {
    const int before = shared_->answers.load();
    ::kill(pid_, SIGUSR2);
    while (shared_->answers.load() == before && process_exists(pid_)) std::this_thread::yield();
    return shared_->signals.load();
  }
  [[nodiscard]] std::uint64_t secret() const { return shared_->secret; }
  [[nodiscard]] std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(&shared_->secret); }
  [[nodiscard]] int descriptor() const { return shared_->descriptor; }
  void forget_harm() {
    shared_->signals = 0;
    shared_->secret = 42;
  }

 private:
  struct Shared {
    std::atomic<int> ready;
    std::atomic<int> signals;
    std::atomic<int> answers;
    std::uint64_t secret;
    int descriptor;
  };
  static inline Shared* shared = nullptr;
  Shared* shared_;
  pid_t pid_ = 0;
};

std::atomic<int> signals_to_program{0};

/// All that the attempts aim at, and whether it is as it was.
class Scene {
 public:
  Scene() : victim_{prepare()} {
    target_.program = ::getpid();
    target_.victim = victim_.pid();
    target_.victim_secret = victim_.address();
    target_.victim_descriptor = victim_.descriptor();
    signals_to_program = 0;
    std::signal(SIGUSR1, [](int) { signals_to_program.fetch_add(1); });
  }
  ~Scene() {
    std::signal(SIGUSR1, SIG_DFL);
    for (const int fd : {listener_, datagrams_}) ::close(fd);
    ::shmctl(target_.segment, IPC_RMID, nullptr);
  }

  [[nodiscard]] const Target& target() const { return target_; }
  [[nodiscard]] Sandbox sandbox() const {
    Sandbox sandbox = Sandbox::files({target_.readable}, {target_.inside});
    return sandbox;
  }

  /// Returns what has been harmed, in words.
  [[nodiscard]] std::string harm() const {
    std::string text;
    const auto note = [&](bool harmed, const char* what) {
      if (harmed) text += std::string{what} + "; ";
    };
    note(signals_to_program != 0, "the program got a signal");
    note(victim_.signals() != 0, "the victim got a signal");
    note(victim_.secret() != 42, "the victim's memory was written");
    note(!process_exists(victim_.pid()), "the victim is dead");
    std::error_code problem;
    const std::string secret = target_.outside + "/secret";
    note(!std::filesystem::exists(secret, problem) || read_file(secret) != "secret",
         "the file was written, cut or removed");
    note(std::filesystem::status(secret, problem).permissions() != std::filesystem::perms{0640},
         "the file's mode was changed");
    note(read_file(target_.readable) != "readable", "the readable file was changed");
    note(std::distance(std::filesystem::directory_iterator{target_.outside},
                       std::filesystem::directory_iterator{}) != 1,
         "files were planted");
    for (const char* const name : {"mine", "link", "root_shell"})
      note(std::filesystem::exists(target_.inside + "/" + name, problem), name);
    note(std::filesystem::is_symlink(target_.inside + "/symbolic", problem), "a symbolic link was left");
    pollfd events[2]{{listener_, POLLIN, 0}, {datagrams_, POLLIN, 0}};
    note(::poll(events, 2, 0) != 0, "a process connected");
    return text;
  }

  /// Sets the scene as it was.
  void reset() {
    for (const char* const name : {"secret", "planted"})
      std::filesystem::remove(target_.outside + "/" + name);
    for (const char* const name : {"mine", "link", "root_shell", "symbolic"})
      std::filesystem::remove(target_.inside + "/" + name);
    std::filesystem::remove(target_.readable);
    write_files();
    victim_.forget_harm();
    signals_to_program = 0;
    pollfd events[2]{{listener_, POLLIN, 0}, {datagrams_, POLLIN, 0}};
    ::poll(events, 2, 0);
    char byte = 0;
    if (events[0].revents != 0) ::close(::accept(listener_, nullptr, nullptr));
    if (events[1].revents != 0) (void)!::read(datagrams_, &byte, 1);
  }

 private:
  void write_files() {
    write_file(target_.outside + "/secret", "secret");
    std::filesystem::permissions(target_.outside + "/secret", std::filesystem::perms{0640});
    write_file(target_.readable, "readable");
  }

  // Before the victim is forked, which opens a file of it.
  std::string prepare() {
    target_.outside = folder_ / "outside";
    target_.inside = folder_ / "inside";
    target_.readable = folder_ / "readable";
    std::filesystem::create_directory(target_.outside);
    std::filesystem::create_directory(target_.inside);
    write_files();
    write_file(target_.inside + "/foreign", "of another user");
    std::filesystem::permissions(target_.inside + "/foreign", std::filesystem::perms{0});
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(listener_, 8) == 0);
    REQUIRE(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    target_.port = ntohs(address.sin_port);
    target_.abstract_name = "kindred-sandbox-test-" + std::to_string(::getpid());
    datagrams_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    const socklen_t length = attempts::to_address(target_, name);
    REQUIRE(::bind(datagrams_, reinterpret_cast<sockaddr*>(&name), length) == 0);
    target_.segment = ::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    return target_.outside + "/secret";
  }

  TemporaryFolder folder_;
  Target target_;
  int listener_ = -1;
  int datagrams_ = -1;
  Victim victim_;
};

int attempt(std::size_t index, const Target& target) { return all_attempts().at(index).run(target); }

ExecutorOptions options_for(StartMethod method, Sandbox sandbox, std::int64_t workers = 1) {
  return {.start_method = method,
          .max_workers = workers,
          .restart_limit = {.count = 1000},
          .worker = {.sandbox = std::move(sandbox)}};
}

/// A pool in a sandbox, whose log of deaths is not for the test's output.
class SandboxedPool {
 public:
  explicit SandboxedPool(ExecutorOptions options) : pool_{entry(), std::move(options)} {
    pool_.logger().add_sink(sinks::callback([](const LogRecord&) {}));
  }
  ProcessPoolExecutor* operator->() { return &pool_; }
  ProcessPoolExecutor& operator*() { return pool_; }

 private:
  ProcessPoolExecutor pool_;
};

std::string named(const Attempt& attempt, int error) {
  return std::string{attempt.what} + ": " + (error == 0 ? "SUCCEEDED" : std::strerror(error));
}

void check_attempt(ProcessPoolExecutor& pool, const Scene& scene, std::size_t index) {
  const Attempt& tried = all_attempts()[index];
  INFO(tried.what);
  try {
    const int error = pool.submit(attempt, index, scene.target()).get();
    CHECK_MESSAGE(tried.call == nullptr, named(tried, error));
    if (tried.call == nullptr)
      CHECK_MESSAGE(std::ranges::find(tried.errors, error) != tried.errors.end(), named(tried, error));
  } catch (const WorkerLost& lost) {
    REQUIRE_MESSAGE(tried.call != nullptr, lost.what());
    CHECK_CONTAINS(lost.what(), "bad system call `" + std::string{tried.call} + "`: the sandbox forbids it");
    CHECK(lost.exit_reason().signal == SIGSYS);
  }
  CHECK(scene.harm() == "");
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a plug-in that means harm does none, and is told what it tried") {
  NEEDS_A_SANDBOX();
  const Deadline deadline{300s};
  Scene scene;
  Sandbox sandbox = scene.sandbox();
  sandbox.memory_bytes = memory_limit;
  SandboxedPool pool{options_for(method, sandbox)};
  std::size_t tried = 0;
  for (std::size_t i = 0; i < all_attempts().size(); ++i) {
    // A limit on the size of files goes with a sandbox that writes none, and is tried below.
    if (all_attempts()[i].run == attempts::eat_memory_in_file) continue;
    check_attempt(*pool, scene, i);
    ++tried;
  }
  CHECK(tried >= 30);
  CHECK(pool->submit(add, 1, 2).get() == 3);
}

TEST_CASE_EACH_START_METHOD("a sandbox that writes no files bounds memory that is not mapped, too") {
  NEEDS_A_SANDBOX();
  Scene scene;
  Sandbox sandbox = Sandbox::compute();
  sandbox.memory_bytes = memory_limit;
  SandboxedPool pool{options_for(method, sandbox)};
  for (std::size_t i = 0; i < all_attempts().size(); ++i) {
    if (all_attempts()[i].run == attempts::eat_memory_in_file) check_attempt(*pool, scene, i);
  }
}

namespace {

/// Of these the scene shows the harm; of the others the attempt itself tells.
const std::vector<int (*)(const Target&)> seen{
    attempts::kill_program,     attempts::kill_victim,       attempts::kill_group,
    attempts::kill_thread,      attempts::kill_old_way,      attempts::queue_signal,
    attempts::signal_by_pidfd,  attempts::signal_by_owner,   attempts::write_memory,
    attempts::overwrite,        attempts::write_memory_file, attempts::write_readable,
    attempts::cut_by_name,      attempts::cut_by_opening,    attempts::remove_secret,
    attempts::take_secret_away, attempts::link_secret,       attempts::leave_symbolic_link,
    attempts::change_mode,      attempts::make_file_outside, attempts::make_set_user_id,
    attempts::connect_tcp,      attempts::send_to_abstract,  attempts::send_from_pair};

/// Leaves layers of the sandbox out, and runs the attempt in a process of its own.
kindred::test::Outcome attempt_without(const Attempt& tried, const Scene& scene) {
  return run_forked([&] {
    Sandbox sandbox = scene.sandbox();
    if (tried.run == attempts::eat_memory_in_file) sandbox.write.clear();
    sandbox.memory_bytes = memory_limit;
    SandboxPlan plan = inside::make_sandbox_plan(sandbox, inside::sandbox_platform(false));
    unsigned layers = tried.layers;
    // Before its third version Landlock does not see files being cut, and seccomp stops it.
    const bool cuts = tried.run == attempts::cut_by_name || tried.run == attempts::cut_by_opening;
    if (cuts && inside::sandbox_platform(false).landlock_abi < 3) layers |= layer::seccomp;
    if ((layers & layer::landlock) != 0) plan.landlock = false;
    if ((layers & layer::seccomp) != 0) plan.calls = plan.refusals = {};
    if ((tried.layers & layer::capabilities) != 0) plan.drops_capabilities = false;
    if ((tried.layers & layer::limits) != 0) plan.memory_bytes = 0;
    if ((tried.layers & layer::output) != 0) ::dup2(::open("/dev/null", O_WRONLY), 1);
    inside::enter_sandbox(plan);
    ::_exit(tried.run(scene.target()));
  });
}

// A signal to the program or a connection may take a moment to arrive.
bool does_harm(const Scene& scene) {
  const auto until = std::chrono::steady_clock::now() + 30s * slowness();
  while (scene.harm().empty() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  return !scene.harm().empty();
}

}  // namespace

TEST_CASE("each attempt does its harm where the layers that stop it are left out") {
  NEEDS_A_SANDBOX();
  KINDRED_SKIP_UNDER_TSAN("the forked process has threads of the sanitizer's");
  const Deadline deadline{300s};
  Scene scene;
  for (const Attempt& tried : all_attempts()) {
    if (tried.layers == 0 || (tried.root_only && ::geteuid() != 0)) continue;
    INFO(tried.what);
    const kindred::test::Outcome outcome = attempt_without(tried, scene);
    INFO(to_string(outcome));
    if (tried.run == attempts::set_attribute && outcome.code == EOPNOTSUPP)
      continue;  // a file system without
    if (tried.run == attempts::new_user && outcome.code == EPERM &&
        !inside::sandbox_platform(true).has_namespaces)
      continue;  // a system without, or one that is looked at from a chroot
    CHECK_MESSAGE(outcome.code == 0, named(tried, outcome.code));
    if (std::ranges::find(seen, tried.run) != seen.end())
      CHECK_MESSAGE(does_harm(scene), std::string{tried.what});
    scene.reset();
    CHECK(scene.harm() == "");
  }
}

TEST_CASE("a call of the 32-bit kind ends the worker") {
  NEEDS_A_SANDBOX();
#ifdef __x86_64__
  const auto outcome = run_forked([] {
    inside::enter_sandbox(inside::make_sandbox_plan(Sandbox::compute(), inside::sandbox_platform(false)));
    long result = 20;  // getpid, in that kind's numbers
    asm volatile("int $0x80" : "+a"(result) : : "memory");
    ::_exit(0);
  });
  // A kernel without the 32-bit kind has no such door at all.
  CHECK((outcome.signal == SIGSYS || outcome.signal == SIGSEGV));
  CHECK(inside::sandbox_violation(-1).find("the sandbox forbids it") != std::string::npos);
#else
  KINDRED_SKIP("this machine has no 32-bit kind of call that a 64-bit program can make");
#endif
}

// --- what must go on working inside

namespace {

std::string work_inside(const std::string& folder, const SharedArray<int>& cells, Mutex mutex) {
  {
    const std::scoped_lock lock{mutex};
    cells.mutable_span()[0] += 1;
  }
  log_info("working in {}", folder);
  std::printf("printed\n");
  std::fflush(stdout);
  std::atomic<int> sum{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { sum += 1; });
  for (auto& thread : threads) thread.join();
  sum += std::async(std::launch::async, [] { return 10; }).get();
  std::random_device random;
  (void)random();
  std::this_thread::sleep_for(1ms);
  std::filesystem::create_directories(folder + "/a/b");
  std::ofstream{folder + "/a/b/file"} << "text";
  std::filesystem::rename(folder + "/a/b/file", folder + "/a/moved");
  std::filesystem::remove(folder + "/a/b");
  std::string text;
  std::getline(std::ifstream{folder + "/a/moved"}, text);
  ::raise(0);
  return text + std::to_string(sum.load());
}
std::vector<char> large(std::size_t bytes) { return std::vector<char>(bytes, 'x'); }
int throws_nested() {
  try {
    throw std::out_of_range{"inner"};
  } catch (...) {
    std::throw_with_nested(std::runtime_error{"outer"});
  }
}
int crash() {
  volatile int* volatile nowhere = nullptr;
  return *nowhere;
}
void finalize(const std::string& path) { std::ofstream{path} << "finalized"; }
int wait_for_stop() {
  while (!this_worker().stop_requested()) std::this_thread::sleep_for(1ms);
  return this_worker().stop_token().stop_requested() ? 1 : 0;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("all that kindred offers a worker works in a sandbox") {
  NEEDS_A_SANDBOX();
  const ResourceAudit audit;
  TemporaryFolder folder;
  {
    auto options = options_for(method, Sandbox::files({}, {folder.path()}), 2);
    options.finalizer = {finalize, folder / "finalized"};
    options.max_rss_per_worker = std::int64_t{1} << 40U;
    SandboxedPool pool{options};
    auto cells = pool->make_array<int>(4, ArrayAccess::all_write);
    auto mutex = pool->make_mutex();
    auto work = pool->submit(work_inside, folder.path(), cells, mutex);
    CHECK(work.get() == "text14");
    CHECK(cells[0] == 1);
    bool logged = false;
    bool printed = false;
    (void)pool->logger().flush();
    for (const LogRecord& record : work.log()) {
      logged = logged || contains(record.message, "working in");
      printed = printed || (record.origin == Origin::stdout && record.message == "printed");
    }
    CHECK(logged);
    CHECK(printed);
    CHECK(pool->submit(large, std::size_t{20} << 20U).get().size() == std::size_t{20} << 20U);
    CHECK_THROWS_CONTAINS(pool->submit(throws_nested).get(), std::runtime_error, "outer");
    try {
      (void)pool->submit(crash).get();
      CHECK(false);
    } catch (const WorkerLost& lost) {
      CHECK(lost.exit_reason().signal == SIGSEGV);
      CHECK_CONTAINS(lost.backtrace(), "crash");
    }
    CHECK_THROWS_CONTAINS(pool->submit(std::abort).get(), WorkerLost, "SIGABRT");
    CHECK(pool->submit({.soft_timeout = 20ms}, wait_for_stop).get() == 1);
    CHECK_THROWS_AS(pool->submit({.timeout = 50ms}, ::pause).get(), TaskTimeout);
    CHECK(pool->submit(add, 2, 3).get() == 5);
  }
  CHECK(read_file(folder / "finalized") == "finalized");
}

namespace {

std::vector<int> allocate(std::size_t bytes) {
  std::vector<char> memory(bytes, 1);
  return {memory.back()};
}

}  // namespace

TEST_CASE_EACH_START_METHOD("memory over the sandbox's limit is bad_alloc, and the worker goes on") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer's operator new ends the program where it should throw");
  NEEDS_A_SANDBOX();
  Sandbox sandbox = Sandbox::compute();
  sandbox.memory_bytes = memory_limit;
  SandboxedPool pool{options_for(method, sandbox)};
  CHECK_THROWS_AS(pool->submit(allocate, std::size_t{1} << 30U).get(), std::bad_alloc);
  CHECK(pool->submit(allocate, std::size_t{64} << 20U).get().at(0) == 1);
  CHECK(pool->stats().restarts == 0);
}

// --- what is allowed by option

namespace {

int family_errno(int family) {
  const int fd = ::socket(family, SOCK_STREAM, 0);
  return fd < 0 ? errno : (::close(fd), 0);
}
std::string run_true() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/true", "true", nullptr);
    ::_exit(9);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return std::to_string(status);
}
int child_signals(int victim) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::kill(victim, SIGUSR1) == 0 ? 0 : errno);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}
int child_aborts() {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    std::abort();
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WTERMSIG(status);
}

int fork_with_signals_blocked() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  return ::fork();
}
int run_a_shell() { return std::system("true"); }

}  // namespace

TEST_CASE_EACH_START_METHOD("network, processes and exec are allowed one by one") {
  NEEDS_A_SANDBOX();
  Scene scene;
  {
    Sandbox sandbox;
    sandbox.network = true;
    SandboxedPool pool{options_for(method, sandbox)};
    CHECK(pool->submit(attempts::connect_tcp, scene.target()).get() == 0);
    CHECK(pool->submit(family_errno, AF_UNIX).get() == EAFNOSUPPORT);
    CHECK_THROWS_CONTAINS(pool->submit(attempts::start_process, scene.target()).get(), WorkerLost, "`clone`");
  }
  if (inside::sandbox_platform(false).landlock_abi < 6) return;
  Sandbox sandbox = Sandbox::files({"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"});
  sandbox.processes = true;
  {
    SandboxedPool pool{options_for(method, sandbox)};
    CHECK(pool->submit(attempts::start_process, scene.target()).get() == 0);
    CHECK(pool->submit(child_signals, scene.target().victim).get() == EPERM);
    CHECK(pool->submit(attempts::kill_victim, scene.target()).get() == EPERM);
    CHECK(pool->submit(child_aborts).get() == SIGABRT);
    CHECK_THROWS_CONTAINS(pool->submit(attempts::execute, scene.target()).get(), WorkerLost, "`execve`");
  }
  sandbox.exec = true;
  SandboxedPool pool{options_for(method, sandbox)};
  CHECK(pool->submit(run_true).get() == "0");
  CHECK(does_harm(scene));  // the connection above, and nothing else
  scene.reset();
  CHECK(scene.harm() == "");
}

// --- before and after the initializer

namespace {

int opened_by_initializer = -1;
std::atomic<bool> thread_is_there{false};
std::atomic<int> asked_of_thread{0};
std::atomic<int> answer_of_thread{-1};

void open_and_start_thread(const std::string& path, bool hides) {
  opened_by_initializer = ::open(path.c_str(), O_RDONLY);
  std::thread{[path, hides] {
    if (hides) {
      const std::uint64_t all = ~std::uint64_t{0};
      ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, nullptr, sizeof all);
    }
    thread_is_there = true;
    thread_is_there.notify_all();
    asked_of_thread.wait(0);
    answer_of_thread = ::open(path.c_str(), O_RDONLY) >= 0 ? 0 : errno;
    answer_of_thread.notify_all();
    for (;;) ::pause();
  }}.detach();
  thread_is_there.wait(false);
}
std::string read_what_was_opened() {
  std::array<char, 16> text{};
  const auto got = ::pread(opened_by_initializer, text.data(), text.size(), 0);
  return got < 0 ? std::strerror(errno) : std::string{text.data(), static_cast<std::size_t>(got)};
}
int ask_thread() {
  asked_of_thread = 1;
  asked_of_thread.notify_all();
  answer_of_thread.wait(-1);
  return answer_of_thread;
}

}  // namespace

TEST_CASE_EACH_START_METHOD("after_initializer trusts the initializer, and no thread that it leaves") {
  NEEDS_A_SANDBOX();
  TemporaryFolder folder;
  write_file(folder / "model", "model");
  auto options = options_for(method, Sandbox::compute());
  options.initializer = {open_and_start_thread, folder / "model", false};
  {
    options.worker.sandbox->after_initializer = true;
    SandboxedPool pool{options};
    CHECK(pool->submit(read_what_was_opened).get() == "model");
    CHECK(pool->submit(ask_thread).get() == EACCES);
  }
  {
    options.worker.sandbox->after_initializer = false;
    SandboxedPool pool{options};
    CHECK(pool->submit(read_what_was_opened).get() == std::strerror(EBADF));
  }
}

TEST_CASE_EACH_START_METHOD(
    "a thread that the sandbox cannot be closed around breaks the pool, and is told") {
  NEEDS_A_SANDBOX();
  TemporaryFolder folder;
  write_file(folder / "model", "model");
  auto options = options_for(method, Sandbox::compute());
  options.initializer = {open_and_start_thread, folder / "model", true};
  options.worker.sandbox->after_initializer = true;
  SandboxedPool pool{options};
  CHECK_THROWS_CONTAINS(pool->submit(add, 1, 2).get(), BrokenProcessPool,
                        "1 of them did not answer within 2 s");
}

TEST_CASE_EACH_START_METHOD("neither the program nor what its workers are forked from is in the sandbox") {
  NEEDS_A_SANDBOX();
  SandboxedPool pool{options_for(method, Sandbox::compute())};
  const int worker = pool->submit(pid_of_worker).get();
  const auto no_new_privileges = [](int pid) {
    const std::string status = read_file("/proc/" + std::to_string(pid) + "/status");
    return contains(status, "NoNewPrivs:\t1");
  };
  CHECK(no_new_privileges(worker));
  CHECK_FALSE(no_new_privileges(::getpid()));
  int others = 0;
  for (const ProcessInfo& process : descendants(::getpid())) {
    if (process.pid == worker || is_ended(process.state)) continue;
    CHECK_FALSE(no_new_privileges(process.pid));
    ++others;
  }
  CHECK(others == (method == StartMethod::spawn ? 0 : 1));
  CHECK(contains(read_file("/proc/" + std::to_string(worker) + "/status"), "CapEff:\t0000000000000000"));
}

TEST_CASE_EACH_START_METHOD("a fork with all signals blocked, as newer C libraries do it, is told by name") {
  NEEDS_A_SANDBOX();
  SandboxedPool pool{options_for(method, Sandbox::compute())};
  CHECK_THROWS_CONTAINS(pool->submit(fork_with_signals_blocked).get(), WorkerLost,
                        "the bad system call `clone`: the sandbox forbids it");
  CHECK_THROWS_CONTAINS(pool->submit(run_a_shell).get(), WorkerLost, "posix_spawn, system and popen");
}

TEST_CASE("what the sandbox is made of is told in the log, and what is wrong is told at construction") {
  NEEDS_A_SANDBOX();
  std::vector<std::string> lines;
  {
    ProcessPoolExecutor pool{entry(), options_for(StartMethod::spawn, Sandbox::compute())};
    CHECK(pool.submit(add, 1, 2).get() == 3);
    pool.logger().flush();
    for (const LogRecord& record : pool.logger().kept_records()) lines.push_back(record.message);
  }
  CHECK(
      std::ranges::any_of(lines, [](const auto& line) { return contains(line, "workers are sandboxed: "); }));
  const auto construct = [](Sandbox sandbox) {
    const ProcessPoolExecutor pool{entry(), options_for(StartMethod::spawn, std::move(sandbox))};
  };
  CHECK_THROWS_CONTAINS(construct({.read = {"/nowhere/at/all"}}), UsageError,
                        "'/nowhere/at/all', which does not exist");
  CHECK_THROWS_CONTAINS(construct({.waive = {"walls"}}), UsageError, "names 'walls'");
}
