// One record on its way from its lane to the sinks.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "collect/drain.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t large_message = 1024 * 1024;  ///< memory beyond this is given back
/// A lane's record that is copied here has its arguments behind the head that is kept.
constexpr std::size_t record_room = sizeof(KeptRecord) - record_head_bytes;

}  // namespace

void Drain::to_sinks(const LogRecord& record) {
  Delivery delivery{record};
  to_sinks(delivery);
}

void Drain::to_sinks_patched(Delivery& delivery) {
  const LogRecord& record = delivery.whole();
  scratch_.patched = record;
  try {
    on_record(scratch_.patched);
  } catch (const std::exception& error) {
    scratch_.patched = record;
    scratch_.patched.fields.push_back({"on_record", FieldValue{std::string{"threw: "} + error.what()}});
  } catch (...) {
    scratch_.patched = record;
    scratch_.patched.fields.push_back({"on_record", FieldValue{std::string{"threw"}}});
  }
  Delivery patched{scratch_.patched};
  sinks.write(patched);
}

bool Drain::is_for_flight(const LaneInput& lane) const noexcept {
  const auto& record = lane.record;
  Level level = levels.level;
  if (!worker_levels.empty()) {
    if (const auto own = worker_levels.find(record.worker); own != worker_levels.end()) level = own->second;
  }
  return record.level < (record.logger.empty() ? level : levels.level_of(record.logger, level));
}

// --- a record of a lane

/// Copies the next record behind the head of `entry`: what is read of it from there on is private memory.
/// False where its producer has given it up meanwhile.
[[gnu::always_inline]] inline bool Drain::take_head(LaneInput& lane, std::size_t payload, std::byte* entry) {
  if (lane.head_is_large) [[unlikely]]
    return take_large(lane, payload, entry);
  return lane.reader.take(lane.head, entry + record_room);
}

bool Drain::take_large(LaneInput& lane, std::size_t payload, std::byte* entry) {
  lane.head_is_large = false;
  std::memcpy(entry + sizeof(KeptRecord), lane.large.bytes.data(), payload);
  lane.large.bytes.clear();
  if (lane.large.bytes.capacity() > large_message) lane.large.bytes.shrink_to_fit();
  return true;
}

/// The site of a record that is of another one than the lane's record before it; null: it makes no sense.
const Site* Drain::turn_to_site(Source& source, LaneInput& lane, std::uint32_t index, Encoded& encoded) {
  const Site* site = nullptr;
  if (index != record_site::inlined) {
    site = source.site(index, history_->sites());
  } else {
    const std::span<const std::byte> before = site_before(encoded.argument_bytes());
    encoded.offset = before.size();
    encoded.arguments -= before.size();
    if (!before.empty()) site = history_->sites().intern(before);
  }
  if (site == nullptr) return nullptr;
  lane.site_index = index != record_site::inlined ? std::uint64_t{index} : LaneInput::no_site;
  if (lane.latest_site == site) return site;
  lane.latest_site = site;
  lane.record.level = site->level();
  lane.record.level_name = site->level_name();
  lane.record.source = site->source();
  return site;
}

/// The site that stands before a record's arguments, encoded; nothing where it makes no sense.
std::span<const std::byte> Drain::site_before(std::span<const std::byte> payload) noexcept {
  std::uint32_t bytes = 0;
  if (payload.size() >= sizeof bytes) std::memcpy(&bytes, payload.data(), sizeof bytes);
  return bytes < site_head_bytes || bytes > payload.size() ? std::span<const std::byte>{}
                                                           : payload.first(bytes);
}

[[gnu::always_inline]] inline Drain::Taken Drain::deliver_head(Source& source, LaneInput& lane, Run& run) {
  lane.has_head = false;
  lane.last_tick = lane.tick;
  const RecordHead head = lane.head;
  if (head.site >= record_site::first_timed && head.site != record_site::inlined && !lane.head_is_large)
      [[unlikely]]
    return deliver_special(source, lane);
  if (!lane.is_described(head.slot)) [[unlikely]] {
    if (!lane.knows_slot(head.slot))
      return lose_head(source, lane, "a record names a logger that was never sent");
    lane.describe(head.slot, facts_ids_ += 256);
  }
  const std::size_t payload = lane.head_is_large ? lane.large.bytes.size() : head.size - record_head_bytes;
  const std::size_t bytes = round_to_record(sizeof(KeptRecord) + payload + lane.context.size());
  std::byte* const entry = history_->reserve_if_short(bytes);
  if (entry == nullptr) [[unlikely]]
    return deliver_long(source, lane, payload, bytes, run);
  return deliver<true>(source, lane, {.entry = entry, .arguments = payload, .bytes = bytes}, run);
}

/// A record that is too long to be kept.
Drain::Taken Drain::deliver_long(Source& source, LaneInput& lane, std::size_t payload, std::size_t bytes,
                                 Run& run) {
  scratch_.bytes.resize(bytes);
  return deliver<false>(source, lane, {.entry = scratch_.bytes.data(), .arguments = payload, .bytes = bytes},
                        run);
}

/// Writes what is kept of the lane's record around its bytes.
[[gnu::always_inline]] inline void Drain::put_kept(const LaneInput& lane, const Encoded& encoded) noexcept {
  auto* const kept = std::construct_at(reinterpret_cast<KeptRecord*>(encoded.entry), lane.kept);
  kept->bytes = static_cast<std::uint32_t>(encoded.bytes);
  kept->arguments = static_cast<std::uint32_t>(encoded.arguments);
  kept->site = encoded.site;
  kept->time = lane.record.time.time_since_epoch().count();
  kept->sequence = lane.record.sequence;
  kept->arguments_offset = static_cast<std::uint32_t>(encoded.offset);
  kept->late = lane.record.late;
  if (!lane.context.empty())
    std::memcpy(encoded.entry + sizeof(KeptRecord) + encoded.offset + encoded.arguments, lane.context.data(),
                lane.context.size());
}

/// To the flight recorder.
Drain::Taken Drain::hold_back(Encoded encoded, bool is_kept) {
  add(counters.held_back, 1);
  if (is_kept && encoded.bytes <= flight_->longest()) {
    std::memcpy(flight_->reserve(encoded.bytes), encoded.entry, encoded.bytes);
    flight_->commit(encoded.bytes);
  }
  return Taken::delivered;
}

/// Keeps the begin of a record that is too large for the history.
void Drain::keep_cut(Delivery& delivery) {
  LogRecord cut = delivery.whole();
  cut.message.resize(std::min(cut.message.size(), history_->longest() / 4));
  cut.message += fmt::format("... ({} bytes in all)", delivery.whole().message.size());
  keep_emitted(cut);
}

template <bool keep>
[[gnu::always_inline]] inline Drain::Taken Drain::deliver(Source& source, LaneInput& lane, Encoded encoded,
                                                          Run& run) {
  LogRecord& record = lane.record;
  const std::uint32_t index = lane.head.site;
  const std::size_t payload = encoded.arguments;
  if (!take_head(lane, payload, encoded.entry)) return Taken::gone;
  add(counters.committed, 1);
  encoded.site = lane.latest_site;
  if (index != lane.site_index) [[unlikely]] {
    encoded.site = turn_to_site(source, lane, index, encoded);
    if (encoded.site == nullptr) return lose(source, "a record's site is none that was written");
  }
  const Site& site = *encoded.site;
  run.bytes += payload + record_head_bytes;
  ++run.records;
  record.time = clock_.time_of(lane.tick);
  record.sequence = lane.next_sequence++;
  const bool flight = flight_ != nullptr && is_for_flight(lane);
  record.late = !flight && mark_late(lane.tick);
  if constexpr (keep) put_kept(lane, encoded);
  if (flight) [[unlikely]]
    return hold_back(encoded, keep);

  // Order: the record's own key-values go behind those of its scope and logger.
  const bool sense = (lane.fields_are_base || lane.set_base_fields(lane.record_slot)) &&
                     site.plan().decode(encoded.argument_bytes(), scratch_.arguments, record.fields);
  if (!sense) [[unlikely]] {
    lane.fields_are_base = false;
    return lose(source, "a record's arguments are not what its site says");
  }
  if (site.has_fields()) lane.fields_are_base = false;
  Delivery delivery{record, lane.facts_id + lane.record_slot, site, scratch_.arguments, scratch_.message};
  if constexpr (keep)
    source.note_recent(history_->commit(encoded.bytes));
  else
    keep_cut(delivery);
  if (record.late) add(source.counters->late, 1);
  to_sinks(delivery);
  add(counters.delivered, 1);
  if (delivery.is_whole()) [[unlikely]]
    give_back_memory(record, scratch_.message);
  return Taken::delivered;
}

/// Keeps no memory of a giant message.
void Drain::give_back_memory(LogRecord& record, TextBuffer& scratch) {
  if (record.message.capacity() <= large_message) return;
  record.message = {};
  scratch.clear();
  scratch.shrink(large_message);
}

/// Delivers the records of the lane with the oldest one, as far as they are not younger than `until`: no work
/// on the heap for each of them. Returns how many were delivered.
std::size_t Drain::deliver_oldest(std::uint64_t now, std::uint64_t until) {
  std::pop_heap(heads_.begin(), heads_.end(), Head::is_younger);
  Source& source = *heads_.back().source;
  LaneInput& lane = *heads_.back().lane;
  std::size_t delivered = 0;
  bool more = !source.corrupt;
  if (heads_.size() > 1) until = std::min(until, heads_.front().tick);
  Run run{source, counters};
  const std::size_t half = lane.reader.capacity() / 2;
  while (more) {
    const Taken taken = deliver_head(source, lane, run);
    if (taken == Taken::corrupt) break;
    if (taken == Taken::delivered) ++delivered;
    // Gives half of the lane back at a time: a producer that waits is woken rarely, and then has much room.
    if (lane.reader.unreleased() > half) lane.reader.release();
    more = load_plain_head(source, lane, now) || (load_any_head(source, lane, now) && !source.corrupt);
    if (more && lane.tick > until) {
      heads_.back().tick = lane.tick;
      std::push_heap(heads_.begin(), heads_.end(), Head::is_younger);
      return delivered;
    }
  }
  if (!source.corrupt) lane.reader.release();
  heads_.pop_back();
  return delivered;
}

// --- what is no record of a site

Drain::Taken Drain::take_gap(Source& source, LaneInput& lane, ByteReader& bytes) {
  const auto dropped = bytes.value<std::uint64_t>();
  const auto sequence = bytes.value<std::uint64_t>();
  if (!bytes.ok()) return lose(source, "a note on drops ends early");
  if (dropped > lane.dropped_told) note_drops(source, lane, dropped, lane.tick);
  lane.next_sequence = sequence;
  return Taken::gone;
}

/// A record of a signal handler.
Drain::Taken Drain::deliver_raw(Source& source, LaneInput& lane, ByteReader& bytes) {
  const auto level_and_padding = bytes.value<std::uint32_t>();
  const auto tid = bytes.value<std::uint32_t>();
  const auto level = static_cast<Level>(level_and_padding & 0xffU);
  const std::size_t padding = level_and_padding >> 8U;
  add(counters.committed, 1);
  if (!bytes.ok() || level > Level::critical || padding > bytes.left())
    return lose(source, "a record of a signal handler makes no sense");
  LogRecord record;
  record.time = clock_.time_of(lane.tick);
  record.level = level;
  record.message = bytes.text(bytes.left() - padding);
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
  add(source.counters->records, 1);
  keep_emitted(record);
  to_sinks(record);
  add(counters.delivered, 1);
  return Taken::delivered;
}

Drain::Taken Drain::deliver_special(Source& source, LaneInput& lane) {
  const RecordHead head = lane.head;
  scratch_.bytes.resize(head.size);
  if (!lane.reader.take(head, scratch_.bytes.data())) return Taken::gone;
  ByteReader bytes{std::span<const std::byte>{scratch_.bytes}.subspan(record_head_bytes)};
  if (head.site == record_site::gap) return take_gap(source, lane, bytes);
  if (head.site == record_site::raw) return deliver_raw(source, lane, bytes);
  add(counters.committed, 1);
  return lose(source, "a record is of a kind that does not exist");
}

// --- a record that was made here

void Drain::deliver_emitted(EmittedRecord& emitted) {
  LogRecord& record = emitted.record;
  if (record.time.time_since_epoch().count() == 0) record.time = clock_.time_of(emitted.tick);
  record.late = mark_late(emitted.tick);
  add(counters.emitted, 1);
  keep_emitted(record);
  to_sinks(record);
}

void Drain::keep_emitted(const LogRecord& record) {
  static constexpr char types[] = {static_cast<char>(ArgType::message), 0};
  const std::size_t max_message = history_->longest() / 4;
  const std::string_view message = std::string_view{record.message}.substr(0, max_message);
  const Site* const site =
      history_->sites().intern(SiteFacts{.format = {},
                                         .file = record.source.file,
                                         .function = record.source.function,
                                         .types = {types, 1},
                                         .level_name = record.level_name,
                                         .line = record.source.line,
                                         .level = std::min(record.level, Level::critical)});
  if (site == nullptr) return;
  std::vector<std::byte> fields;
  if (!record.fields.empty()) encode_fields(fields, record.fields, max_message);
  const std::string_view logger = std::string_view{record.logger}.substr(0, 1024);
  const std::string_view task = std::string_view{record.task_name}.substr(0, 1024);
  const std::size_t arguments = sizeof(std::uint32_t) + message.size();
  const std::size_t bytes =
      round_to_record(sizeof(KeptRecord) + arguments + fields.size() + logger.size() + task.size());
  std::byte* const entry = history_->reserve(bytes);
  KeptRecord kept = kept_of(record);
  kept.bytes = static_cast<std::uint32_t>(bytes);
  kept.arguments = static_cast<std::uint32_t>(arguments);
  kept.site = site;
  kept.scope_bytes = static_cast<std::uint32_t>(fields.size());
  kept.logger_bytes = static_cast<std::uint16_t>(logger.size());
  kept.task_name_bytes = static_cast<std::uint16_t>(task.size());
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
        record.origin != Origin::lifecycle)
      source->note_recent(position);
  }
}

}  // namespace kindred::internal
