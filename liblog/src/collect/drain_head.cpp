// What comes next in a lane: a record, or controls and pieces before it.
#include <algorithm>
#include <utility>

#include "collect/drain.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t max_task_names = 65536;

}  // namespace

const std::string& Drain::task_name(std::uint64_t function) {
  static const std::string none;
  if (function == 0 || !hooks_.task_name) return none;
  const auto known = task_names_.find(function);
  if (known != task_names_.end()) return known->second;
  if (task_names_.size() >= max_task_names)
    task_names_.clear();  // a process that invents functions must not fill our memory
  std::string name;
  try {
    name = hooks_.task_name(function);
  } catch (const std::exception&) {
    name.clear();  // a name is a convenience: the record goes on without
  }
  return task_names_.emplace(function, std::move(name)).first->second;
}

bool Drain::apply_thread(Source& source, LaneInput& lane, ByteReader& control) {
  const auto tid = control.value<std::uint32_t>();
  const auto reset = control.value<std::uint32_t>();
  const auto sequence = control.value<std::uint64_t>();
  const auto dropped = control.value<std::uint64_t>();
  const auto pid = control.value<std::uint64_t>();
  if (!control.ok()) return false;
  if (reset != 0) lane.forget_attribution();
  lane.forget_facts();
  lane.record.tid = tid;
  if (source.identity.pid == 0)
    lane.record.pid = static_cast<std::uint32_t>(pid);  // until our own side says it
  lane.next_sequence = sequence;
  if (dropped > lane.dropped_told) note_drops(source, lane, dropped, lane.last_tick);
  return true;
}

bool Drain::apply_task(LaneInput& lane, ByteReader& control) {
  const auto id = control.value<std::uint64_t>();
  const auto function = control.value<std::uint64_t>();
  const auto attempt = control.value<std::uint32_t>();
  const auto name = control.text(control.value<std::uint32_t>());
  if (!control.ok()) return false;
  lane.forget_facts();
  lane.record.task_id = id;
  lane.record.attempt = attempt;
  if (!name.empty())
    lane.record.task_name = name.substr(0, longest_context_name);
  else if (id != 0)
    lane.record.task_name = task_name(function);
  else
    lane.record.task_name.clear();
  return true;
}

bool Drain::apply_control(Source& source, LaneInput& lane) {
  scratch_.bytes.resize(lane.head.size);
  const RecordHead head = lane.head;
  if (!lane.reader.take(head, scratch_.bytes.data())) return true;  // given up: the next block says it again
  ByteReader control{std::span<const std::byte>{scratch_.bytes}.subspan(control_head_bytes)};
  switch (head.site) {
    case record_site::padding: return true;
    case record_site::thread: return apply_thread(source, lane, control);
    case record_site::task: return apply_task(lane, control);
    case record_site::scope: return lane.take_scope(control);
    case record_site::binding: return lane.take_binding(control, head.slot);
    default: return false;
  }
}

bool Drain::take_piece(LaneInput& lane) {
  scratch_.bytes.resize(lane.head.size);
  if (!lane.reader.take(lane.head, scratch_.bytes.data())) return true;
  ByteReader piece{std::span<const std::byte>{scratch_.bytes}.subspan(record_head_bytes)};
  return lane.take_piece(piece);
}

bool Drain::load_any_head(Source& source, LaneInput& lane, std::uint64_t now) {
  while (!lane.has_head) {
    if (!lane.reader.peek(lane.head)) {
      if (lane.reader.corrupt() &&
          lose(source, "a record's size or a lane's cursor is impossible") == Taken::gone)
        lane.reader.skip_unreadable();
      return false;
    }
    const auto site = lane.head.site;
    if (lane.head.ticks == 0 && site >= record_site::first_control && site < record_site::first_timed) {
      if (!apply_control(source, lane) && lose(source, "a control is none that exists") == Taken::corrupt)
        return false;
      continue;
    }
    // A lane's own order goes before its clock: a tick that runs back is bent to fit, and so is one that is
    // not yet (but one that is younger than this round is true, and waits for the next).
    lane.tick = std::max({lane.head.ticks, lane.last_tick, source.added_at});
    if (lane.tick > now)
      lane.tick = std::max({std::min(lane.tick, ordered_ticks()), lane.last_tick, source.added_at});
    if (site == record_site::begin || site == record_site::more) [[unlikely]] {
      if (site == record_site::begin && lane.large.open) lane.large.give_up();  // it was broken off
      if (!take_piece(lane) && lose(source, "a piece of a large record makes no sense") == Taken::corrupt)
        return false;
      continue;
    }
    if (lane.large.open && site != record_site::gap) lane.large.give_up();
    lane.has_head = true;
    lane.head_position = lane.reader.position();
  }
  return true;
}

}  // namespace kindred::internal
