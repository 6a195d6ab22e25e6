#include <algorithm>
#include <cstring>
#include <numeric>

#include <fcntl.h>

#include "child/idle_arrays.hpp"
#include "kindred/shared_array.hpp"
#include "unit/shared_object_support.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace kindred::test::shared;

namespace {

struct Point {
  double x, y, z;
};

// What a worker returns: its bytes in common memory, its descriptors over a socket in a real pool; here the
// parent takes them from the worker's /proc.
struct Returned {
  std::array<std::byte, 256> bytes;
  std::size_t size;
  std::array<int, 4> descriptors;
  int count;
  std::atomic<int> ready;
};

template <class Handle>
void give_back(Common<Returned>& back, kindred::internal::ContextId context, const Handle& handle) {
  const Message message = pack(context, handle);
  std::copy(message.bytes.begin(), message.bytes.end(), back->bytes.begin());
  back->size = message.bytes.size();
  for (const auto& memory : message.memories)
    back->descriptors[static_cast<std::size_t>(back->count++)] = memory->fd();
  back->ready = 1;
  until([&] { return back->ready == 2; });
}

Message take_back(Common<Returned>& back, pid_t worker) {
  until([&] { return back->ready == 1; });
  Message message;
  message.bytes.assign(back->bytes.begin(), back->bytes.begin() + static_cast<std::ptrdiff_t>(back->size));
  for (int i = 0; i < back->count; ++i) {
    const auto path = "/proc/" + std::to_string(worker) + "/fd/" +
                      std::to_string(back->descriptors[static_cast<std::size_t>(i)]);
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    const int read_only = fd >= 0 ? fd : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    message.memories.push_back(std::make_shared<kindred::internal::SharedMemory>(
        kindred::internal::SharedMemory::adopt(kindred::internal::Descriptor{read_only}, 1)));
  }
  back->ready = 2;
  return message;
}

}  // namespace

TEST_CASE("a SharedArray is read in place by a worker, and only its maker may write") {
  Pool pool;
  auto array = pool.registry.make_array<Point>(1000);
  CHECK(array.writable());
  CHECK(array[999].z == 0);
  for (std::size_t i = 0; i < array.size(); ++i)
    array.mutable_span()[i] = {1.0 * static_cast<double>(i), 0, 1};
  const Message message = pack(pool.id, array);
  Common<std::atomic<int>> stage;
  Worker worker{pool, [&] {
                  const auto mine = unpack<SharedArray<Point>>(pool.id, message);
                  const auto again = unpack<SharedArray<Point>>(pool.id, message);
                  if (!(mine == again) || mine.size() != 1000 || mine[500].x != 500 ||
                      mine.span().size_bytes() != 24'000)
                    ::_exit(3);
                  if (mine.writable()) ::_exit(4);
                  try {
                    static_cast<void>(mine.mutable_span());
                    ::_exit(5);
                  } catch (const UsageError& error) {
                    if (!contains(error.what(), "ArrayAccess::all_write")) ::_exit(6);
                  }
                  double sum = 0;
                  for (const auto& point : mine) sum += point.z;
                  if (sum != 1000) ::_exit(7);
                  *stage = 1;
                  until([&] { return *stage == 2; });
                  if (mine.at(1).y != 42) ::_exit(8);  // the same memory, no copy
                  // Sealed by the kernel: not even by force.
                  const_cast<Point&>(mine[0]).x = 1;
                }};
  until([&] { return *stage == 1; });
  array.mutable_span()[1].y = 42;
  *stage = 2;
  CHECK(WTERMSIG(worker.end()) == SIGSEGV);
  CHECK(array[0].x == 0);
  CHECK_THROWS_CONTAINS(array.at(1000), UsageError, "element 1000 was asked of a SharedArray of 1000");
}

TEST_CASE("a SharedArray made for all is written by all") {
  Pool pool;
  auto array = pool.registry.make_array<int>(100, ArrayAccess::all_write);
  const Message message = pack(pool.id, array);
  Worker worker{pool, [&] {
                  auto mine = unpack<SharedArray<int>>(pool.id, message);
                  if (!mine.writable()) ::_exit(3);
                  std::iota(mine.begin(), mine.end(), 2);
                  for (int& each : mine) --each;
                  mine[0] += 10;
                  mine.at(0) -= 10;
                  mine.data()[1] = mine.span()[1];
                }};
  CHECK(worker.end() == 0);
  CHECK(std::accumulate(array.begin(), array.end(), 0) == 5050);
}

TEST_CASE("a SharedArray made in a worker is read by the parent, although the worker is dead") {
  ResourceAudit audit;
  Pool pool;
  Common<Returned> back;
  SharedArray<long> array;
  {
    Worker worker{pool, [&] {
                    auto made = make_shared_array<long>(5000);
                    std::iota(made.mutable_span().begin(), made.mutable_span().end(), 0);
                    give_back(back, pool.id, made);
                  }};
    const Message message = take_back(back, worker.pid());
    array = unpack<SharedArray<long>>(pool.id, message);
    worker.end();
  }
  CHECK(array.size() == 5000);
  CHECK(array[4999] == 4999);
  CHECK_FALSE(array.writable());
  // And on to another worker.
  const Message message = pack(pool.id, array);
  Worker next{pool, [&] { ::_exit(unpack<SharedArray<long>>(pool.id, message)[77] == 77 ? 0 : 3); }};
  CHECK(next.end() == 0);
  array = {};
}

TEST_CASE("an array that a worker gives back is the one that the parent has") {
  Pool pool;
  Common<Returned> back;
  const auto array = pool.registry.make_array<int>(10);
  const Message message = pack(pool.id, array);
  Worker worker{pool, [&] { give_back(back, pool.id, unpack<SharedArray<int>>(pool.id, message)); }};
  const Message returned = take_back(back, worker.pid());
  CHECK(unpack<SharedArray<int>>(pool.id, returned) == array);
  CHECK(worker.end() == 0);
}

TEST_CASE("a worker keeps the arrays that came last, and lets go of them all at once") {
  const auto mappings = [] {
    std::size_t count = 0;
    const std::string maps = read_file("/proc/self/maps");
    for (auto at = maps.find("/memfd:kindred-array"); at != std::string::npos;
         at = maps.find("/memfd:kindred-array", at + 1))
      ++count;
    return count;
  };
  Pool pool;
  std::vector<Message> messages;
  for (int i = 0; i < 30; ++i) messages.push_back(pack(pool.id, pool.registry.make_array<int>(10)));
  Common<std::array<std::size_t, 9>> seen;
  Worker worker{pool, [&] {
                  auto& counts = *seen;
                  counts[0] = mappings();  // what the fork inherited
                  const int* first = unpack<SharedArray<int>>(pool.id, messages[0]).data();
                  counts[1] = mappings();
                  counts[2] = unpack<SharedArray<int>>(pool.id, messages[0]).data() == first ? 1 : 0;
                  for (const auto& message : messages)
                    static_cast<void>(unpack<SharedArray<int>>(pool.id, message));
                  counts[3] = mappings();
                  const auto held = unpack<SharedArray<int>>(pool.id, messages[1]);
                  kindred::internal::IdleArrays sleep;
                  sleep.release_if_due();
                  counts[6] = mappings();
                  counts[7] = sleep.or_earlier({}) ? 1 : 0;
                  kindred::internal::release_idle_arrays();
                  counts[8] = kindred::internal::IdleArrays{}.or_earlier({}) ? 1 : 0;
                  counts[4] = mappings();
                  counts[5] = static_cast<std::size_t>(held[9]);
                }};
  CHECK(worker.end() == 0);
  CHECK((*seen)[0] == 30);
  CHECK((*seen)[1] == 31);
  CHECK((*seen)[2] == 1);
  CHECK((*seen)[3] == 38);
  CHECK((*seen)[4] == 31);
  CHECK((*seen)[5] == 0);
  CHECK((*seen)[6] == 38);
  CHECK((*seen)[7] == 1);
  CHECK((*seen)[8] == 0);
}

TEST_CASE("empty arrays and empty handles cross too") {
  Pool pool;
  const auto none = pool.registry.make_array<int>(0);
  CHECK(none.empty());
  CHECK(none.mutable_span().empty());
  CHECK(unpack<SharedArray<int>>(pool.id, pack(pool.id, none)).empty());
  CHECK(unpack<SharedArray<int>>(pool.id, pack(pool.id, SharedArray<int>{})).size() == 0);
  auto one = pool.registry.make_array<int>(1);
  auto moved = std::move(one);
  CHECK(one.empty());  // NOLINT: a moved-from handle is an empty one
  CHECK(moved.size() == 1);
  const std::span<const int> span = moved;
  CHECK(span.data() == moved.data());
}

TEST_CASE("a SharedArray is made in a worker by make_shared_array, and in the parent by its executor") {
  CHECK_THROWS_CONTAINS(make_shared_array<int>(3), UsageError, "make_array() of the executor");
}

TEST_CASE("what a worker says of an array is checked by the parent") {
  using namespace kindred::internal;
  Pool pool;
  const auto memory = std::make_shared<SharedMemory>(SharedMemory::create("test", 4096));
  const auto message = [&](std::uint64_t context, std::uint64_t id, std::uint64_t size, std::uint32_t each,
                           std::uint32_t attachment) {
    Message made;
    Encoder encoder{pool.id, {}, &grow_vector, &made.bytes};
    encoder.write_value(context);
    encoder.write_value(id);
    encoder.write_value(size);
    encoder.write_value(each);
    encoder.write_value(attachment);
    made.bytes.resize(encoder.size());
    made.memories.push_back(memory);
    return made;
  };
  const auto context = pool.id.value;
  const std::uint64_t theirs = (std::uint64_t{2} << 32U) | 1;
  const auto take = [&](const Message& made) { return unpack<SharedArray<int>>(pool.id, made); };
  CHECK(take(message(context, theirs, 1024, 4, 0)).size() == 1024);
  CHECK_THROWS_CONTAINS(take(message(context, theirs, 1025, 4, 0)), DecodeError,
                        "4100 bytes came with a memory of 4096");
  CHECK_THROWS_CONTAINS(take(message(context, theirs, ~std::uint64_t{0} / 4 + 2, 4, 0)), DecodeError,
                        "elements");
  CHECK_THROWS_CONTAINS(take(message(context, theirs, 10, 8, 0)), DecodeError,
                        "8 bytes where 4 are expected");
  CHECK_THROWS_CONTAINS(take(message(context, theirs, 10, 4, 7)), DecodeError, "did not come");
  CHECK_THROWS_CONTAINS(take(message(context + 4, theirs, 10, 4, 0)), DecodeError, "holds no SharedArray");
  // Its own array under the id of the parent's is refused by size; of the same size, it is the parent's that
  // is had.
  const auto mine = pool.registry.make_array<int>(10);
  Message own = pack(pool.id, mine);
  std::uint64_t id = 0;
  std::memcpy(&id, own.bytes.data() + 8, sizeof id);
  CHECK_THROWS_CONTAINS(take(message(context, id, 11, 4, 0)), DecodeError, "under the id");
  CHECK(take(message(context, id, 10, 4, 0)) == mine);
}

TEST_CASE("memory that could be cut or has holes is not taken from a worker") {
  using namespace kindred::internal;
  const auto adopt = [](unsigned seals, off_t size) {
    const int fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(::ftruncate(fd, size) == 0);
    if (seals != 0) REQUIRE(::fcntl(fd, F_ADD_SEALS, seals) == 0);
    return SharedMemory::adopt(Descriptor{fd}, 1);
  };
  CHECK_THROWS_CONTAINS(adopt(0, 4096), UsageError, "not sealed");
  CHECK_THROWS_CONTAINS(adopt(F_SEAL_SHRINK, 1 << 20), UsageError, "are allocated");
  CHECK_THROWS_CONTAINS(adopt(F_SEAL_SHRINK, 0), UsageError, "came");
}

TEST_CASE("crossing costs the same for an array of any size") {
  Pool pool;
  Worker worker{pool, [&] {}};
  worker.end();
  const auto cost = [&](std::size_t bytes) {
    const auto array = pool.registry.make_array<std::byte>(bytes);
    const Message first = pack(pool.id, array);
    std::vector<std::chrono::nanoseconds> times;
    for (int i = 0; i < 51; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const Message message = pack(pool.id, array);
      const Reader reader{pool.id, message};
      times.push_back(std::chrono::steady_clock::now() - begin);
    }
    std::nth_element(times.begin(), times.begin() + 25, times.end());
    return times[25];
  };
  const auto small = cost(4096);
  const auto large = cost(std::size_t{256} << 20U);
  MESSAGE("packed and mapped: 4 KiB ", small.count(), " ns, 256 MiB ", large.count(), " ns");
  CHECK(large < 50 * small + 1ms);  // a copy would take a hundred milliseconds
}
