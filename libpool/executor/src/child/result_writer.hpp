#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "child/cpu_manners.hpp"
#include "child/mailbox.hpp"
#include "child/parent_bells.hpp"
#include "child/result_memory.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/ring.hpp"
#include "kindred/internal/segment.hpp"

namespace kindred::internal {

/// The worker is about to sleep on the segment's wake word: says so, so that it is woken. Returns when to
/// look again though it was not woken: never, unless the kernel refuses the barrier to this process (a filter
/// of system calls that an initializer set), because then the parent may have overlooked that it sleeps.
[[nodiscard]] Deadline announce_sleep(SegmentHeader& header) noexcept;

/// Writes results into their ring: small ones in place, larger ones beside it.
class ResultWriter {
 public:
  /// `max_rss_bytes` is 0: the worker's memory has no limit.
  ResultWriter(std::span<std::byte> ring, SegmentHeader& header, std::uint64_t max_rss_bytes,
               Mailbox& mailbox, ResultMemory& memory, ParentBells& bells, CpuManners& manners) noexcept
      : header_{header},
        ring_{ring, header.results},
        max_rss_bytes_{max_rss_bytes},
        mailbox_{mailbox},
        memory_{memory},
        bells_{bells},
        manners_{manners} {}

  /// Space for the beginning of a value; empty: the parent has to take results in before.
  [[nodiscard]] std::span<std::byte> begin() noexcept;
  /// Is the call at hand a map's chunk? Then its results lie where the parent can read them after this
  /// process has died.
  void set_runs_items(bool runs_items) noexcept { runs_items_ = runs_items; }
  /// For `TaskFrame::send_block`.
  static std::int64_t send_block(void* self, const std::byte* results) noexcept;
  /// For an `Encoder` that has no more space: see there.
  static std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more);
  /// Publishes what was encoded as the result of the call, and rings the parent. `calls_read`: how far the
  /// worker has read its calls. Returns when the call ended, in ticks. Where the parent has condemned the
  /// call, it does not return.
  std::uint64_t write(CallHeader& call, Encoder& out, ResultKind kind, std::uint64_t begun,
                      std::uint64_t calls_read);

  [[nodiscard]] RingWriter<>& ring() noexcept { return ring_; }

 private:
  struct Parts;  // of a result's message
  void move_to_memory(Encoder& out, ResultHeader& result, Parts& parts);
  [[nodiscard]] std::span<std::byte> wait_for_space(std::size_t size);
  void settle(CallHeader& call) noexcept;
  [[nodiscard]] bool grown_too_large();

  SegmentHeader& header_;
  RingWriter<> ring_;
  const std::uint64_t max_rss_bytes_;
  Mailbox& mailbox_;
  ResultMemory& memory_;
  ParentBells& bells_;
  CpuManners& manners_;
  std::vector<std::byte> overflow_;  // a value that does not fit into the ring's space
  bool runs_items_ = false;
  std::uint64_t rss_checked_ = 0;  // ticks
};

}  // namespace kindred::internal
