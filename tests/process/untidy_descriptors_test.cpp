// What a task does to the descriptors that it finds costs its own worker, and nothing else: closing them,
// reusing their numbers, changing their flags, writing nonsense into them.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"
#include "support/worker_socket.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::internal;
using namespace std::chrono_literals;

namespace {

int slow(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  return milliseconds;
}
int close_from(int first) {
  ::syscall(SYS_close_range, first, ~0U, 0);
  return first;
}
int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 256; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}
// Takes every number that kindred may have used, with one file of the task's own.
int take_all_numbers(const std::string& path) {
  close_from(3);
  for (int i = 0; i < 16; ++i) (void)::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND, 0600);
  return 1;
}
int take_all_numbers_with_a_pipe(int) {
  close_from(3);
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return -1;
  for (int i = 0; i < 8; ++i) (void)::dup(ends[0]), (void)::dup(ends[1]);
  return ends[1];
}
int clear_flags(int) {
  for (int fd = 0; fd < 64; ++fd) {
    if (::fcntl(fd, F_GETFL) >= 0) ::fcntl(fd, F_SETFL, 0);
  }
  return 7;
}
// Reads and writes whatever it finds, until nothing is there or no room is left.
int drain_and_fill(int) {
  std::array<char, 4096> bytes{};
  for (int fd = 3; fd < 64; ++fd) {
    struct stat status{};
    if (::fstat(fd, &status) != 0) continue;
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    while (::read(fd, bytes.data(), bytes.size()) > 0) {}
    if (!S_ISSOCK(status.st_mode)) {
      for (int i = 0; i < 100 && ::write(fd, bytes.data(), 8) > 0; ++i) {}
    }
  }
  return 7;
}
struct Mapping {
  unsigned long begin = 0, end = 0;
};
std::vector<Mapping> bells_of_this_worker() {
  std::ifstream maps{"/proc/self/maps"};
  std::vector<Mapping> bells;
  Mapping bell;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("/memfd:kindred-bell") != std::string::npos &&
        std::sscanf(line.c_str(), "%lx-%lx", &bell.begin, &bell.end) == 2)
      bells.push_back(bell);
  }
  return bells;
}
// Keeps each bell of the pool at the value that it has now, until the worker ends.
int hold_the_bells(int) {
  std::vector<std::atomic<std::uint32_t>*> words;
  for (const Mapping& bell : bells_of_this_worker())
    words.push_back(reinterpret_cast<std::atomic<std::uint32_t>*>(bell.begin));
  const int count = static_cast<int>(words.size());
  std::thread{[words] {
    std::vector<std::uint32_t> values;
    for (auto* const word : words) values.push_back(word->load());
    for (;;) {
      for (std::size_t i = 0; i < words.size(); ++i) words[i]->store(values[i]);
    }
  }}.detach();
  return count;
}
// Puts memory of its own in the place of each bell: from now on, no ring of this worker reaches the parent.
int replace_the_bells(int) {
  int count = 0;
  for (const Mapping& bell : bells_of_this_worker()) {
    void* const place = reinterpret_cast<void*>(bell.begin);
    count += ::mmap(place, bell.end - bell.begin, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == place
                 ? 1
                 : 0;
  }
  return count;
}

template <class T>
bool ends(const Future<T>& future, std::chrono::milliseconds limit = 5s) {
  return future.wait_for(limit * slowness());
}

// Tasks long enough that the thread which waits for them sleeps, each by itself and all at once.
void check_that_work_goes_on(ProcessPoolExecutor& pool) {
  for (int i = 0; i < 4; ++i) {
    auto future = pool.submit(slow, 20);
    REQUIRE(ends(future));
    CHECK(future.get() == 20);
  }
  std::vector<Future<int>> many;
  for (int i = 0; i < 8; ++i) many.push_back(pool.submit(slow, 10));
  for (auto& future : many) {
    REQUIRE(ends(future));
    CHECK(future.get() == 10);
  }
  Event called = pool.make_event();
  auto last = pool.submit(slow, 20);
  last.on_done([called](const auto&) mutable { called.set(); });
  CHECK(called.wait_for(5s * slowness()));
}

}  // namespace

TEST_CASE_EACH_START_METHOD("a task that closes all descriptors costs no later task anything") {
  for (const int first : {3, 4, 5, 0}) {
    CAPTURE(first);
    ResourceAudit audit;
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
    REQUIRE(ends(pool.submit(slow, 1)));
    for (int i = 0; i < 2; ++i) {
      auto closed = pool.submit(close_from, first);
      REQUIRE(ends(closed));
      CHECK(closed.get() == first);
    }
    check_that_work_goes_on(pool);
    pool.kill_workers();
  }
}

TEST_CASE_EACH_START_METHOD("a worker that lost its socket is replaced, and the log says why") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::atomic<int> said{0};
  pool.logger().add_sink([&](const LogRecord& record) {
    said += contains(record.message, "closed its socket to the program") ? 1 : 0;
  });
  const auto first = pool.submit([] { return static_cast<int>(::getpid()); }).get();
  CHECK(pool.submit(close_from, 3).get() == 3);
  auto second = pool.submit([] { return static_cast<int>(::getpid()); });
  REQUIRE(ends(second));
  // What was handed ahead still runs in the old one, and the supervisor may need some time to see it. Where
  // it never does, the case's deadline ends this.
  for (int now = second.get(); now == first;)
    now = pool.submit([] { return static_cast<int>(::getpid()); }).get();
  pool.logger().flush();
  CHECK(said == 1);
}

TEST_CASE_EACH_START_METHOD(
    "a large result of a task that closed all descriptors is lost with its worker, told, and no other is") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  auto large = pool.submit(
      [](int first) {
        close_from(first);
        return std::vector<char>(1U << 20U, 'x');
      },
      3);
  REQUIRE(ends(large));
  CHECK_THROWS_CONTAINS(large.get(), WorkerLost, "closed its socket");
  check_that_work_goes_on(pool);
}

TEST_CASE_EACH_START_METHOD(
    "nothing of kindred is written into, or read from, files that a task opened itself") {
  ResourceAudit audit;
  TemporaryFolder folder;
  const std::string path = folder / "own.dat";
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 1, .worker = {.capture_output = true}}};
  REQUIRE(ends(pool.submit(slow, 1)));
  CHECK(pool.submit(take_all_numbers, path).get() == 1);
  check_that_work_goes_on(pool);
  CHECK(read_file(path) == "");
  REQUIRE(ends(pool.submit(take_all_numbers_with_a_pipe, 0)));
  check_that_work_goes_on(pool);
}

TEST_CASE_EACH_START_METHOD("a task that clears the flags of all descriptors blocks nobody") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(),
                           {.start_method = method, .max_workers = 2, .worker = {.capture_output = true}}};
  REQUIRE(ends(pool.submit(slow, 1)));
  for (int i = 0; i < 2; ++i) REQUIRE(ends(pool.submit(clear_flags, 0)));
  check_that_work_goes_on(pool);
  // A death, whose last words are read out of a pipe that may block now, and that a subprocess holds open for
  // longer than this waits.
  auto holder = pool.make_counter();
  auto dies = pool.submit(
      [](Counter pid) -> int {
        clear_flags(0);
        std::fputs("last words without an end", stdout);
        const pid_t child = ::fork();
        if (child == 0) {
          ::setsid();
          for (;;) ::pause();
        }
        pid.store(child);
        ::_exit(3);
      },
      holder);
  REQUIRE(ends(dies));
  CHECK_THROWS_AS(dies.get(), WorkerLost);
  check_that_work_goes_on(pool);
  ::kill(static_cast<pid_t>(holder.load()), SIGKILL);  // under spawn no process would end it before the pool
}

TEST_CASE_EACH_START_METHOD("a task that drains and fills all descriptors delays nothing") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  REQUIRE(ends(pool.submit(slow, 1)));
  for (int i = 0; i < 2; ++i) REQUIRE(ends(pool.submit(drain_and_fill, 0)));
  check_that_work_goes_on(pool);
}

TEST_CASE_EACH_START_METHOD(
    "a task that writes over the bells for ever delays each result by a bounded time") {
  KINDRED_SKIP_UNDER_TSAN("it races on purpose");
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  REQUIRE(ends(pool.submit(slow, 1)));
  auto held = pool.submit(hold_the_bells, 0);
  REQUIRE(ends(held));
  CHECK(held.get() == 3);
  check_that_work_goes_on(pool);
  // Each ring costs at most as much again as the wait before it: not the second after which stopped workers
  // are looked for.
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; ++i) CHECK(pool.submit(slow, 20).get() == 20);
  CHECK(std::chrono::steady_clock::now() - begin < 5s * slowness());
  pool.logger().info("told");
  CHECK(pool.logger().flush());
}

TEST_CASE_EACH_START_METHOD("rings that never reach the program delay each result by a bounded time") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto waited_for = [&] { CHECK(pool.submit(slow, 100).get() == 100); };
  const auto called_back = [&] {  // no thread waits for the result
    Event called = pool.make_event();
    auto future = pool.submit(slow, 100);
    future.on_done([called](const auto&) mutable { called.set(); });
    CHECK(called.wait_for(5s * slowness()));
  };
  const auto time_of_five = [](const auto& run) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 5; ++i) run();
    return (std::chrono::steady_clock::now() - begin) / 1ms;
  };
  waited_for();
  const auto waited_before = time_of_five(waited_for), called_before = time_of_five(called_back);
  auto replaced = pool.submit(replace_the_bells, 0);
  REQUIRE(ends(replaced));
  CHECK(replaced.get() == 3);
  // Each is found after some 120 to 200 ms. Without the looks for lost rings, the one that looks for stopped
  // workers each second would find it.
  const auto is_soon = [&](const auto& run, auto before) {
    for (int i = 0; i < 5; ++i) {  // the machine may have become busy meanwhile
      if (time_of_five(run) < 2 * before + 1500) return true;
    }
    return false;
  };
  CHECK(is_soon(waited_for, waited_before));
  CHECK(is_soon(called_back, called_before));
}

TEST_CASE_EACH_START_METHOD("a worker has four descriptors: standard streams and a socket") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(open_descriptors).get() == 4);
}

namespace {

void send_on_socket(std::size_t bytes, int descriptors) {
  std::vector<char> text(bytes, '\1');
  iovec part{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(64 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = bytes == 0 ? 0 : 1;
  if (descriptors != 0) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(static_cast<std::size_t>(descriptors) * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(static_cast<std::size_t>(descriptors) * sizeof(int));
    const std::vector<int> fds(static_cast<std::size_t>(descriptors), 0);
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  (void)::sendmsg(worker_fd::socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
void send_many(std::size_t bytes, int descriptors) {
  for (int i = 0; i < 50; ++i) send_on_socket(bytes, descriptors);
  for (;;) ::pause();
}
int count_descriptors_here() { return open_descriptors(); }
// A dead worker's pidfd is kept for the moments in which its session is swept.
bool soon_no_more_than(int descriptors) {
  const auto until = std::chrono::steady_clock::now() + 5s * slowness();
  while (count_descriptors_here() > descriptors && std::chrono::steady_clock::now() < until)
    std::this_thread::yield();
  return count_descriptors_here() <= descriptors;
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "messages of a worker that carry what none may carry cost it its life, and the program nothing") {
  struct Form {
    const char* name;
    std::size_t bytes;
    int descriptors;
  };
  for (const Form form : {Form{"empty with descriptors", 0, 50}, Form{"a word too short", 2, 1},
                          Form{"ready with descriptors", 4, 60}, Form{"longer than any", 100'000, 0},
                          Form{"unknown with descriptors", 64, 64}}) {
    CAPTURE(std::string{form.name});
    ResourceAudit audit;
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
    CHECK(pool.submit(slow, 1).get() == 1);
    // What is kept of a message grows with each round. The pool makes a few descriptors once, some of them by
    // threads of its own, which may come to it after the first round only.
    constexpr int rounds = 6;
    constexpr int made_once = rounds - 2;
    int after_first = 0;
    for (int round = 0; round < rounds; ++round) {
      auto future = pool.submit(send_many, form.bytes, form.descriptors);
      REQUIRE(ends(future));
      CHECK_THROWS_AS(future.get(), WorkerLost);
      CHECK(pool.submit(slow, 1).get() == 1);
      if (round == 0) after_first = count_descriptors_here();
    }
    CHECK(soon_no_more_than(after_first + made_once));
  }
}

TEST_CASE_EACH_START_METHOD("memory of huge pages, which could be taken away again, is refused") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit([]() -> int {
    const int fd = static_cast<int>(::syscall(SYS_memfd_create, "huge", MFD_ALLOW_SEALING | MFD_HUGETLB));
    if (fd < 0) return 1;  // a kernel without
    if (::ftruncate(fd, 2 << 20) != 0) return 2;
    ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    announce_memory(fd, 4096);
    for (;;) ::pause();
  });
  REQUIRE(ends(future));
  try {
    if (future.get() == 1) KINDRED_SKIP("this kernel has no huge pages");
    FAIL("it was taken");
  } catch (const WorkerLost& error) {
    CHECK_CONTAINS(error.what(), "another kind");
  }
}
