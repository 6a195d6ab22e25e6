#include "child/result_writer.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/copy_bytes.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

// The smallest space that a result begins in. A larger result moves to more space.
constexpr std::size_t first_space = 256;
// To read how much memory the process has costs microseconds: not more often than this.
constexpr double between_looks_at_rss_nanoseconds = 5e6;

}  // namespace

Deadline announce_sleep(SegmentHeader& header) noexcept {
  KINDRED_INJECTION_POINT("worker.sleep.before_saying");
  header.sleeps.store(1, std::memory_order_relaxed);
  KINDRED_INJECTION_POINT("worker.sleep.said");
  // Order: that it sleeps before the look at the ring; pairs with the light side (or the fence) in
  // WorkerControl::wake.
  if (heavy_barrier()) [[likely]]
    return {};
  return std::chrono::steady_clock::now() + std::chrono::milliseconds{10};
}

std::span<std::byte> ResultWriter::begin() noexcept {
  const auto space = ring_.reserve(first_space);
  return space.empty() ? space : space.subspan(sizeof(ResultHeader));
}

std::span<std::byte> ResultWriter::grow(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& writer = *static_cast<ResultWriter*>(self);
  const std::size_t wanted = written.size() + more;
  if (wanted <= writer.ring_.capacity() / 2) {
    // The ring again, at the beginning of its next lap: what is written there outlives this process.
    const auto space = writer.ring_.reserve(sizeof(ResultHeader) + wanted + wanted / 4);
    if (!space.empty()) {
      const auto value = space.subspan(sizeof(ResultHeader));
      std::memmove(value.data(), written.data(), written.size());
      return value;
    }
  }
  if (wanted <= largest_in_ring && !writer.runs_items_) {
    // Not in place: `written` may lie in the same buffer.
    std::vector<std::byte> larger(std::max<std::size_t>(2 * wanted, 4096));
    copy_bytes(larger.data(), written.data(), written.size());
    writer.overflow_.swap(larger);
    return writer.overflow_;
  }
  const std::size_t space = writer.memory_.is_taken() ? 2 * wanted : wanted + wanted / 8;
  const auto memory = writer.memory_.take(space, [&writer] { writer.mailbox_.read(); });
  copy_bytes(memory.data(), written.data(), written.size());
  return memory;
}

std::int64_t ResultWriter::send_block(void* self, const std::byte* results) noexcept try {
  auto& writer = *static_cast<ResultWriter*>(self);
  ResultMemory& memory = writer.memory_;
  if (!memory.holds(results) || !memory.is_kept()) return 0;
  if (const SharedMemory* const unsent = memory.unsent()) {
    (void)writer.mailbox_.send_memory(*unsent, memory.place() | memory_is_kept);
    memory.note_sent();
  }
  return -static_cast<std::int64_t>(memory.place()) - 1;
} catch (const std::bad_alloc&) {
  return 0;
}

// What follows the header: the value, or where it lies, and the numbers of the shared memories that go along.
struct ResultWriter::Parts {
  std::span<const std::byte> bytes;
  std::vector<std::uint64_t> ids = {};
  BlockReference reference = {};
  [[nodiscard]] std::size_t size() const noexcept {
    return sizeof(ResultHeader) + round_to_ring(bytes.size()) + ids.size() * sizeof(std::uint64_t);
  }
};

// Sends the shared memories that the result needs, its own included where the value lies in one.
void ResultWriter::move_to_memory(Encoder& out, ResultHeader& result, Parts& parts) {
  for (const auto& memory : out.attachments())
    parts.ids.push_back(mailbox_.send_memory(*memory, mailbox_.next_memory_id()));
  result.attachments = static_cast<std::uint32_t>(parts.ids.size());
  if (!memory_.holds(parts.bytes.data())) return;
  const std::uint64_t id = memory_.is_kept() ? memory_.place() | memory_is_kept : mailbox_.next_memory_id();
  if (const SharedMemory* const unsent = memory_.unsent()) {
    (void)mailbox_.send_memory(*unsent, id);
    memory_.note_sent();
  }
  memory_.hand_over();
  parts.reference = {.memory_id = id, .bytes = parts.bytes.size()};
  parts.bytes = std::as_bytes(std::span{&parts.reference, 1});
  result.flags |= result_is_external;
}

std::uint64_t ResultWriter::write(CallHeader& call, Encoder& out, ResultKind kind, std::uint64_t begun,
                                  std::uint64_t calls_read) {
  ResultHeader result{};
  result.kind = kind;
  result.task_id = call.task_id;
  result.begun_ticks = begun;
  Parts parts{.bytes = out.written()};
  move_to_memory(out, result, parts);
  result.value_bytes = static_cast<std::uint32_t>(parts.bytes.size());
  if (mailbox_.lacks_memory() || (max_rss_bytes_ != 0 && grown_too_large()))
    result.flags |= result_asks_recycle;

  const std::size_t size = parts.size();
  const auto space = wait_for_space(size);
  KINDRED_ASSERT(space.size() >= size);
  std::byte* at = space.data() + sizeof result;
  if (!parts.bytes.empty() && at != parts.bytes.data())
    std::memmove(at, parts.bytes.data(), parts.bytes.size());  // mostly it was written in place
  at += round_to_ring(parts.bytes.size());
  if (!parts.ids.empty()) std::memcpy(at, parts.ids.data(), parts.ids.size() * sizeof(std::uint64_t));
  const std::uint64_t ended = ticks();
  result.ended_ticks = ended;
  std::memcpy(space.data(), &result, sizeof result);

  settle(call);
  KINDRED_INJECTION_POINT("worker.result.before_publish");
  // Crash: before this line the task is lost with the worker, after it its result is committed.
  ring_.publish(size);
  KINDRED_INJECTION_POINT("worker.result.published");
  if (bells_.ring_if_armed(calls_read)) manners_.note_parent_rung();
  KINDRED_INJECTION_POINT("worker.result.rung");
  if (memory_.is_taken()) memory_.end_result();
  return ended;
}

std::span<std::byte> ResultWriter::wait_for_space(std::size_t size) {
  auto space = ring_.reserve(size);
  while (space.empty()) {
    bells_.ring_service();
    const auto seen = header_.wake.load(std::memory_order_relaxed);
    const Deadline look_again = announce_sleep(header_);
    space = ring_.reserve(size);
    if (space.empty()) futex_wait(header_.wake, seen, look_again);
    header_.sleeps.store(0, std::memory_order_relaxed);
    if (space.empty()) space = ring_.reserve(size);
  }
  return space;
}

// A parent that is about to kill this worker for this very task has moved the state on: then nothing may come
// of it any more.
void ResultWriter::settle(CallHeader& call) noexcept {
  KINDRED_INJECTION_POINT("worker.result.before_done");
  std::uint32_t expected = call_state::begun;
  if (call.state.compare_exchange_strong(expected, call_state::done, std::memory_order_acq_rel)) return;
  for (;;) futex_wait(header_.sleeps, header_.sleeps.load(std::memory_order_relaxed));
}

bool ResultWriter::grown_too_large() {
  const auto now = ticks();
  if (static_cast<double>(now - rss_checked_) < between_looks_at_rss_nanoseconds * ticks_per_nanosecond())
    return false;
  rss_checked_ = now;
  // What is kept for large values is no growth of the task's: it goes when no more of them come.
  return resident_bytes(0) > max_rss_bytes_ + mailbox_.kept_bytes() + memory_.kept_bytes();
}

}  // namespace kindred::internal
