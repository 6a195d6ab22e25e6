// What the parent believes of the words that a dead worker left about its map's chunk.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include "kindred/internal/items_left.hpp"
#include "kindred/internal/segment.hpp"
#include "link/lost_items.hpp"
#include "link/memory_blocks.hpp"

using namespace kindred::internal;

namespace {

constexpr AttemptId first_attempt = attempt_id(7, 1);
constexpr AttemptId second_attempt = attempt_id(7, 2);
constexpr AttemptId other_task = attempt_id(8, 1);

/// A worker's segment in which `attempt` has done three items of four bytes each, behind nine bytes.
struct Left {
  Segment segment = Segment::create({});
  ResultBlocks blocks;
  ItemProgress& words = segment.header().items;
  explicit Left(AttemptId attempt) {
    const auto room = segment.result_room();
    for (std::size_t i = 0; i < 21; ++i) room[i] = static_cast<std::byte>(i);
    words.done.store(3);
    words.kept.store(ItemProgress::all);
    words.each.store(4);
    words.kept_bytes.store(9);
    words.at.store(room.data() - reinterpret_cast<const std::byte*>(&words));
    words.attempt.store(attempt);
  }
  [[nodiscard]] ItemsLeft read(AttemptId attempt) const { return read_items_left(segment, blocks, attempt); }
};

}  // namespace

TEST_CASE("items that are done, and their results, are those of the attempt that wrote them") {
  const Left left{first_attempt};
  const ItemsLeft items = left.read(first_attempt);
  CHECK(items.known);
  CHECK(items.done == 3);
  CHECK(items.kept == 3);
  REQUIRE(items.results.size() == 9 + 3 * 4);
  CHECK(items.results.back() == std::byte{20});
}

TEST_CASE("what an attempt left in a segment is nothing that another attempt or another chunk has done") {
  for (const AttemptId dead : {second_attempt, other_task}) {
    const Left left{first_attempt};
    const ItemsLeft items = left.read(dead);
    CHECK_FALSE(items.known);
    CHECK(items.done == 0);
    CHECK(items.kept == 0);
    CHECK(items.results.empty());
  }
  const Left fresh{0};  // no chunk has run in it
  CHECK_FALSE(fresh.read(first_attempt).known);
}

TEST_CASE("counts and places that do not add up give the count, and no result") {
  constexpr auto huge = std::numeric_limits<std::uint64_t>::max();
  const auto no_result = [](const auto& spoil) {
    Left left{first_attempt};
    spoil(left.words);
    const ItemsLeft items = left.read(first_attempt);
    CHECK(items.known);
    CHECK(items.kept == 0);
    CHECK(items.results.empty());
  };
  no_result([](ItemProgress& words) { words.done.store(huge); });
  no_result([](ItemProgress& words) { words.each.store(huge); });
  no_result([](ItemProgress& words) { words.kept_bytes.store(huge); });
  no_result([](ItemProgress& words) { words.at.store(std::numeric_limits<std::int64_t>::min()); });
  no_result([](ItemProgress& words) { words.at.store(std::numeric_limits<std::int64_t>::max()); });
  no_result([](ItemProgress& words) { words.at.store(-1); });  // a block that there is not
  no_result([](ItemProgress& words) { words.at.store(8); });   // between the words and the ring
}
