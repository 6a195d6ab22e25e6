// What a worker sends costs the program no more than the size of it allows: results, shared memories, places
// in the code that logs, and who knocks at the log's door while no descriptor is left.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/local_socket.hpp"
#include "kindred/kindred.hpp"
#include "support/test.hpp"
#include "support/worker_socket.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int number(int value) { return value; }

// A table of 65,536 keys of one bucket. Its filling takes some 20 s; its bytes are those of a vector of
// pairs, which is what a task that means harm sends. An honest one returns the table itself.
struct Colliding {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pairs;
  template <class Archive>
  void save(Archive& archive) const {
    archive(pairs);
  }
  template <class Archive>
  void load(Archive& archive) {
    std::unordered_map<std::uint64_t, std::uint64_t> table;
    archive(table);
    pairs.assign(table.begin(), table.end());
  }
};
Colliding collide(std::uint64_t count) {
  std::unordered_map<std::uint64_t, std::uint64_t> like_it;
  like_it.reserve(count);
  Colliding all;
  for (std::uint64_t i = 0; i < count; ++i) all.pairs.emplace_back(i * like_it.bucket_count(), i);
  return all;
}
std::unordered_map<std::uint64_t, std::uint64_t> make_table(std::uint64_t count) {
  std::unordered_map<std::uint64_t, std::uint64_t> table;
  for (std::uint64_t i = 0; i < count; ++i) table.emplace(i * i, i);
  return table;
}

// Announces `announced` bytes of shared memory and sends `bytes`, as kindred's own are.
void send_memory(std::size_t announced, std::size_t bytes) {
  const int fd = ::memfd_create("large", MFD_ALLOW_SEALING);
  if (fd < 0 || ::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0) ::_exit(9);
  ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
  announce_memory(fd, announced);
  for (;;) ::pause();
}

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "a result whose keys collide is refused in a bounded time, and an honest table is not") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(collide, 65'536);
  REQUIRE(future.wait_for(10s * slowness()));
  const auto since = std::chrono::steady_clock::now();
  CHECK_THROWS_CONTAINS((void)future.get(), std::exception, "keys collide");
  CHECK(std::chrono::steady_clock::now() - since < 3s * slowness());
  CHECK(pool.submit(make_table, 100'000).get().size() == 100'000);
  CHECK(pool.submit(collide, 1'500).get().pairs.size() == 1'500);
}

TEST_CASE_EACH_START_METHOD("shared memory that is larger than it was announced is refused") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  auto future = pool.submit(send_memory, 4096, std::size_t{8} << 20U);
  REQUIRE(future.wait_for(5s * slowness()));
  CHECK_THROWS_CONTAINS(future.get(), WorkerLost, "was announced");
  CHECK(pool.submit(number, 3).get() == 3);
}

TEST_CASE_EACH_START_METHOD("places in the code without end cost neither a worker nor another pool's names") {
  ResourceAudit audit;
  {
    ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1, .log = {.block_limit = 1h}}};
    std::atomic<int> heard{0};
    pool.logger().add_sink([&](const LogRecord&) { ++heard; });
    CHECK(pool.submit(
                  [](int count) {
                    const std::string name(700, 'n');
                    for (int i = 0; i < count; ++i) {
                      const std::string file = name + std::to_string(i) + ".cpp";
                      spdlog::log(spdlog::source_loc{file.c_str(), i + 1, "generated"}, spdlog::level::info,
                                  "record");
                    }
                    return count;
                  },
                  20'000)
              .get() == 20'000);
    CHECK(pool.logger().flush());
    CHECK(heard >= 20'000);
    CHECK(pool.stats().restarts == 0);
  }
  ProcessPoolExecutor other{entry(), {.start_method = method, .max_workers = 1}};
  std::string file;
  std::mutex mutex;
  other.logger().add_sink([&](const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    if (record.message == "named") file = record.source.file;
  });
  CHECK(other
            .submit([] {
              spdlog::log(spdlog::source_loc{"named.cpp", 7, "f"}, spdlog::level::info, "named");
              return 1;
            })
            .get() == 1);
  CHECK(other.logger().flush());
  const std::scoped_lock lock{mutex};
  CHECK(file == "named.cpp");
}

TEST_CASE_EACH_START_METHOD("a place whose name stands in a buffer that is used again has its own name") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  std::mutex mutex;
  std::vector<std::string> files;
  pool.logger().add_sink([&](const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    if (record.origin == Origin::log) files.emplace_back(record.source.file);
  });
  CHECK(pool.submit([] {
              std::array<char, 16> name{};
              for (const char* file : {"one.cpp", "two.cpp", "one.cpp"}) {
                std::strcpy(name.data(), file);
                spdlog::log(spdlog::source_loc{name.data(), 5, "f"}, spdlog::level::info, "x");
              }
              return 1;
            })
            .get() == 1);
  CHECK(pool.logger().flush());
  const std::scoped_lock lock{mutex};
  CHECK((files == std::vector<std::string>{"one.cpp", "two.cpp", "one.cpp"}));
}

TEST_CASE("a visitor of the log waits where no descriptor is left, and the log says so once") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = StartMethod::forkserver, .max_workers = 1}};
  std::atomic<int> told{0};
  pool.logger().add_sink([&](const LogRecord& record) {
    told += contains(record.message, "no descriptor left to let it in") ? 1 : 0;
  });
  CHECK(pool.submit(number, 1).get() == 1);
  const auto names =
      local_names("kindred/" + std::to_string(::geteuid()) + "/" + std::to_string(::getpid()) + "/");
  REQUIRE(names.size() == 1);
  const Descriptor guest{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  REQUIRE(guest);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3;
  ::setrlimit(RLIMIT_NOFILE, &none);
  sockaddr_un door{};
  door.sun_family = AF_UNIX;
  std::memcpy(door.sun_path + 1, names[0].data(), names[0].size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + names[0].size());
  const int knocked = ::connect(guest.get(), reinterpret_cast<const sockaddr*>(&door), length);
  while (knocked == 0 && told == 0) std::this_thread::yield();
  const auto wakeups = pool.stats().supervisor_wakeups;
  std::this_thread::sleep_for(1s);
  const auto later = pool.stats().supervisor_wakeups;
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(knocked == 0);
  CHECK(later > wakeups);  // it looks now and then
  CHECK(later - wakeups < 200);
  CHECK(pool.logger().flush());
  CHECK(told == 1);
}
