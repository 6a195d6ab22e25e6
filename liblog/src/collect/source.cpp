#include "collect/source.hpp"

#include <cstring>

namespace kindred::internal {

LaneInput& Source::open_lane(std::uint32_t index, bool from_now_on) {
  const auto room = area_.subspan(shape_.room_offset(index), shape_.room_bytes(index));
  lanes[index] = std::make_unique<LaneInput>(
      LaneReader<>{room, LogAreaShape::lines(area_, index), shape_.overwrites(index)});
  LaneInput& lane = *lanes[index];
  lane.room = room.data();
  if (from_now_on) {
    lane.reader.begin_at_consumed();
    lane.dropped_told = lane.reader.dropped();
  }
  lane.record.worker = identity.worker;
  lane.record.incarnation = identity.incarnation;
  lane.record.pid = identity.pid;
  return lane;
}

void Source::set_pid(std::uint32_t pid) noexcept {
  identity.pid = pid;
  for (const auto& lane : lanes) {
    if (lane == nullptr) continue;
    lane->record.pid = pid;
    lane->forget_facts();
  }
}

const Site* Source::read_site(std::uint32_t index, SiteTable& all) {
  // The dictionary has grown, or the record lies. What is read is copied first, and checked in the copy.
  const std::uint64_t used = control().site_bytes_used.load(std::memory_order_acquire);
  if (used > shape_.site_bytes) return nullptr;
  const std::byte* const dictionary = area_.data() + shape_.sites_offset();
  while (site_bytes_read_ < used && index >= sites_.size()) {
    std::uint32_t bytes = 0;
    const std::uint64_t left = used - site_bytes_read_;
    if (left < site_head_bytes) return nullptr;
    std::memcpy(&bytes, dictionary + site_bytes_read_, sizeof bytes);
    if (bytes < site_head_bytes || bytes % 8 != 0 || bytes > left) return nullptr;
    scratch_.resize(bytes);
    std::memcpy(scratch_.data(), dictionary + site_bytes_read_, bytes);
    std::memcpy(scratch_.data(), &bytes, sizeof bytes);  // as it was checked, whatever it is now
    const Site* const site = all.intern(scratch_);
    if (site == nullptr) return nullptr;
    sites_.push_back(site);
    site_bytes_read_ += bytes;
  }
  return index < sites_.size() ? sites_[index] : nullptr;
}

}  // namespace kindred::internal
