// The rings of calls and results by themselves: cursors that turn over, two threads, and producers that lie.
// Rows 27 and 29.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "kindred/internal/ring.hpp"
#include "support/rows.hpp"

using namespace kindred::internal;

namespace {

bool asked_for_long() {
  const char* const value = std::getenv("KINDRED_TEST_LONG");
  return value != nullptr && std::string{value} == "1";
}

template <class Cursor>
struct Ring {
  explicit Ring(std::size_t bytes) : memory(bytes / 8), room{std::as_writable_bytes(std::span{memory})} {}
  std::vector<std::uint64_t> memory;
  std::span<std::byte> room;
  RingCursors<Cursor> cursors;
  RingWriter<Cursor> writer{room, cursors};
  RingReader<Cursor> reader{room, cursors};
};

// A message: the ring's size word, then 4 bytes that say its number, then words that all say it.
bool write(auto& writer, std::uint32_t number, std::size_t bytes, bool in_known = false) {
  const auto room = in_known ? writer.reserve_in_known(bytes) : writer.reserve(bytes);
  if (room.empty()) return false;
  if (room.size() < round_to_ring(bytes)) std::abort();
  for (std::size_t at = 4; at + 4 <= round_to_ring(bytes); at += 4) std::memcpy(room.data() + at, &number, 4);
  writer.publish(bytes);
  return true;
}
bool holds(std::span<const std::byte> message, std::uint32_t number) {
  for (std::size_t at = 4; at + 4 <= message.size(); at += 4) {
    std::uint32_t word = 0;
    std::memcpy(&word, message.data() + at, 4);
    if (word != number) return false;
  }
  return true;
}

// Writes and reads in turn, at random, and keeps the books beside the ring.
template <class Cursor>
std::uint64_t drive(std::size_t bytes, std::uint64_t operations, unsigned seed) {
  Ring<Cursor> ring{bytes};
  std::mt19937 random{seed};
  std::deque<std::pair<std::uint32_t, std::size_t>> inside;  // number, rounded size
  std::uint32_t next = 0;
  std::uint64_t wrong = 0;
  std::size_t held = 0;  // taken and not released
  for (std::uint64_t i = 0; i < operations; ++i) {
    if (random() % 2 == 0) {
      const std::size_t size = 8 + random() % (bytes / 4);
      if (write(ring.writer, next, size))
        inside.emplace_back(next++, round_to_ring(size));
      else if (inside.empty() && held == 0 && round_to_ring(size) <= bytes / 2 && !ring.writer.drained())
        ++wrong;
    } else {
      const auto message = ring.reader.next();
      if (message.empty() != inside.empty()) ++wrong;
      if (!message.empty() && !inside.empty()) {
        if (message.size() != inside.front().second || !holds(message, inside.front().first)) ++wrong;
        inside.pop_front();
        ++held;
      }
      if (random() % 2 == 0) {
        ring.reader.release();
        held = 0;
      }
    }
    if (ring.reader.corrupt()) ++wrong;
    if (wrong != 0) break;
  }
  CHECK(next > operations / 8);  // it is no test where everything was full
  return wrong;
}

std::uint64_t operations() { return asked_for_long() ? 100'000'000 : 300'000; }

}  // namespace

// A case for each cursor, since the time limit is that of one case.
TEST_CASE("a ring keeps every message, once and in order, while its cursor of 8 bits turns over (row 27)") {
  const auto wrong = drive<std::uint8_t>(128, operations(), 1);
  CHECK(wrong == 0);
  kindred::test::scorecard(27, std::to_string(operations()) + " operations with cursors of 8 bits: " +
                                   std::to_string(wrong) + " errors");
}

TEST_CASE("a ring keeps every message, once and in order, while its cursor of 16 bits turns over (row 27)") {
  const auto wrong =
      drive<std::uint16_t>(256, operations() / 2, 2) + drive<std::uint16_t>(32768, operations() / 2, 3);
  CHECK(wrong == 0);
  kindred::test::scorecard(27, std::to_string(operations()) + " operations with cursors of 16 bits: " +
                                   std::to_string(wrong) + " errors");
}

TEST_CASE("a ring keeps every message, once and in order, with a cursor of 64 bits") {
  CHECK(drive<std::uint64_t>(4096, operations() / 10, 4) == 0);
}

TEST_CASE("one thread writes and another reads, and every message arrives whole") {
  const std::uint32_t messages = asked_for_long() ? 200'000 : 5'000;
  Ring<std::uint16_t> ring{
      asked_for_long() ? 16384U : 1024U};  // who yields on a busy machine waits long: many messages a turn
  std::thread producer{[&] {
    std::mt19937 random{5};
    for (std::uint32_t number = 0; number < messages;) {
      if (write(ring.writer, number, 8 + random() % 60))
        ++number;
      else
        std::this_thread::yield();
    }
  }};
  std::uint32_t next = 0;
  std::uint32_t torn = 0;
  while (next < messages && !ring.reader.corrupt()) {
    const auto message = ring.reader.next();
    if (message.empty()) {
      ring.reader.release();
      std::this_thread::yield();
      continue;
    }
    if (!holds(message, next++)) ++torn;
    if (next % 3 == 0) ring.reader.release();
  }
  producer.join();
  CHECK(next == messages);
  CHECK(torn == 0);
  CHECK(ring.reader.next().empty());
}

TEST_CASE("room that the writer learns of by itself is used without a look at the reader's cursor") {
  Ring<std::uint64_t> ring{64};
  CHECK(write(ring.writer, 1, 32));
  const auto first = ring.writer.published();
  CHECK(write(ring.writer, 2, 32));
  CHECK(ring.reader.next().size() == 32);
  ring.reader.release();
  CHECK_FALSE(write(ring.writer, 3, 32, true));  // the reader has said so, but nobody looked
  ring.writer.give_back(first + 1000);           // nonsense is not taken
  CHECK_FALSE(write(ring.writer, 3, 32, true));
  ring.writer.give_back(first);
  CHECK(write(ring.writer, 3, 32, true));
  CHECK_FALSE(ring.writer.drained());
}

TEST_CASE("a message that is not published does not exist, whatever its bytes say") {
  Ring<std::uint64_t> ring{128};
  const auto room = ring.writer.reserve(64);
  const std::uint32_t size = 64;
  std::memcpy(room.data(), &size, sizeof size);
  CHECK(ring.reader.next().empty());
  CHECK_FALSE(ring.reader.corrupt());
  CHECK(write(ring.writer, 9, 16));
  CHECK(holds(ring.reader.next(), 9));
}

TEST_CASE("a size or a cursor that lies is called corrupt, and nothing is read out of bounds (row 25)") {
  // The room lies in the middle of memory that is marked: what is handed out must lie within the room.
  std::mt19937 random{6};
  int called_corrupt = 0;
  for (int round = 0; round < 20'000; ++round) {
    Ring<std::uint64_t> ring{128};
    for (auto& word : ring.memory)
      word = (std::uint64_t{random()} << 32U) | (random() % 4 == 0 ? random() : (random() % 24) * 8);
    const std::uint64_t claimed = random() % 3 == 0 ? random() : random() % 17 * 8;
    ring.cursors.published.store(claimed);
    std::uint64_t handed_out = 0;
    for (;;) {
      const auto message = ring.reader.next();
      if (message.empty()) break;
      handed_out += message.size();
      REQUIRE(message.data() >= ring.room.data());
      REQUIRE(message.data() + message.size() <= ring.room.data() + ring.room.size());
      REQUIRE(message.size() >= ring_alignment);
      REQUIRE(handed_out <= claimed);
      REQUIRE(handed_out <= ring.room.size());  // nothing is released here
    }
    called_corrupt += ring.reader.corrupt() ? 1 : 0;
    if (claimed > 128) CHECK(ring.reader.corrupt());
    CHECK(ring.reader.next().empty());
  }
  CHECK(called_corrupt > 1000);
}

TEST_CASE("a consumer that lies about how far it has come makes no room (row 25)") {
  Ring<std::uint64_t> ring{64};
  CHECK(write(ring.writer, 1, 32));
  CHECK(write(ring.writer, 2, 32));
  for (const std::uint64_t lie :
       {std::uint64_t{65}, std::uint64_t{1000}, ~std::uint64_t{0}, std::uint64_t{1} << 63U}) {
    ring.cursors.consumed.store(lie);
    CHECK_FALSE(write(ring.writer, 3, 8));
  }
  ring.cursors.consumed.store(32);
  CHECK(write(ring.writer, 3, 32));
}
