// What the log says about its sources: drops, ends, corruption.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "collect/drain.hpp"
#include "kindred/internal/escape.hpp"

namespace kindred::internal {

void Drain::set_corrupt(Source& source, const char* what) {
  if (source.corrupt) return;
  source.corrupt = true;
  add(counters.corrupt_sources, 1);
  corrupt_news_.emplace_back(source.id, what);
  note(source, Level::critical,
       fmt::format("{} has corrupted its log ({}): the rest of it is not read", source.name(), what),
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
  if (source.unreadable_told_at == 0 || now - source.unreadable_told_at > clock_.refresh_ticks())
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

/// As `lose`, for a record that is still in its lane: the parent's is passed over.
Drain::Taken Drain::lose_head(Source& source, LaneInput& lane, const char* what) {
  const bool large = std::exchange(lane.head_is_large, false);
  if (lose(source, what) == Taken::corrupt) return Taken::corrupt;
  add(counters.committed, 1);
  if (large) {
    lane.large.bytes.clear();
  } else {
    scratch_.bytes.resize(lane.head.size);
    static_cast<void>(lane.reader.take(lane.head, scratch_.bytes.data()));
  }
  return Taken::gone;
}

void Drain::note(Source& source, Level level, std::string message, std::uint64_t tick) {
  LogRecord record;
  record.level = level;
  record.message = std::move(message);
  record.worker = source.identity.worker;
  record.incarnation = source.identity.incarnation;
  record.pid = source.identity.pid;
  record.origin = Origin::lifecycle;
  record.time = clock_.time_of(tick);
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

void Drain::note_raw_lost(Source& source) {
  const auto lost = source.control().raw_lost.load(std::memory_order_relaxed);
  if (lost <= source.raw_lost_told) return;
  const auto count = lost - std::exchange(source.raw_lost_told, lost);
  add(counters.dropped, count);
  add(source.counters->dropped, count);
  note(source, Level::warn,
       fmt::format("{}: {} record{} of signal handlers dropped here (one interrupted the other)",
                   source.name(), count, count == 1 ? "" : "s"),
       ticks());
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
    note_raw_lost(*source);
  }
  history_->publish();
}

// --- ends

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
  LogRecord record;
  TextBuffer line;
  for (std::size_t back = Source::recent_told; back > 0; --back) {
    const auto position = source.recent[(source.recent_next - back) % source.recent.size()];
    if (position == 0) continue;
    const KeptRecord* const kept = history_->at(position - 1);
    if (kept == nullptr) continue;
    if (!read_kept({reinterpret_cast<const std::byte*>(kept), kept->bytes}, record, scratch_.message))
      continue;
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
    if (!read_kept({reinterpret_cast<const std::byte*>(&kept), kept.bytes}, record, scratch_.message)) return;
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
