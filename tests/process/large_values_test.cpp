// Arguments and results that do not fit into a ring: where they lie, that they are right, and that nothing of
// them stays.
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include "kindred/kindred.hpp"
#include "link/memory_blocks.hpp"
#include "support/test.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes pattern(std::size_t size, unsigned seed) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = static_cast<std::uint8_t>((i * 31 + seed * 7 + (i >> 9U)) & 0xff);
  return bytes;
}
bool is_pattern(const Bytes& bytes, std::size_t size, unsigned seed) { return bytes == pattern(size, seed); }

Bytes echo(Bytes bytes) { return bytes; }
Bytes make(std::size_t size, unsigned seed) { return pattern(size, seed); }
std::size_t size_of(const Bytes& bytes) { return bytes.size(); }
std::size_t die_with(const Bytes& bytes) {
  ::raise(SIGKILL);
  return bytes.size();
}
void wait_for(Event go) { go.wait(); }
std::size_t wait_with(Event go, const Bytes& bytes) {
  go.wait();
  return bytes.size();
}

std::vector<std::string> mappings(const std::string& process, const std::string& name) {
  std::vector<std::string> found;
  std::ifstream maps{"/proc/" + process + "/maps"};
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) != std::string::npos) found.push_back(line);
  }
  return found;
}
std::vector<std::string> argument_mappings(const Bytes&) { return mappings("self", "kindred-arguments"); }
std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) ++count;
  return count;
}

/// The name of what is mapped where a view looks, and the sum of what it sees.
std::pair<std::string, double> look_at(std::span<const double> numbers, std::string_view text) {
  const auto at = reinterpret_cast<std::uintptr_t>(numbers.data());
  std::string name;
  for (const auto& line : mappings("self", "kindred-")) {
    const auto dash = line.find('-');
    if (std::stoull(line.substr(0, dash), nullptr, 16) <= at &&
        at < std::stoull(line.substr(dash + 1), nullptr, 16))
      name = line.substr(line.find("kindred-"));
  }
  double total = static_cast<double>(text.size());
  for (const double number : numbers) total += number;
  return {name, total};
}
std::size_t length(std::string_view text) { return text.size(); }

// Fails while it is written, after much of it was.
struct BreaksOff {
  template <class Archive>
  void save(Archive& archive) const {
    archive(Bytes(300'000));
    throw std::runtime_error{"no more of it"};
  }
  template <class Archive>
  void load(Archive&) {}
};
BreaksOff break_off() { return {}; }

}  // namespace

TEST_CASE_EACH_START_METHOD(
    "large values come through whole, whatever their sizes and however their memory is used again") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  unsigned seed = 0;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::pair<Future<Bytes>, std::size_t>> futures;
    for (const std::size_t size :
         {16'000U, 16'400U, 17'000U, 65'536U, 300'000U, 1'048'576U, 40'000U, 3'000'001U, 18'000U}) {
      futures.emplace_back(pool.submit(echo, pattern(size, seed + static_cast<unsigned>(futures.size()))),
                           size);
    }
    for (auto& [future, size] : futures) CHECK(is_pattern(future.get(), size, seed++));
  }
}

TEST_CASE_EACH_START_METHOD("hundreds of large arguments wait without a descriptor each") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  const auto go = pool.make_event();
  auto first = pool.submit(wait_for, go), second = pool.submit(wait_for, go);
  const auto before = open_descriptors();
  std::vector<Future<Bytes>> futures;
  for (unsigned i = 0; i < 300; ++i) futures.push_back(pool.submit(echo, pattern(20'000 + i * 100, i)));
  CHECK(open_descriptors() <= before + 80);
  go.set();
  for (unsigned i = 0; i < 300; ++i) CHECK(is_pattern(futures[i].get(), 20'000 + i * 100, i));
}

TEST_CASE_EACH_START_METHOD("hundreds of large results are kept without a descriptor each") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  CHECK(pool.submit(make, 1U, 0U).get().size() == 1);
  std::vector<Future<Bytes>> futures;
  for (unsigned i = 0; i < 300; ++i) futures.push_back(pool.submit(make, std::size_t{150'000} + i * 100, i));
  for (auto& future : futures) future.wait();
  CHECK(open_descriptors() < 100);
  for (unsigned i = 300; i-- > 0;) CHECK(is_pattern(futures[i].get(), 150'000 + i * 100, i));
}

TEST_CASE_EACH_START_METHOD("the memory of large values is used again, and given back when it is idle") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (unsigned i = 0; i < 50; ++i)
    REQUIRE(is_pattern(pool.submit(echo, pattern(400'000, i)).get(), 400'000, i));
  const auto worker = std::to_string(pool.worker_pids().at(0));
  const auto in_use = [&] {
    std::size_t count = 0;
    for (const auto* name : {"kindred-arguments", "kindred-result"})
      count += mappings("self", name).size() + mappings(worker, name).size();
    return count;
  };
  while (in_use() != 0) std::this_thread::yield();
  CHECK(pool.submit(echo, pattern(100'000, 1)).get().size() == 100'000);
}

TEST_CASE_EACH_START_METHOD("a worker can only read the memory that arguments came in") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto lines = pool.submit(argument_mappings, Bytes(100'000)).get();
  REQUIRE(lines.size() == 1);
  CHECK_CONTAINS(lines[0], " r--s ");
}

TEST_CASE_EACH_START_METHOD("a span or a string_view looks at the memory that the arguments came in") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  const auto large = pool.submit(look_at, std::vector<double>(100'000, 0.5), "four").get();
  CHECK_CONTAINS(large.first, "kindred-arguments");
  CHECK(large.second == 50'004);
  const auto small = pool.submit(look_at, std::vector<double>{1, 2}, std::string{}).get();
  CHECK_CONTAINS(small.first, "kindred-segment");
  CHECK(small.second == 3);
  const std::vector<std::string> texts{"", "a", std::string(70'000, 'x'), "abc"};
  std::vector<std::size_t> lengths;
  for (const std::size_t one : pool.map(length, texts)) lengths.push_back(one);
  CHECK((lengths == std::vector<std::size_t>{0, 1, 70'000, 3}));
}

TEST_CASE_EACH_START_METHOD("a worker that dies with large arguments leaves them to the next attempt") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 2}};
  for (unsigned i = 0; i < 3; ++i) {
    CHECK(pool.submit(size_of, Bytes(200'000)).get() == 200'000);
    CHECK_THROWS_AS((void)pool.submit({.retries = 1}, die_with, Bytes(200'000)).get(), WorkerLost);
    CHECK(is_pattern(pool.submit(echo, pattern(150'000, i)).get(), 150'000, i));
  }
}

TEST_CASE_EACH_START_METHOD(
    "a large result that breaks off while it is written is an error, and its memory is used for the next") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  for (unsigned i = 0; i < 5; ++i) {
    CHECK_THROWS_CONTAINS((void)pool.submit(break_off).get(), TaskError, "no more of it");
    CHECK(is_pattern(pool.submit(make, std::size_t{250'000}, i).get(), 250'000, i));
  }
}

TEST_CASE_EACH_START_METHOD(
    "a fork of the user's own lets go of large arguments and results, and the parent's stay as they are") {
  ResourceAudit audit;
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  constexpr std::size_t size = 1'000'000;
  const auto go = pool.make_event();
  std::vector<Future<Bytes>> done;
  for (unsigned seed = 0; seed < 4; ++seed) done.push_back(pool.submit(make, size, seed));
  wait(done);
  auto running = std::make_optional(pool.submit(wait_with, go, pattern(size, 5)));
  auto pending = std::make_optional(pool.submit(echo, pattern(size, 6)));
  const auto outcome = run_forked([&] {
    running.reset();
    pending.reset();
    if (!is_pattern(done[0].get(), size, 0)) throw std::runtime_error{"what the child has a view of"};
    done.clear();
  });
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  go.set();
  CHECK(running->get() == size);
  CHECK(is_pattern(pending->get(), size, 6));
  for (unsigned seed = 0; seed < 4; ++seed)
    CHECK(is_pattern(pool.submit(make, size, seed + 10).get(), size, seed + 10));
  for (unsigned seed = 0; seed < 4; ++seed)
    CHECK(is_pattern(done[seed].get(), size, seed));  // nothing was written over them
}

TEST_CASE(
    "a fork of the user's own takes no lock for a large argument that it lets go of: another thread may have held it") {
  ResourceAudit audit;
  int freed = 0;
  kindred::internal::CallBlocks blocks{[&] { ++freed; }};
  auto block = blocks.take(100'000);
  const auto outcome = run_forked([&] {
    block.reset();
    if (freed != 0 || blocks.any_free()) throw std::runtime_error{"it was given back here"};
  });
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  block.reset();
  CHECK(freed == 1);
  CHECK(blocks.any_free());
}

TEST_CASE_EACH_START_METHOD(
    "where no descriptor is left, large results fail with the limit to raise, and their worker lives") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer needs descriptors of its own");
  ResourceAudit audit;
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  ProcessPoolExecutor pool{entry(), {.start_method = method, .max_workers = 1}};
  CHECK(pool.submit(make, std::size_t{1}, 0U).get().size() == 1);
  const auto worker = pool.worker_pids();
  std::string text;
  {
    rlimit none = before;
    none.rlim_cur = 3;
    ::setrlimit(RLIMIT_NOFILE, &none);
    try {
      (void)pool.submit(make, std::size_t{300'000}, 0U).get();
    } catch (const SystemError& error) {
      text = error.what();
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
  }
  CHECK_CONTAINS(text, "ulimit -n");
  CHECK(pool.submit(make, std::size_t{300'000}, 0U).get().size() == 300'000);
  CHECK(pool.worker_pids() == worker);
}
