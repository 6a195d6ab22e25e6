#include "kindred/internal/segment.hpp"

#include <memory>

#include "kindred/error.hpp"
#include "kindred/internal/clock.hpp"

namespace kindred::internal {

static_assert(sizeof(SegmentHeader) <= Segment::header_bytes);

Segment Segment::create(const SegmentShape& shape) {
  Segment segment;
  segment.shape_ = shape;
  segment.memory_ =
      SharedMemory::create("kindred-segment", header_bytes + shape.call_bytes + shape.result_bytes +
                                                  crash_bytes + shape.log_bytes);
  segment.memory_.keep_out_of_forks();
  auto* const header = std::construct_at(&segment.header());
  header->call_bytes = shape.call_bytes;
  header->result_bytes = shape.result_bytes;
  header->log_offset = header_bytes + shape.call_bytes + shape.result_bytes + crash_bytes;
  header->log_bytes = shape.log_bytes;
  header->ticks_per_nanosecond = ticks_per_nanosecond();
  header->magic = SegmentHeader::magic_value;
  return segment;
}

Segment Segment::adopt(Descriptor fd, std::size_t bytes) {
  Segment segment;
  segment.memory_ = SharedMemory::adopt(std::move(fd), bytes);
  const SegmentHeader& header = segment.header();
  if (header.magic != SegmentHeader::magic_value) {
    throw UsageError{
        "the segment that the parent sent is of another version of kindred. Build the program and its libraries anew."};
  }
  tell_ticks_per_nanosecond(header.ticks_per_nanosecond);
  segment.shape_ = {
      .call_bytes = header.call_bytes, .result_bytes = header.result_bytes, .log_bytes = header.log_bytes};
  return segment;
}

}  // namespace kindred::internal
