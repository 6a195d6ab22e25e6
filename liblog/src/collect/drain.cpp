#include "collect/drain.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "kindred/internal/asymmetric_fence.hpp"

namespace kindred::internal {
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

std::uint64_t Drain::own_facts_ids() noexcept {
  static std::atomic<std::uint64_t> logs{0};
  return logs.fetch_add(1, std::memory_order_relaxed) << 40U;
}

void Drain::begin() {
  clock_.begin();
  hold_ticks_ = RecordClock::in_ticks(hold_limit_);
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

// --- look: the watermark

std::uint64_t Drain::bound_of(LaneInput& lane, bool entering, std::uint64_t now, bool force) const noexcept {
  LaneBound& mark = lane.watermark;
  const std::uint64_t published = lane.reader.known();
  const bool changed = published != mark.seen || entering != mark.seen_entering;
  if (!entering)
    mark.bound = now;  // what it will write, it enters after `now`
  else if (changed)
    mark.bound = previous_round_;  // it entered after our last look
  if (changed || !entering) mark.stuck_since = now;
  mark.seen = published;
  mark.seen_entering = entering;
  if (force || (entering && now - mark.stuck_since > hold_ticks_)) return now;
  return mark.bound;
}

LaneInput& Drain::lane_of(Source& source, std::uint32_t index) {
  if (LaneInput* const known = source.lanes[index].get()) return *known;
  LaneInput& lane = source.open_lane(index, source.identity.worker < 0);
  lane.watermark.bound = previous_round_;
  lane.last_tick = source.added_at;
  return lane;
}

/// Returns the lane's bound.
std::uint64_t Drain::look_at(Source& source, LaneInput& lane, std::uint64_t now, bool force) {
  const bool entering = lane.reader.look();
  if (lane.reader.corrupt()) {
    if (lose(source, "a lane's cursor is impossible") == Taken::corrupt) return now;
    lane.reader.skip_unreadable();
  }
  // The record that was to come next may have been given up by now.
  if (lane.has_head && !lane.head_is_large && lane.reader.position() != lane.head_position)
    lane.has_head = false;
  std::uint64_t bound = bound_of(lane, entering, now, force);
  const bool head = load_head(source, lane, now);
  if (source.corrupt) return now;
  if (lane.large.open && !force && now - lane.watermark.stuck_since <= hold_ticks_)
    bound = std::min(bound, lane.large.tick - 1);
  if (head)
    heads_.push_back({lane.tick, &source, &lane});
  else
    lane.reader.release();  // there may have been controls, or pieces of a record whose writer waits for room
  return bound;
}

/// Returns the watermark.
std::uint64_t Drain::look_at_lanes(std::uint64_t now, bool force) {
  std::uint64_t watermark = now;
  heads_.clear();
  const auto all_lanes = (std::uint64_t{1} << shape_.lanes) - 1;
  for (const auto& source : sources_) {
    if (source->corrupt) continue;
    auto in_use = source->control().lanes_in_use.load(std::memory_order_acquire) & all_lanes;
    for (; in_use != 0 && !source->corrupt; in_use &= in_use - 1) {
      LaneInput& lane = lane_of(*source, static_cast<std::uint32_t>(__builtin_ctzll(in_use)));
      watermark = std::min(watermark, look_at(*source, lane, now, force || source->ended));
    }
  }
  return watermark;
}

void Drain::take_emitted() {
  desk.take(emitted_);
  const auto older = [](const EmittedRecord& a, const EmittedRecord& b) noexcept {
    return a.tick != b.tick ? a.tick < b.tick : a.ordinal < b.ordinal;
  };
  if (!std::is_sorted(emitted_.begin(), emitted_.end(), older))
    std::sort(emitted_.begin(), emitted_.end(), older);
}

// --- merge: the oldest record of all lanes, and of those that the parent made, goes first

/// Delivers what is not younger than the watermark. Returns how many records that were.
std::size_t Drain::merge(std::uint64_t now, std::uint64_t watermark) {
  constexpr std::uint64_t never = ~std::uint64_t{0};
  std::make_heap(heads_.begin(), heads_.end(), Head::is_younger);
  std::size_t delivered = 0;
  std::size_t next_emitted = 0;
  for (;;) {
    const std::uint64_t emitted = next_emitted < emitted_.size() ? emitted_[next_emitted].tick : never;
    const std::uint64_t oldest = heads_.empty() ? never : heads_.front().tick;
    if (std::min(emitted, oldest) > watermark || (heads_.empty() && next_emitted == emitted_.size())) break;
    if (emitted <= oldest) {
      deliver_emitted(emitted_[next_emitted++]);
      ++delivered;
    } else {
      delivered += deliver_oldest(now, std::min(watermark, emitted));
    }
  }
  for (const Head& head : heads_) {
    if (!head.source->corrupt) head.lane->reader.release();
  }
  emitted_.erase(emitted_.begin(), emitted_.begin() + static_cast<std::ptrdiff_t>(next_emitted));
  return delivered;
}

// --- publish

bool Drain::is_pending() const noexcept {
  if (!heads_.empty() || !emitted_.empty()) return true;
  return std::ranges::any_of(sources_, [](const auto& source) {
    return !source->corrupt && !source->ended && std::ranges::any_of(source->lanes, [](const auto& lane) {
      return lane != nullptr && lane->large.open;
    });
  });
}

void Drain::publish() {
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
}

Drain::Round Drain::round(bool force, const std::function<void()>& commands) {
  Round result;
  // Order: our time, then the barrier, then the look at each lane: order_and_watermark.md proves that a lane
  // which is not entered by then writes only what is younger.
  const std::uint64_t now = ordered_ticks();
  heavy_barrier();
  clock_.refresh(now);
  // Commands before the look: a source that is added here, or was before, writes nothing older than `now`
  // unseen.
  commands();
  const std::uint64_t watermark = look_at_lanes(now, force);
  take_emitted();
  commands();

  result.records = merge(now, watermark);
  result.pending = is_pending();
  publish();
  previous_round_ = now;
  result.began = now;
  result.watermark = watermark;
  return result;
}

}  // namespace kindred::internal
