// Memory on its way to a worker and back: sent along with a call, kept for the next ones, given back when
// idle, and read after the worker's death.
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "kindred/internal/task_entry.hpp"
#include "link/idle_memory.hpp"
#include "link/lost_items.hpp"
#include "link/sent_memories.hpp"
#include "support/test.hpp"
#include "unit/pool_rooms.hpp"

using namespace kindred;
using namespace kindred::internal;
using namespace kindred::test;

namespace {

std::vector<AttachmentNotice> notices_in(const Message& message) {
  std::vector<AttachmentNotice> notices(message.bytes.size() / sizeof(AttachmentNotice));
  std::memcpy(notices.data(), message.bytes.data(), notices.size() * sizeof(AttachmentNotice));
  return notices;
}

const kindred::internal::Deadline at_once{std::chrono::steady_clock::time_point{}};

/// A pool that keeps memory for large arguments and results.
struct KeepingPool : PlayedPool {
  PlayedWorker& worker = add_worker();
  int wakes = 0;
  IdleMemory memory{slots, control, cells, [this] { ++wakes; }};
  SteadyTime now = std::chrono::steady_clock::now();

  void check() {
    PoolGuard guard{mutex};
    memory.check(guard, now);
  }
  [[nodiscard]] kindred::internal::Deadline next() {
    PoolGuard guard{mutex};
    return memory.next(guard);
  }
};

/// A segment whose worker has died in the middle of a map's chunk.
struct DeadChunk {
  Segment segment = Segment::create({});
  ResultBlocks blocks;
  ItemProgress& words = segment.header().items;

  explicit DeadChunk(AttemptId attempt) {
    words.attempt = attempt;
    words.at = segment.result_room().data() - reinterpret_cast<std::byte*>(&words);
  }
  [[nodiscard]] ItemsLeft left(AttemptId attempt) const { return read_items_left(segment, blocks, attempt); }
};

}  // namespace

TEST_CASE("shared memories are sent with as many to a message as descriptors may travel in one") {
  auto [parent, worker] = MessageSocket::pair();
  Attachments memories;
  for (std::size_t i = 0; i < MessageSocket::descriptor_limit + 3; ++i)
    memories.push_back(std::make_shared<SharedMemory>(SharedMemory::create("test", 4096)));
  CHECK(send_memories(parent, 100, memories));
  std::uint64_t next = 100;
  for (const std::size_t expected : {MessageSocket::descriptor_limit, std::size_t{3}}) {
    const auto message = worker.receive(at_once);
    REQUIRE(message);
    CHECK(message->descriptors.size() == expected);
    for (const AttachmentNotice& notice : notices_in(*message)) {
      CHECK(notice.memory_id == next++);
      CHECK(notice.bytes == 4096);
    }
  }
  CHECK_FALSE(worker.receive(at_once));
}

TEST_CASE("memories cannot be sent to a worker whose socket is closed") {
  auto [parent, worker] = MessageSocket::pair();
  worker.close();
  CHECK_FALSE(send_memories(parent, 1, {std::make_shared<SharedMemory>(SharedMemory::create("test", 4096))}));
}

TEST_CASE("a block that is free wakes the supervisor once, and goes back to the system when it stays so") {
  KeepingPool pool;
  const auto block = [&] { return pool.memory.call_blocks().take(1000); };
  block().reset();
  block().reset();
  CHECK(pool.wakes == 1);
  CHECK(pool.memory.call_blocks().any_free());
  pool.check();
  const kindred::internal::Deadline due = pool.next();
  REQUIRE(due);
  CHECK(*due == pool.now + kindred::internal::idle_memory_stays);
  pool.now = *due + 1s;
  pool.check();
  CHECK_FALSE(pool.memory.call_blocks().any_free());
  pool.check();
  CHECK_FALSE(pool.next());
}

TEST_CASE("a block in use stays, however long it takes") {
  KeepingPool pool;
  const auto used = pool.memory.call_blocks().take(1000);
  pool.memory.call_blocks().take(1000).reset();
  for (int i = 0; i < 3; ++i) {
    pool.now += 1h;
    pool.check();
  }
  CHECK_FALSE(pool.memory.call_blocks().any_free());
  std::memset(used->bytes().data(), 1, 1000);
}

TEST_CASE("a worker that knows an idle block is told to forget it, by its number") {
  KeepingPool pool;
  auto block = pool.memory.call_blocks().take(1000);
  block->known_by.push_back({0, pool.worker.slot().incarnation, 7 | memory_is_kept});
  const auto mail = pool.worker.header().mail.load();
  block.reset();
  pool.check();
  pool.now = *pool.next() + 1s;
  pool.check();
  CHECK(pool.worker.header().mail.load() != mail);
  const auto message = pool.worker.socket().receive(at_once);
  REQUIRE(message);
  const auto notices = notices_in(*message);
  REQUIRE(notices.size() == 1);
  CHECK(notices[0].message == static_cast<std::uint32_t>(ParentMessage::forget));
  CHECK(notices[0].memory_id == (7 | memory_is_kept));
}

TEST_CASE("a block for results that was just freed stays for the next result, and goes when none came") {
  const auto segment = std::make_shared<Segment>(Segment::create({}));
  int freed = 0;
  ResultBlocks blocks{segment, [&] { ++freed; }};
  blocks.add(3, std::make_shared<SharedMemory>(SharedMemory::create("test", 4096)));
  std::vector<std::size_t> forgotten;
  const auto release = [&] {
    return blocks.release_idle([&](std::size_t place) { forgotten.push_back(place); });
  };
  auto lent = blocks.lend(3);
  CHECK_FALSE(release());
  CHECK(segment->header().free_result_blocks == 0);
  CHECK(forgotten.empty());  // a future has it
  lent.reset();
  CHECK(freed == 1);
  CHECK(segment->header().free_result_blocks == std::uint64_t{1} << 3U);
  CHECK(release());
  CHECK(forgotten.empty());
  CHECK_FALSE(release());
  CHECK(forgotten == std::vector<std::size_t>{3});
  CHECK(blocks.at(3) == nullptr);
}

TEST_CASE(
    "results of the items that were done are read from a dead worker's ring, and only of that attempt") {
  const AttemptId attempt = attempt_id(7, 1);
  DeadChunk chunk{attempt};
  for (std::size_t i = 0; i < 32; ++i) chunk.segment.result_room()[i] = static_cast<std::byte>(i);
  chunk.words.done = 3;
  chunk.words.kept = ItemProgress::all;
  chunk.words.each = 8;
  chunk.words.kept_bytes = 8;
  const ItemsLeft left = chunk.left(attempt);
  CHECK(left.known);
  CHECK(left.done == 3);
  CHECK(left.kept == 3);
  REQUIRE(left.results.size() == 32);
  CHECK(left.results[31] == std::byte{31});
  CHECK_FALSE(chunk.left(attempt_id(7, 2)).known);
}

TEST_CASE("words of a dead worker that do not add up keep no result, and read nothing beyond the ring") {
  const AttemptId attempt = attempt_id(7, 1);
  const auto size = Segment::create({}).result_room().size();
  struct Row {
    std::uint64_t done, each, kept_bytes;
    std::int64_t shift;
  };
  for (const Row& row : {Row{UINT64_MAX, 8, 0, 0}, Row{1, UINT64_MAX, 0, 0}, Row{1, 8, size, 0},
                         Row{1, 8, UINT64_MAX, 0}, Row{1, 8, 8, -100'000}, Row{1, 8, 8, INT64_MAX / 2},
                         Row{1, 0, 9, static_cast<std::int64_t>(size) - 8}}) {
    CAPTURE(row.done);
    CAPTURE(row.kept_bytes);
    CAPTURE(row.shift);
    DeadChunk chunk{attempt};
    chunk.words.done = row.done;
    chunk.words.each = row.each;
    chunk.words.kept_bytes = row.kept_bytes;
    chunk.words.kept = ItemProgress::all;
    chunk.words.at = chunk.words.at.load() + row.shift;
    const ItemsLeft left = chunk.left(attempt);
    CHECK(left.known);
    CHECK(left.kept == 0);
    CHECK(left.results.empty());
  }
}

TEST_CASE(
    "a chunk's failure keeps its call and throws its cause, and only an entry says that a task is a chunk") {
  static constexpr EntryInfo chunk_entry{nullptr, "chunk", false, true};
  static constexpr EntryInfo plain_entry{nullptr, "plain", false};
  CodeBook code;
  for (const EntryInfo* const entry : {&chunk_entry, &plain_entry}) {
    alignas(TaskState) std::byte memory[sizeof(TaskState)];
    const auto& task = *::new (memory) TaskState{nullptr, 7, code.reference(entry), 0};
    CHECK(runs_items(task, code) == entry->runs_items);
  }
  const LostItems lost{std::make_unique<StoredFailure<UsageError>>(UsageError{"the cause"}),
                       {.known = true, .done = 5}};
  CHECK(lost.keeps_call());
  CHECK(lost.left().done == 5);
  CHECK_THROWS_CONTAINS(std::rethrow_exception(lost.make()), UsageError, "the cause");
}
