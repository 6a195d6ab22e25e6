// The worker's side without a worker: memory for large results, bells, stop requests.
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include <doctest/doctest.h>

#include "child/parent_bells.hpp"
#include "child/result_memory.hpp"
#include "child/stop_watch.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/segment.hpp"

using namespace kindred::internal;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20U;

/// Takes memory for a result, as the worker does from the first byte to the end of the call. Returns its
/// place.
std::size_t write_result(ResultMemory& memory, std::size_t bytes) {
  (void)memory.take(bytes, [] {});
  if (memory.unsent() != nullptr) memory.note_sent();
  memory.hand_over();
  const std::size_t place = memory.place();
  memory.end_result();
  return place;
}

struct Header {
  std::shared_ptr<Segment> segment = std::make_shared<Segment>(Segment::create({}));
  SegmentHeader& operator*() const { return segment->header(); }
  SegmentHeader* operator->() const { return &segment->header(); }
};

}  // namespace

TEST_CASE("a memory is sent once, and used again when the parent has let go of the result in it") {
  std::atomic<std::uint64_t> freed{0};
  ResultMemory memory{freed};
  int made = 0;
  const auto first = memory.take(mebibyte, [&] { ++made; });
  CHECK(made == 1);
  CHECK(memory.holds(first.data()));
  CHECK(memory.unsent() != nullptr);
  memory.note_sent();
  CHECK(memory.unsent() == nullptr);
  memory.hand_over();
  const std::size_t place = memory.place();
  memory.end_result();
  CHECK_FALSE(memory.is_taken());
  CHECK(freed == 0);  // a future of the parent has it
  CHECK(write_result(memory, mebibyte) != place);
  freed.fetch_or(std::uint64_t{1} << place);
  (void)memory.take(mebibyte, [&] { ++made; });
  CHECK(made == 1);
  CHECK(memory.place() == place);
  CHECK(memory.unsent() == nullptr);
  CHECK(freed == 0);  // the worker owns it
  memory.end_result();
}

TEST_CASE("what was taken and not used is free again, or gone where the parent never heard of it") {
  std::atomic<std::uint64_t> freed{0};
  ResultMemory memory{freed};
  (void)memory.take(mebibyte, [] {});
  memory.end_result();
  CHECK(memory.kept_bytes() == 0);
  const std::size_t place = write_result(memory, mebibyte);
  freed = std::uint64_t{1} << place;
  (void)memory.take(mebibyte, [] {});
  memory.end_result();
  CHECK(freed == std::uint64_t{1} << place);
  CHECK(memory.kept_bytes() >= mebibyte);
  memory.forget(place);
  CHECK(memory.kept_bytes() == 0);
  memory.forget(max_result_blocks + 7);  // the parent never says that: nothing happens
}

TEST_CASE("a result that outgrows its memory stays readable while it is copied") {
  std::atomic<std::uint64_t> freed{0};
  ResultMemory memory{freed};
  const auto small = memory.take(mebibyte, [] {});
  std::memset(small.data(), 'a', 100);
  const auto large = memory.take(4 * mebibyte, [] {});
  CHECK(large.data() != small.data());
  CHECK(small[99] == std::byte{'a'});
  CHECK(memory.holds(large.data()));
  memory.end_result();
}

TEST_CASE("results beyond those that are kept lie in memories that are used once") {
  std::atomic<std::uint64_t> freed{0};
  ResultMemory memory{freed};
  for (std::size_t i = 0; i < KeptBlocks::max_small; ++i) (void)write_result(memory, 1000);
  const auto beyond = memory.take(1000, [] {});
  CHECK_FALSE(memory.is_kept());
  CHECK(memory.holds(beyond.data()));
  CHECK(memory.unsent() != nullptr);
  memory.end_result();
}

TEST_CASE(
    "each arming is rung for once, by the bell that it names, and the supervisor's only when calls run dry") {
  const Header header;
  SharedBell waiter;
  SharedBell service;
  ParentBells bells{*header, waiter, service};
  auto arm = [&, epoch = std::uint64_t{0}](std::uint64_t bits) mutable {
    header->armed = bits | ++epoch << Armed::epoch_shift;
  };
  CHECK_FALSE(bells.ring_if_armed(0));
  arm(Armed::waiter);
  CHECK(bells.ring_if_armed(0));
  CHECK(waiter.clear());
  CHECK_FALSE(bells.ring_if_armed(0));
  CHECK_FALSE(waiter.clear());
  arm(Armed::service);
  CHECK_FALSE(bells.ring_if_armed(0));
  CHECK(service.clear());
  header->calls.published = 1000;
  arm(Armed::dry | std::uint64_t{100} << Armed::low_water_shift);
  CHECK_FALSE(bells.ring_if_armed(899));
  CHECK_FALSE(service.clear());
  CHECK_FALSE(bells.ring_if_armed(900));
  CHECK(service.clear());
}

TEST_CASE("a stop asked of one attempt is not one of the next, and reaches its token") {
  const Header header;
  StopWatch* const stop = new StopWatch{*header};  // its thread lives as long as the process
  CHECK_FALSE(stop->stop_requested());
  header->begun_attempt = attempt_id(7, 1);
  const auto token = stop->token();
  CHECK_FALSE(token.stop_requested());
  header->stop_attempt = attempt_id(7, 1);
  CHECK(stop->stop_requested());
  header->stop_signal.fetch_add(1);
  futex_wake(header->stop_signal, 1);
  while (!token.stop_requested()) std::this_thread::yield();
  header->begun_attempt = attempt_id(7, 2);
  CHECK_FALSE(stop->stop_requested());
  CHECK_FALSE(stop->token().stop_requested());
  // That thread still looks at the segment while the program ends: it is never unmapped.
  static std::shared_ptr<Segment>* volatile kept = nullptr;  // volatile, so that LeakSanitizer finds it
  kept = new std::shared_ptr<Segment>{header.segment};
  static_cast<void>(kept);
}
