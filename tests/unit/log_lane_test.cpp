// The ring of records between a process and the collector.

#include <atomic>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "kindred/internal/lane.hpp"
#include "support/test.hpp"

using namespace kindred::internal;

namespace {

/// A lane in private memory, exactly as large as it says, so that a sanitizer sees each step beyond it.
template <class Cursor>
struct Lane {
  explicit Lane(std::size_t bytes, bool overwrite = false, Cursor begin = 0)
      : room(bytes), overwrites{overwrite} {
    lines->published = begin;
    lines->consumed = begin;
    writer = LaneWriter<Cursor>{room, *lines, overwrite, false};
    reader = LaneReader<Cursor>{room, *lines, overwrite};
    reader.begin_at_consumed();
  }
  std::vector<std::byte> room;
  std::unique_ptr<LaneLines<Cursor>> lines = std::make_unique<LaneLines<Cursor>>();
  bool overwrites;
  LaneWriter<Cursor> writer;
  LaneReader<Cursor> reader;

  /// A record whose bytes all follow from `number`.
  bool write(std::uint32_t number, std::size_t payload) {
    const std::size_t bytes = round_to_record(record_head_bytes + payload);
    std::byte* const at = writer.reserve(bytes);
    if (at == nullptr) return false;
    const std::uint64_t now = writer.enter();
    const std::uint32_t words[2] = {static_cast<std::uint32_t>(bytes), number};
    std::memcpy(at, words, sizeof words);
    std::memcpy(at + 8, &now, sizeof now);
    for (std::size_t i = record_head_bytes; i < bytes; ++i) at[i] = static_cast<std::byte>(number + i);
    writer.commit(bytes);
    return true;
  }
  /// The next record's number; nothing: there is none.
  std::optional<std::uint32_t> read() {
    for (;;) {
      RecordHead head;
      if (!reader.peek(head)) return std::nullopt;
      std::vector<std::byte> copy(head.size);
      if (!reader.take(head, copy.data())) continue;
      if (head.site == record_site::padding) continue;
      bool whole = true;
      for (std::size_t i = record_head_bytes; i < head.size; ++i)
        whole = whole && copy[i] == static_cast<std::byte>(head.site + i);
      REQUIRE(whole);
      return head.site;
    }
  }
};

template <class Cursor>
void drive(std::size_t capacity, std::size_t operations, unsigned seed) {
  INFO("seed ", seed, ", capacity ", capacity);
  std::mt19937 random{seed};
  // Begins shortly before the cursor turns over.
  Lane<Cursor> lane{capacity, false, static_cast<Cursor>(Cursor{} - 2 * capacity)};
  std::deque<std::uint32_t> inside;
  std::uint32_t next = 0;
  for (std::size_t i = 0; i < operations; ++i) {
    if (random() % 2 == 0) {
      const std::size_t payload = random() % (lane.writer.largest() - record_head_bytes + 1);
      if (lane.write(next, payload))
        inside.push_back(next++);
      else
        REQUIRE(!inside.empty());
    } else {
      lane.reader.look();
      for (std::size_t count = random() % 4; count > 0; --count) {
        const auto number = lane.read();
        REQUIRE(number.has_value() == !inside.empty());
        if (!number) break;
        REQUIRE(*number == inside.front());
        inside.pop_front();
      }
      lane.reader.release();
    }
    REQUIRE(!lane.reader.corrupt());
  }
  CHECK(next > operations / 4);
}

}  // namespace

TEST_CASE("a lane keeps every record, once and in order, while its cursor turns over (8 bits)") {
  drive<std::uint8_t>(128, 200'000, 11);
}
TEST_CASE("a lane keeps every record, once and in order, while its cursor turns over (16 bits)") {
  for (const std::size_t capacity : {256U, 4096U, 32768U}) drive<std::uint16_t>(capacity, 100'000, 12);
}
TEST_CASE("a lane keeps every record, once and in order (64 bits)") {
  drive<std::uint64_t>(4096, 200'000, 13);
}

TEST_CASE("a record that was begun and not committed is never seen, and says that it was begun") {
  Lane<std::uint64_t> lane{4096};
  REQUIRE(lane.write(1, 10));
  REQUIRE(lane.writer.reserve(32) != nullptr);
  static_cast<void>(lane.writer.enter());
  CHECK(lane.reader.look());
  CHECK(lane.reader.entering());
  CHECK(lane.read() == 1);
  CHECK(!lane.read());
  lane.writer.leave();
  CHECK(!lane.reader.look());
  CHECK(!lane.read());
}

TEST_CASE("a control in front of a record becomes visible with it, and not before") {
  Lane<std::uint64_t> lane{4096};
  std::byte* const at = lane.writer.reserve(16);
  const std::uint32_t words[2] = {16, record_site::scope};
  std::memcpy(at, words, sizeof words);
  lane.writer.pass(16);
  lane.reader.look();
  RecordHead head;
  CHECK(!lane.reader.peek(head));
  REQUIRE(lane.write(7, 0));
  lane.reader.look();
  REQUIRE(lane.reader.peek(head));
  CHECK(head.site == record_site::scope);
}

TEST_CASE("one thread writes and another reads, and every record arrives") {
  constexpr std::uint32_t count = 200'000;
  Lane<std::uint16_t> lane{8192};
  std::thread writer{[&lane] {
    std::mt19937 random{5};
    for (std::uint32_t number = 0; number < count;) {
      if (lane.write(number, random() % 100))
        ++number;
      else
        lane.writer.wait_for_consumer({}, [] {});
    }
  }};
  std::uint32_t expected = 0;
  while (expected < count) {
    lane.reader.look();
    while (const auto number = lane.read()) REQUIRE(*number == expected++);
    lane.reader.release();
  }
  writer.join();
  CHECK(!lane.reader.corrupt());
}

TEST_CASE("a lane that overwrites counts each record that it gives up, and never hands out half of one") {
  for (const unsigned seed : {1U, 2U, 3U}) {
    INFO("seed ", seed);
    std::mt19937 random{seed};
    Lane<std::uint64_t> lane{8192, true};
    std::uint32_t written = 0;
    std::uint64_t read = 0;
    std::uint32_t last = 0;
    for (int i = 0; i < 50'000; ++i) {
      REQUIRE(lane.write(++written, random() % (lane.writer.largest() - record_head_bytes)));
      if (random() % 40 == 0) {
        lane.reader.look();
        for (std::size_t n = random() % 60; n > 0; --n) {
          const auto number = lane.read();
          if (!number) break;
          REQUIRE(*number > last);
          last = *number;
          ++read;
        }
      }
      REQUIRE(!lane.reader.corrupt());
    }
    lane.reader.look();
    while (lane.read()) ++read;
    CHECK(read + lane.writer.dropped() == written);
    CHECK(lane.writer.dropped() > 0);
  }
}

TEST_CASE(
    "each block of a lane that overwrites begins anew: behind padding, and where records fill the one before to its end") {
  for (const std::size_t bytes : {std::size_t{128}, std::size_t{192}}) {  // of 1024 in a block
    Lane<std::uint64_t> lane{8192, true};
    lane.writer.clear_stale();
    const std::size_t in_a_block = 1024 / bytes;
    for (std::size_t record = 0; record < 20 * in_a_block; ++record) {
      REQUIRE(lane.writer.reserve(bytes) != nullptr);
      CHECK(lane.writer.begun_block() == (record % in_a_block == 0));
      CHECK(lane.writer.is_plain(bytes) == (record % in_a_block != 0));
      lane.writer.clear_stale();
      REQUIRE(lane.write(static_cast<std::uint32_t>(record), bytes - record_head_bytes));
    }
  }
}

TEST_CASE(
    "records are overwritten while another thread reads them: what arrives is whole, and the rest is counted") {
  constexpr std::uint32_t count = 200'000;
  Lane<std::uint64_t> lane{16384, true};
  std::atomic<bool> done{false};
  std::thread writer{[&] {
    std::mt19937 random{8};
    for (std::uint32_t number = 1; number <= count; ++number) {
      if (!lane.write(number, random() % 200)) std::abort();
    }
    done = true;
  }};
  std::uint64_t read = 0;
  std::uint32_t last = 0;
  for (bool again = true; again;) {
    again = !done;
    lane.reader.look();
    while (const auto number = lane.read()) {
      REQUIRE(*number > last);
      last = *number;
      ++read;
    }
    REQUIRE(!lane.reader.corrupt());
  }
  writer.join();
  CHECK(read + lane.reader.dropped() == count);
  CHECK(last == count);
}

TEST_CASE("a lane whose bytes and cursors are nonsense is read within its bounds, and called corrupt") {
  std::size_t found = 0;
  for (unsigned seed = 0; seed < 3'000; ++seed) {
    std::mt19937_64 random{seed};
    const bool overwrite = seed % 2 == 1;
    Lane<std::uint64_t> lane{4096, overwrite};
    for (std::uint32_t number = 0; number < 20; ++number) REQUIRE(lane.write(number, random() % 80));
    for (std::uint64_t flips = random() % 8; flips > 0; --flips)
      lane.room[random() % 1024] = static_cast<std::byte>(random());
    if (random() % 2 == 0) lane.lines->published = random() >> (random() % 64);
    if (overwrite && random() % 2 == 0) lane.lines->consumed = random() >> (random() % 64);
    lane.reader.look();
    RecordHead head;
    for (int i = 0; i < 2'000 && lane.reader.peek(head); ++i) {
      std::vector<std::byte> copy(head.size);
      static_cast<void>(lane.reader.take(head, copy.data()));
    }
    if (lane.reader.corrupt()) ++found;
  }
  CHECK(found > 1'000);
}

TEST_CASE("a full lane lets its writer sleep until the reader has made room") {
  Lane<std::uint64_t> lane{4096};
  std::uint32_t number = 0;
  while (lane.write(number, 100)) ++number;
  bool nudged = false;
  CHECK(!lane.writer.wait_for_consumer(std::chrono::steady_clock::now(), [&nudged] { nudged = true; }));
  CHECK(nudged);
  std::thread reader{[&lane] {
    while (lane.lines->waits.load() == 0) std::this_thread::yield();
    lane.reader.look();
    REQUIRE(lane.read() == 0);
    lane.reader.release();
  }};
  CHECK(lane.writer.wait_for_consumer({}, [] {}));
  reader.join();
  CHECK(lane.write(number, 0));
}
