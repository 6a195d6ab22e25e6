#include "collect/drain.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "kindred/internal/escape.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t most_task_names = 65536;
constexpr std::size_t longest_name = 4096;  ///< of a logger or a task
constexpr std::size_t record_room =
    sizeof(KeptRecord) - record_head_bytes;  ///< a record copied here has its arguments behind the head

constexpr std::size_t round_up(std::size_t bytes) noexcept { return (bytes + 7) / 8 * 8; }

void add(std::atomic<std::uint64_t>& counter, std::uint64_t count) noexcept {
  SourceCounters::add(counter, count);
}

}  // namespace

void Desk::put(LogRecord&& record, std::uint64_t at) {
  const std::lock_guard hold{lock_};
  // Order: the clock is read under the lock that the collector takes after it has read its own: what comes
  // later is younger.
  records_.push_back({at != 0 ? at : ticks(), ++last_, std::move(record)});
  count_.store(records_.size(), std::memory_order_relaxed);
}

void Desk::take(std::vector<EmittedRecord>& out) {
  const std::lock_guard hold{lock_};
  for (EmittedRecord& record : records_) out.push_back(std::move(record));
  records_.clear();
  count_.store(0, std::memory_order_relaxed);
}

Drain::Drain(const LogOptions& options, CollectorHooks hooks, std::shared_ptr<History> history)
    : sinks{options.sink_failures, options.flush_on.value_or(Level::off)},
      shape_{options},
      hold_limit_{options.hold_limit},
      hooks_{std::move(hooks)},
      history_{std::move(history)} {}

void Drain::begin() {
  clock_.emplace();
  const double a_millisecond = ticks_per_nanosecond() * 1e6;
  hold_ticks_ = static_cast<std::uint64_t>(a_millisecond * static_cast<double>(hold_limit_.count()));
  refresh_ticks_ = static_cast<std::uint64_t>(a_millisecond * 100);
  clock_read_ = ticks();
}

void Drain::set_flight(std::size_t bytes) { flight_ = std::make_unique<History>(bytes); }

void Drain::add_source(std::unique_ptr<Source> source) {
  source->control().collector.store(static_cast<std::uint32_t>(state_), std::memory_order_seq_cst);
  sources_.push_back(std::move(source));
}

Source* Drain::find_source(SourceId id) noexcept {
  for (const auto& source : sources_) {
    if (source->id == id) return source.get();
  }
  return nullptr;
}

void Drain::set_state(CollectorState state) noexcept {
  // Producers that ring set their own word to awake, so an unchanged state is written again, where it is not
  // the word already: every log call reads the word, and a write to it costs each producer's next call a line
  // of cache.
  if (state == CollectorState::awake && state_ == CollectorState::awake) return;
  state_ = state;
  const auto value = static_cast<std::uint32_t>(state);
  for (const auto& source : sources_) {
    auto& word = source->control().collector;
    if (word.load(std::memory_order_relaxed) != value) word.store(value, std::memory_order_seq_cst);
  }
}

bool Drain::stirred() const noexcept {
  if (!desk.empty()) return true;
  for (const auto& source : sources_) {
    if (source->corrupt) continue;
    auto in_use = source->control().lanes_in_use.load(std::memory_order_relaxed) &
                  ((std::uint64_t{1} << shape_.lanes) - 1);
    for (; in_use != 0; in_use &= in_use - 1) {
      const auto index = static_cast<std::size_t>(__builtin_ctzll(in_use));
      const auto& lane = source->lanes[index];
      if (lane == nullptr || lane->reader.stirred()) return true;
    }
  }
  return false;
}

std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> Drain::time_of(
    std::uint64_t tick) noexcept {
  auto time = clock_->to_system(tick).time_since_epoch().count();
  // The clock is anchored anew ten times a second, which moves it by some nanoseconds: that must not turn
  // records round. A step of the clock by more is followed.
  constexpr std::int64_t jitter = 1'000'000;
  if (tick >= last_time_tick_) {
    if (time < last_time_ && last_time_ - time < jitter) time = last_time_;
    last_time_ = time;
    last_time_tick_ = tick;
  }
  return std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>{
      std::chrono::nanoseconds{time}};
}

const std::string& Drain::task_name(std::uint64_t function) {
  static const std::string none;
  if (function == 0 || !hooks_.task_name) return none;
  const auto known = task_names_.find(function);
  if (known != task_names_.end()) return known->second;
  if (task_names_.size() >= most_task_names)
    task_names_.clear();  // a process that invents functions must not fill our memory
  std::string name;
  try {
    name = hooks_.task_name(function);
  } catch (const std::exception&) {
    name.clear();  // a name is a convenience: the record goes on without
  }
  return task_names_.emplace(function, std::move(name)).first->second;
}

void Drain::set_corrupt(Source& source, const char* what) {
  if (source.corrupt) return;
  source.corrupt = true;
  add(counters.corrupt_sources, 1);
  corrupt_news_.emplace_back(source.id, what);
  note(
      source, Level::critical,
      fmt::format("{} wrote nonsense into its log ({}); what follows of it is not read", source.name(), what),
      ticks());
}

Drain::Taken Drain::lose(Source& source, const char* what) {
  if (!source.is_trusted()) {
    set_corrupt(source, what);
    return Taken::corrupt;
  }
  add(counters.unreadable, 1);
  ++source.unreadable;
  source.unreadable_why = what;
  // At once, then once in a tenth of a second: a call in a loop must not make a second flood.
  const std::uint64_t now = ticks();
  if (source.unreadable_told_at == 0 || now - source.unreadable_told_at > refresh_ticks_)
    note_unreadable(source, now);
  return Taken::gone;
}

void Drain::note_unreadable(Source& source, std::uint64_t tick) {
  const auto count = source.unreadable - source.unreadable_told;
  source.unreadable_told = source.unreadable;
  source.unreadable_told_at = tick;
  note(source, Level::error,
       fmt::format("{} record{} of {} could not be read ({}), and {} lost here", count, count == 1 ? "" : "s",
                   source.name(), source.unreadable_why, count == 1 ? "is" : "are"),
       tick);
}

// ----------------------------------------------------------------------------------------------------------------------------
// Controls, pieces, and which record comes next

bool Drain::apply_control(Source& source, LaneInput& lane) {
  scratch_.resize(lane.head.size);
  const RecordHead head = lane.head;
  if (!lane.reader.take(head, scratch_.data())) return true;  // given up: the next block says it again
  ByteReader reader{std::span<const std::byte>{scratch_}.subspan(control_head_bytes)};
  switch (head.site) {
    case record_site::padding: return true;
    case record_site::thread: {
      const auto tid = reader.value<std::uint32_t>();
      const auto reset = reader.value<std::uint32_t>();
      const auto sequence = reader.value<std::uint64_t>();
      const auto dropped = reader.value<std::uint64_t>();
      const auto pid = reader.value<std::uint64_t>();
      if (!reader.ok()) return false;
      if (reset != 0) lane.forget_attribution();
      lane.record.tid = tid;
      if (source.identity.pid == 0)
        lane.record.pid = static_cast<std::uint32_t>(pid);  // until our own side says it
      lane.next_sequence = sequence;
      if (dropped > lane.dropped_told) note_drops(source, lane, dropped, lane.last_tick);
      return true;
    }
    case record_site::task: {
      const auto id = reader.value<std::uint64_t>();
      const auto function = reader.value<std::uint64_t>();
      const auto attempt = reader.value<std::uint32_t>();
      const auto name = reader.text(reader.value<std::uint32_t>());
      if (!reader.ok()) return false;
      lane.record.task_id = id;
      lane.record.attempt = attempt;
      if (!name.empty())
        lane.record.task_name = name.substr(0, longest_name);
      else if (id != 0)
        lane.record.task_name = task_name(function);
      else
        lane.record.task_name.clear();
      return true;
    }
    case record_site::scope: {
      const auto bytes = reader.rest();
      std::uint32_t count = 0;
      if (bytes.size() >= sizeof count) std::memcpy(&count, bytes.data(), sizeof count);
      if (count == 0)
        lane.scope.clear();
      else
        lane.scope.assign(bytes.begin(), bytes.end());
      lane.forget_fields();
      return true;
    }
    case record_site::binding: {
      if (head.slot >= lane.slots.size()) return false;
      const auto name = reader.text(reader.value<std::uint32_t>());
      if (!reader.ok()) return false;
      const auto bytes = reader.rest();
      std::uint32_t count = 0;
      if (bytes.size() >= sizeof count) std::memcpy(&count, bytes.data(), sizeof count);
      LaneInput::Slot& slot = lane.slots[head.slot];
      slot.known = true;
      slot.name = name.substr(0, longest_name);
      if (count == 0)
        slot.fields.clear();
      else
        slot.fields.assign(bytes.begin(), bytes.end());
      lane.forget_fields();
      return true;
    }
    default: return false;
  }
}

bool Drain::take_piece(LaneInput& lane) {
  const RecordHead head = lane.head;
  scratch_.resize(head.size);
  if (!lane.reader.take(head, scratch_.data())) {
    return true;
  }
  ByteReader reader{std::span<const std::byte>{scratch_}.subspan(record_head_bytes)};
  if (head.site == record_site::begin) {
    const auto total = reader.value<std::uint64_t>();
    const auto site = reader.value<std::uint32_t>();
    static_cast<void>(reader.value<std::uint32_t>());
    if (!reader.ok() || total > longest_text + (2U << 20U) || reader.left() > total) return false;
    lane.large_open = true;
    lane.large_total = total;
    lane.large_site = site;
    lane.large_slot = head.slot;
    lane.large_tick = lane.tick;
    lane.large.assign(reader.rest().begin(), reader.rest().end());
  } else {
    const auto before = reader.value<std::uint64_t>();
    if (!reader.ok()) return false;
    // Where its begin was given up, the rest has no meaning (and was counted by the producer).
    if (!lane.large_open) return true;
    if (before != lane.large.size()) {
      lane.large_open = false;
      lane.large.clear();
      return true;
    }
    const auto piece =
        reader.bytes(std::min<std::size_t>(reader.left(), lane.large_total - lane.large.size()));
    lane.large.insert(lane.large.end(), piece.begin(), piece.end());
  }
  lane.large_position = lane.reader.position();
  if (lane.large.size() == lane.large_total) {
    lane.large_open = false;
    lane.head_is_large = true;
    lane.has_head = true;
    lane.head = {.size = 0, .site = lane.large_site, .ticks = lane.large_tick, .slot = lane.large_slot};
    lane.tick = lane.large_tick;
  }
  return true;
}

bool Drain::load_head(Source& source, LaneInput& lane, std::uint64_t now) {
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
    if (site == record_site::begin || site == record_site::more) {
      if (site == record_site::begin && lane.large_open) {
        lane.large_open = false;  // the one before was broken off
        lane.large.clear();
      }
      if (!take_piece(lane) && lose(source, "a piece of a large record makes no sense") == Taken::corrupt)
        return false;
      continue;
    }
    if (lane.large_open && site != record_site::gap) {
      lane.large_open = false;
      lane.large.clear();
    }
    lane.has_head = true;
    lane.head_position = lane.reader.position();
  }
  return true;
}

// ----------------------------------------------------------------------------------------------------------------------------
// The watermark

std::uint64_t Drain::bound_of(LaneInput& lane, bool entering, std::uint64_t now, bool force) const noexcept {
  const std::uint64_t published = lane.reader.known();
  const bool changed = published != lane.seen || entering != lane.seen_entering;
  if (!entering)
    lane.bound = now;  // what it will write, it enters after `now`
  else if (changed)
    lane.bound = previous_round_;  // it entered after our last look
  if (changed || !entering) lane.stuck_since = now;
  lane.seen = published;
  lane.seen_entering = entering;
  if (force || (entering && now - lane.stuck_since > hold_ticks_)) return now;
  return lane.bound;
}

std::uint64_t Drain::look_at_lanes(std::uint64_t now, bool force) {
  std::uint64_t watermark = now;
  heads_.clear();
  const auto all_lanes = (std::uint64_t{1} << shape_.lanes) - 1;
  for (const auto& source : sources_) {
    if (source->corrupt) continue;
    auto in_use = source->control().lanes_in_use.load(std::memory_order_acquire) & all_lanes;
    for (; in_use != 0; in_use &= in_use - 1) {
      const auto index = static_cast<std::uint32_t>(__builtin_ctzll(in_use));
      LaneInput* lane = source->lanes[index].get();
      if (lane == nullptr) {
        lane = &source->open_lane(index, source->identity.worker < 0);
        lane->bound = previous_round_;
        lane->last_tick = source->added_at;
      }
      const bool entering = lane->reader.look();
      if (lane->reader.corrupt()) {
        if (lose(*source, "a lane's cursor is impossible") == Taken::corrupt) break;
        lane->reader.skip_unreadable();
      }
      // The record that was to come next may have been given up by now.
      if (lane->has_head && !lane->head_is_large && lane->reader.position() != lane->head_position)
        lane->has_head = false;
      std::uint64_t bound = bound_of(*lane, entering, now, force || source->ended);
      const bool head = load_head(*source, *lane, now);
      if (source->corrupt) break;
      if (lane->large_open && !force && !source->ended && now - lane->stuck_since <= hold_ticks_)
        bound = std::min(bound, lane->large_tick - 1);
      watermark = std::min(watermark, bound);
      if (head)
        heads_.push_back({lane->tick, source.get(), lane});
      else
        lane->reader
            .release();  // there may have been controls, or pieces of a record whose writer waits for room
    }
  }
  return watermark;
}

Drain::Round Drain::round(bool force, const std::function<void()>& commands) {
  Round result;
  // Order: our time, then the barrier, then the look at each lane: order_and_watermark.md proves that a lane
  // which is not entered by then writes only what is younger.
  const std::uint64_t now = ordered_ticks();
  heavy_barrier();
  if (now - clock_read_ > refresh_ticks_) {
    clock_->refresh();
    clock_read_ = now;
  }
  // Commands before the look: a source that is added here, or was before, writes nothing older than `now`
  // unseen.
  commands();
  const std::uint64_t watermark = look_at_lanes(now, force);
  desk.take(emitted_);
  const auto older = [](const EmittedRecord& a, const EmittedRecord& b) noexcept {
    return a.tick != b.tick ? a.tick < b.tick : a.ordinal < b.ordinal;
  };
  if (!std::is_sorted(emitted_.begin(), emitted_.end(), older))
    std::sort(emitted_.begin(), emitted_.end(), older);
  commands();

  const auto younger = [](const Head& a, const Head& b) noexcept { return a.tick > b.tick; };
  std::make_heap(heads_.begin(), heads_.end(), younger);
  std::size_t next_emitted = 0;
  while (!heads_.empty() || next_emitted < emitted_.size()) {
    if (next_emitted < emitted_.size() &&
        (heads_.empty() || emitted_[next_emitted].tick <= heads_.front().tick)) {
      if (emitted_[next_emitted].tick > watermark) break;
      deliver_emitted(emitted_[next_emitted++]);
      ++result.records;
      continue;
    }
    if (heads_.front().tick > watermark) break;
    std::pop_heap(heads_.begin(), heads_.end(), younger);
    Head& head = heads_.back();
    if (head.source->corrupt) {
      heads_.pop_back();
      continue;
    }
    // As long as this lane is the oldest: no work on the heap for each of its records.
    std::uint64_t until = watermark;
    if (heads_.size() > 1) until = std::min(until, heads_.front().tick);
    if (next_emitted < emitted_.size()) until = std::min(until, emitted_[next_emitted].tick);
    bool more = true;
    do {
      const Taken taken = deliver_head(*head.source, *head.lane);
      if (taken == Taken::corrupt) {
        more = false;
        break;
      }
      if (taken == Taken::delivered) ++result.records;
      // Half of the lane at a time, so that a producer who waits is woken rarely and has much room then.
      if (head.lane->reader.unreleased() > head.lane->reader.capacity() / 2) head.lane->reader.release();
      more = load_head(*head.source, *head.lane, now) && !head.source->corrupt;
    } while (more && head.lane->tick <= until);
    if (more) {
      head.tick = head.lane->tick;
      std::push_heap(heads_.begin(), heads_.end(), younger);
    } else {
      if (!head.source->corrupt) head.lane->reader.release();
      heads_.pop_back();
    }
  }
  for (const Head& head : heads_) {
    if (!head.source->corrupt) head.lane->reader.release();
  }
  emitted_.erase(emitted_.begin(), emitted_.begin() + static_cast<std::ptrdiff_t>(next_emitted));
  result.pending = !heads_.empty() || !emitted_.empty();
  for (const auto& source : sources_) {
    for (const auto& lane : source->lanes) {
      if (lane != nullptr && lane->large_open && !source->corrupt && !source->ended) result.pending = true;
    }
  }
  history_->publish();
  for (const auto& [id, what] : std::exchange(corrupt_news_, {})) {
    if (hooks_.corrupt) hooks_.corrupt(id, what);
  }
  for (auto& text : sinks.take_notes()) {
    LogRecord record;
    record.level = Level::error;
    record.message = std::move(text);
    record.origin = Origin::lifecycle;
    desk.put(std::move(record), 0);
  }
  previous_round_ = now;
  result.began = now;
  result.watermark = watermark;
  return result;
}

// ----------------------------------------------------------------------------------------------------------------------------
// Delivery

bool Drain::mark_late(std::uint64_t tick) noexcept {
  if (tick >= last_tick_) {
    last_tick_ = tick;
    return false;
  }
  add(counters.late, 1);
  return true;
}

void Drain::to_sinks(LogRecord& record) {
  if (!on_record) return sinks.write(record);
  patched_ = record;
  try {
    on_record(patched_);
  } catch (const std::exception& error) {
    patched_ = record;
    patched_.fields.push_back({"on_record", FieldValue{std::string{"threw: "} + error.what()}});
  } catch (...) {
    patched_ = record;
    patched_.fields.push_back({"on_record", FieldValue{std::string{"threw"}}});
  }
  sinks.write(patched_);
}

bool Drain::is_for_flight(const LaneInput& lane) const noexcept {
  if (flight_ == nullptr) return false;
  const auto& record = lane.record;
  Level level = levels.level;
  if (!worker_levels.empty()) {
    if (const auto own = worker_levels.find(record.worker); own != worker_levels.end()) level = own->second;
  }
  return record.level < (record.logger.empty() ? level : levels.level_of(record.logger, level));
}

/// As `lose`, for a record that is still in its lane: the parent's is passed over.
Drain::Taken Drain::lose_head(Source& source, LaneInput& lane, bool large, const char* what) {
  if (lose(source, what) == Taken::corrupt) return Taken::corrupt;
  add(counters.committed, 1);
  if (large) {
    lane.large.clear();
  } else {
    scratch_.resize(lane.head.size);
    static_cast<void>(lane.reader.take(lane.head, scratch_.data()));
  }
  return Taken::gone;
}

Drain::Taken Drain::deliver_head(Source& source, LaneInput& lane) {
  lane.has_head = false;
  lane.last_tick = lane.tick;
  const RecordHead head = lane.head;
  const bool large = std::exchange(lane.head_is_large, false);
  if (!large && head.site >= record_site::first_timed && head.site != record_site::inlined)
    return deliver_special(source, lane);
  if (head.slot >= lane.slots.size() || (head.slot != 0 && !lane.slots[head.slot].known)) {
    return lose_head(source, lane, large, "a record names a logger that was never sent");
  }

  // Copied once, to where it is kept: what is read of it from there on is private memory.
  const LaneInput::Slot& slot = lane.slots[head.slot];
  const std::size_t texts =
      slot.name.size() + lane.record.task_name.size() + lane.scope.size() + slot.fields.size();
  const std::size_t payload = large ? lane.large.size() : head.size - record_head_bytes;
  const std::size_t most = round_up(sizeof(KeptRecord) + payload + texts);
  const bool keep = most <= history_->longest();
  std::byte* entry;
  if (keep) {
    entry = history_->reserve(most);
  } else {
    scratch_.resize(most);
    entry = scratch_.data();
  }
  if (large) {
    std::memcpy(entry + sizeof(KeptRecord), lane.large.data(), payload);
    lane.large.clear();
    if (lane.large.capacity() > 1024 * 1024) lane.large.shrink_to_fit();
  } else if (!lane.reader.take(head, entry + record_room)) {
    return Taken::gone;
  }

  const Site* site;
  std::size_t offset = 0;
  if (head.site == record_site::inlined) {
    std::uint32_t bytes = 0;
    if (payload >= sizeof bytes) std::memcpy(&bytes, entry + sizeof(KeptRecord), sizeof bytes);
    site = bytes >= site_head_bytes && bytes <= payload
               ? intern_site(std::span<const std::byte>{entry + sizeof(KeptRecord), bytes})
               : nullptr;
    offset = bytes;
  } else {
    site = source.site(head.site);
  }
  if (site == nullptr) {
    add(counters.committed, 1);
    return lose(source, "a record's site is none that was written");
  }
  add(source.counters->bytes, payload + record_head_bytes);
  add(counters.bytes, payload + record_head_bytes);
  return deliver(source, lane, site, entry, offset, payload - offset, keep);
}

Drain::Taken Drain::deliver(Source& source, LaneInput& lane, const Site* site, std::byte* entry,
                            std::size_t offset, std::size_t arguments, bool keep) {
  LogRecord& record = lane.record;
  const std::uint32_t slot_index = lane.head.slot;
  const LaneInput::Slot& slot = lane.slots[slot_index];
  if (lane.record_site != site) {
    lane.record_site = site;
    record.level = site->level();
    record.level_name = site->level_name();
    record.source = site->source();
  }
  bool sense = true;
  if (lane.record_slot != slot_index) {
    lane.record_slot = slot_index;
    record.origin = origin_of_logger(slot.name);
    record.logger = record.origin == Origin::log ? std::string_view{slot.name} : std::string_view{};
    sense = lane.set_base_fields(slot_index);
  } else if (!lane.fields_are_base) {
    sense = lane.set_base_fields(slot_index);
  }
  record.time = time_of(lane.tick);
  record.sequence = lane.next_sequence++;
  const bool flight = is_for_flight(lane);
  record.late = !flight && mark_late(lane.tick);

  const KeptRecord kept{.bytes = static_cast<std::uint32_t>(
                            round_up(sizeof(KeptRecord) + offset + arguments + slot.name.size() +
                                     record.task_name.size() + lane.scope.size() + slot.fields.size())),
                        .arguments = static_cast<std::uint32_t>(arguments),
                        .site = site,
                        .time = record.time.time_since_epoch().count(),
                        .task_id = record.task_id,
                        .sequence = record.sequence,
                        .worker = record.worker,
                        .incarnation = record.incarnation,
                        .pid = record.pid,
                        .tid = record.tid,
                        .attempt = record.attempt,
                        .scope_bytes = static_cast<std::uint32_t>(lane.scope.size()),
                        .binding_bytes = static_cast<std::uint32_t>(slot.fields.size()),
                        .logger_bytes = static_cast<std::uint16_t>(slot.name.size()),
                        .task_name_bytes = static_cast<std::uint16_t>(record.task_name.size()),
                        .arguments_offset = static_cast<std::uint32_t>(offset),
                        .origin = record.origin,
                        .late = record.late,
                        .taken = false,
                        .spare = 0,
                        .room = {}};
  if (keep) {
    std::byte* end = entry + sizeof kept + offset + arguments;
    const auto put = [&end](const void* bytes, std::size_t count) {
      if (count != 0) std::memcpy(end, bytes, count);
      end += count;
    };
    put(slot.name.data(), slot.name.size());
    put(record.task_name.data(), record.task_name.size());
    put(lane.scope.data(), lane.scope.size());
    put(slot.fields.data(), slot.fields.size());
    std::memcpy(entry, &kept, sizeof kept);
  }

  add(counters.committed, 1);
  add(source.counters->records, 1);
  if (flight) {
    add(counters.held_back, 1);
    if (keep && kept.bytes <= flight_->longest()) {
      std::memcpy(flight_->reserve(kept.bytes), entry, kept.bytes);
      flight_->commit(kept.bytes);
    }
    return Taken::delivered;
  }

  message_.clear();
  sense = site->format({entry + sizeof kept + offset, arguments}, message_, record.fields) && sense;
  if (!sense) {
    lane.fields_are_base = false;
    return lose(source, "a record's arguments are not what its site says");
  }
  if (site->has_fields()) lane.fields_are_base = false;
  record.message.assign(message_.view());
  if (keep) {
    source.recent[source.recent_count++ % source.recent.size()] = history_->commit(kept.bytes) + 1;
  } else {
    LogRecord cut = record;
    cut.message.resize(std::min(cut.message.size(), history_->longest() / 4));
    cut.message += fmt::format("... ({} bytes in all)", record.message.size());
    keep_emitted(cut);
  }
  if (record.late) add(source.counters->late, 1);
  to_sinks(record);
  add(counters.delivered, 1);
  if (record.message.capacity() > 1024 * 1024) {
    record.message = {};
    message_.clear();
    message_.shrink(1024 * 1024);
  }
  return Taken::delivered;
}

Drain::Taken Drain::deliver_special(Source& source, LaneInput& lane) {
  const RecordHead head = lane.head;
  scratch_.resize(head.size);
  if (!lane.reader.take(head, scratch_.data())) return Taken::gone;
  ByteReader reader{std::span<const std::byte>{scratch_}.subspan(record_head_bytes)};
  if (head.site == record_site::gap) {
    const auto dropped = reader.value<std::uint64_t>();
    const auto sequence = reader.value<std::uint64_t>();
    if (!reader.ok()) return lose(source, "a note on drops ends early");
    if (dropped > lane.dropped_told) note_drops(source, lane, dropped, lane.tick);
    lane.next_sequence = sequence;
    return Taken::gone;
  }
  if (head.site == record_site::raw) {
    const auto level_and_padding = reader.value<std::uint32_t>();
    const auto tid = reader.value<std::uint32_t>();
    const auto level = static_cast<Level>(level_and_padding & 0xffU);
    const std::size_t padding = level_and_padding >> 8U;
    if (!reader.ok() || level > Level::critical || padding > reader.left()) {
      add(counters.committed, 1);
      return lose(source, "a record of a signal handler makes no sense");
    }
    LogRecord record;
    record.time = time_of(lane.tick);
    record.level = level;
    record.message = reader.text(reader.left() - padding);
    record.worker = source.identity.worker;
    record.incarnation = source.identity.incarnation;
    record.pid = source.identity.pid;
    record.tid = tid;
    record.late = mark_late(lane.tick);
    // The raw lane has no controls: whose task it was, the lane of the thread that runs tasks knows.
    if (const auto& main = source.lanes[0]; main != nullptr) {
      record.pid = main->record.pid;
      record.task_id = main->record.task_id;
      record.task_name = main->record.task_name;
      record.attempt = main->record.attempt;
    }
    add(counters.committed, 1);
    add(source.counters->records, 1);
    keep_emitted(record);
    to_sinks(record);
    add(counters.delivered, 1);
    return Taken::delivered;
  }
  add(counters.committed, 1);
  return lose(source, "a record is of a kind that does not exist");
}

void Drain::keep_emitted(const LogRecord& record) {
  static constexpr char types[] = {static_cast<char>(ArgType::message), 0};
  const std::size_t most_message = history_->longest() / 4;
  const std::string_view message = std::string_view{record.message}.substr(0, most_message);
  const Site* const site = intern_site(SiteFacts{.format = {},
                                                 .file = record.source.file,
                                                 .function = record.source.function,
                                                 .types = {types, 1},
                                                 .level_name = record.level_name,
                                                 .line = record.source.line,
                                                 .level = std::min(record.level, Level::critical)});
  if (site == nullptr) return;
  std::vector<std::byte> fields;
  if (!record.fields.empty()) encode_fields(fields, record.fields, most_message);
  const std::string_view logger = std::string_view{record.logger}.substr(0, 1024);
  const std::string_view task = std::string_view{record.task_name}.substr(0, 1024);
  const std::size_t arguments = sizeof(std::uint32_t) + message.size();
  const std::size_t bytes =
      round_up(sizeof(KeptRecord) + arguments + fields.size() + logger.size() + task.size());
  std::byte* const entry = history_->reserve(bytes);
  const KeptRecord kept{.bytes = static_cast<std::uint32_t>(bytes),
                        .arguments = static_cast<std::uint32_t>(arguments),
                        .site = site,
                        .time = record.time.time_since_epoch().count(),
                        .task_id = record.task_id,
                        .sequence = record.sequence,
                        .worker = record.worker,
                        .incarnation = record.incarnation,
                        .pid = record.pid,
                        .tid = record.tid,
                        .attempt = record.attempt,
                        .scope_bytes = static_cast<std::uint32_t>(fields.size()),
                        .binding_bytes = 0,
                        .logger_bytes = static_cast<std::uint16_t>(logger.size()),
                        .task_name_bytes = static_cast<std::uint16_t>(task.size()),
                        .arguments_offset = 0,
                        .origin = record.origin,
                        .late = record.late,
                        .taken = false,
                        .spare = 0,
                        .room = {}};
  std::memcpy(entry, &kept, sizeof kept);
  std::byte* end = store(entry + sizeof kept, message);
  const auto put = [&end](const void* from, std::size_t count) {
    if (count != 0) std::memcpy(end, from, count);
    end += count;
  };
  put(logger.data(), logger.size());
  put(task.data(), task.size());
  put(fields.data(), fields.size());
  const auto position = history_->commit(bytes);
  if (record.worker < 0) return;
  for (const auto& source : sources_) {
    if (source->identity.worker == record.worker && source->identity.incarnation == record.incarnation &&
        record.origin != Origin::lifecycle) {
      source->recent[source->recent_count++ % source->recent.size()] = position + 1;
    }
  }
}

void Drain::deliver_emitted(EmittedRecord& emitted) {
  LogRecord& record = emitted.record;
  if (record.time.time_since_epoch().count() == 0) record.time = time_of(emitted.tick);
  record.late = mark_late(emitted.tick);
  add(counters.emitted, 1);
  keep_emitted(record);
  to_sinks(record);
}

void Drain::note(Source& source, Level level, std::string message, std::uint64_t tick) {
  LogRecord record;
  record.level = level;
  record.message = std::move(message);
  record.worker = source.identity.worker;
  record.incarnation = source.identity.incarnation;
  record.pid = source.identity.pid;
  record.origin = Origin::lifecycle;
  record.time = time_of(tick);
  add(counters.emitted, 1);
  keep_emitted(record);
  to_sinks(record);
}

void Drain::note_drops(Source& source, LaneInput& lane, std::uint64_t dropped_in_all, std::uint64_t tick) {
  const std::uint64_t count = dropped_in_all - lane.dropped_told;
  lane.dropped_told = dropped_in_all;
  add(counters.dropped, count);
  add(source.counters->dropped, count);
  note(source, Level::warn,
       fmt::format("{}: {} record{} dropped here (lane full)", source.name(), count, count == 1 ? "" : "s"),
       tick);
}

void Drain::report_quiet_drops() {
  for (const auto& source : sources_) {
    if (source->corrupt) continue;
    if (source->unreadable != source->unreadable_told) note_unreadable(*source, ticks());
    for (const auto& lane : source->lanes) {
      if (lane == nullptr || lane->has_head || lane->reader.stirred()) continue;
      if (const auto dropped = lane->reader.dropped(); dropped > lane->dropped_told)
        note_drops(*source, *lane, dropped, ticks());
    }
    if (const auto lost = source->control().raw_lost.load(std::memory_order_relaxed);
        lost > source->raw_lost_told) {
      const auto count = lost - source->raw_lost_told;
      source->raw_lost_told = lost;
      add(counters.dropped, count);
      add(source->counters->dropped, count);
      note(*source, Level::warn,
           fmt::format("{}: {} record{} of signal handlers dropped here (one interrupted the other)",
                       source->name(), count, count == 1 ? "" : "s"),
           ticks());
    }
  }
  history_->publish();
}

// ----------------------------------------------------------------------------------------------------------------------------
// Ends

SourceEnd Drain::end_source(SourceId id) {
  SourceEnd end;
  const auto found =
      std::find_if(sources_.begin(), sources_.end(), [id](const auto& source) { return source->id == id; });
  if (found == sources_.end()) return end;
  Source& source = **found;
  if (!source.corrupt) {
    for (const auto& lane : source.lanes) {
      if (lane == nullptr) continue;
      if (lane->reader.entering()) {
        ++end.torn;
        add(counters.torn, 1);
        add(source.counters->torn, 1);
      }
      if (const auto dropped = lane->reader.dropped(); dropped > lane->dropped_told)
        note_drops(source, *lane, dropped, ticks());
    }
  }
  end.records = source.counters->records.load(std::memory_order_relaxed);
  end.dropped = source.counters->dropped.load(std::memory_order_relaxed);
  end.corrupt = source.corrupt;
  const auto count = std::min<std::uint64_t>(source.recent_count, source.recent.size());
  LogRecord record;
  TextBuffer line;
  for (std::uint64_t i = source.recent_count - count; i < source.recent_count; ++i) {
    const auto position = source.recent[i % source.recent.size()] - 1;
    const KeptRecord* const kept = history_->at(position);
    if (kept == nullptr) continue;
    if (!read_kept({reinterpret_cast<const std::byte*>(kept), kept->bytes}, record, message_)) continue;
    line.clear();
    line.push_back('[');
    line.append(record.level_name.empty() ? to_string(record.level) : std::string_view{record.level_name});
    line.append("] ");
    append_escaped(line, std::string_view{record.message}.substr(0, 1024));
    end.last_lines.emplace_back(line.view());
    end.last_tasks.push_back(record.task_id);
  }
  history_->publish();
  sources_.erase(found);
  return end;
}

void Drain::release_flight(const std::function<bool(const KeptRecord&)>& wanted) {
  if (flight_ == nullptr) return;
  flight_->each([&](KeptRecord& kept) {
    if (kept.taken || !wanted(kept)) return;
    kept.taken = true;
    LogRecord record;
    if (!read_kept({reinterpret_cast<const std::byte*>(&kept), kept.bytes}, record, message_)) return;
    record.late = true;
    if (kept.bytes <= history_->longest()) {
      std::memcpy(history_->reserve(kept.bytes), &kept, kept.bytes);
      history_->commit(kept.bytes);
    }
    counters.held_back.store(counters.held_back.load(std::memory_order_relaxed) - 1,
                             std::memory_order_relaxed);
    to_sinks(record);
    add(counters.delivered, 1);
  });
  history_->publish();
}

}  // namespace kindred::internal
