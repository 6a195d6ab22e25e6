#include "collect/sink_set.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "front/front.hpp"
#include "kindred/internal/console_foot.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/line_format.hpp"

namespace kindred::internal {

template <class F>
void SinkSet::guard(Slot& slot, const char* doing, F&& call) noexcept {
  try {
    if (call()) slot.failures = 0;
  } catch (const std::exception& error) {
    note_failure(slot, doing, error.what());
  } catch (...) {
    note_failure(slot, doing, "something that is no std::exception");
  }
}

void SinkSet::note_failure(Slot& slot, const char* doing, const char* what) noexcept {
  slot.failed.fetch_add(1, std::memory_order_relaxed);
  const bool last = ++slot.failures >= max_failures_;
  const auto now = std::chrono::steady_clock::now();
  try {
    const auto about =
        fmt::format("log sink {} failed {} ({} in a row): {}.{}", static_cast<std::uint64_t>(slot.id), doing,
                    slot.failures, what,
                    last ? " It is not used any more; remove it, and add it again when it is mended." : "");
    if (last) {
      take_out_of_service(slot);
      notes_.push_back(about);
    }
    if (last || now - slot.reported >= std::chrono::seconds{1}) {
      slot.reported = now;
      write_raw_to_stderr("kindred: " + about);
    }
  } catch (const std::exception&) {
    if (last) take_out_of_service(slot);
  }
}

void SinkSet::take_out_of_service(Slot& slot) noexcept {
  slot.disabled.store(true, std::memory_order_relaxed);
  slot.takes_all = false;
  only_ = nullptr;
}

void SinkSet::add(SinkId id, std::unique_ptr<Sink> sink, SinkOptions options) {
  auto slot = std::make_unique<Slot>();
  slot->id = id;
  slot->sink = std::move(sink);
  slot->options = std::move(options);
  slot->plain = slot->options.fold.count() == 0 && slot->options.flush_on == Level::off;
  slot->takes_all = slot->plain && slot->options.filter.empty();
  ever_added_ = true;
  if (LineFormat* const format = slot->sink->line_format()) {
    for (const auto& other : slots_) {
      if (const LineFormat* const its = other->sink->line_format()) format->share(*its);
    }
  }
  const std::lock_guard hold{lock_};
  slots_.push_back(std::move(slot));
  look_at_slots();
}

bool SinkSet::needs_whole(const Slot& slot) noexcept {
  return !slot.sink->takes_facts() || !slot.options.filter.empty() || slot.options.fold.count() != 0;
}

/// Under the lock.
void SinkSet::look_at_slots() noexcept {
  whole_from_ = Level::off;
  for (const auto& slot : slots_) {
    if (needs_whole(*slot)) whole_from_ = std::min(whole_from_, slot->options.level);
  }
  const bool alone = slots_.size() == 1 && slots_.front()->takes_all && !slots_.front()->retired &&
                     slots_.front()->options.level == Level::trace && whole_from_ == Level::off &&
                     flush_on_ == Level::off;
  only_ = alone ? slots_.front().get() : nullptr;
}

bool SinkSet::remove(SinkId id) {
  std::unique_ptr<Slot> gone;
  {
    const std::lock_guard hold{lock_};
    const auto found =
        std::find_if(slots_.begin(), slots_.end(), [id](const auto& slot) { return slot->id == id; });
    if (found == slots_.end()) return false;
    gone = std::move(*found);
    slots_.erase(found);
    look_at_slots();
  }
  if (!gone->disabled.load(std::memory_order_relaxed))
    guard(*gone, "to flush", [&] { return gone->tell_repeated(), gone->sink->flush(), true; });
  guard(*gone, "to close", [&] { return gone->sink.reset(), true; });
  return true;
}

void SinkSet::remove_all() {
  while (!slots_.empty()) remove(slots_.front()->id);
}

void SinkSet::retire(SinkId id) noexcept {
  for (const auto& slot : slots_) {
    if (slot->id == id) slot->retired = true, slot->takes_all = false;
  }
  only_ = nullptr;
}

void SinkSet::retire_all() noexcept {
  for (const auto& slot : slots_) slot->retired = true, slot->takes_all = false;
  only_ = nullptr;
}

bool SinkSet::accepts(const Slot& slot, Delivery& delivery) {
  const SinkOptions& options = slot.options;
  if (delivery.facts().level < options.level) return false;
  return options.filter.empty() || options.filter.accepts(delivery.whole());
}

void SinkSet::write_without_sinks(Delivery& delivery) {
  if (delivery.facts().level < Level::warn) return;
  const ConsoleLines above_a_progress_bar{is_terminal(2)};
  write_to_stderr(delivery.whole());
}

/// To a sink that may not want the record.
void SinkSet::write_choosy(Slot& slot, Delivery& delivery) noexcept {
  if (slot.disabled.load(std::memory_order_relaxed) || slot.retired) return;
  guard(slot, "to write", [&] {
    if (!accepts(slot, delivery)) return false;
    if (slot.plain)
      slot.write(delivery);
    else
      write_special(slot, delivery);
    return true;
  });
}

void SinkSet::write_to_all(Delivery& delivery) {
  if (!ever_added_) [[unlikely]]
    return write_without_sinks(delivery);
  const Level level = delivery.facts().level;
  dirty_ = true;
  delivery.number = ++last_number_;
  // First of all, so that lines are made of the message that is needed anyway.
  if (level >= whole_from_) delivery.whole();
  for (const auto& slot : slots_) {
    if (!slot->takes_all) [[unlikely]] {
      write_choosy(*slot, delivery);
      continue;
    }
    if (level < slot->options.level) continue;
    guard(*slot, "to write", [&] {
      slot->write(delivery);
      return true;
    });
  }
  if (level >= flush_on_ && flush_on_ != Level::off) flush();
}

namespace {

bool same_words(const LogRecord& a, const LogRecord& b) {
  const auto same = [](const Field& one, const Field& other) {
    return one.key == other.key && one.value == other.value;
  };
  return a.level == b.level && a.message == b.message && a.logger == b.logger &&
         a.level_name == b.level_name && a.origin == b.origin && std::ranges::equal(a.fields, b.fields, same);
}

}  // namespace

/// Repeats the record what the one before it said? Then it is only counted, and not written.
bool SinkSet::Slot::folds(const LogRecord& record) {
  const auto now = std::chrono::steady_clock::now();
  if (first_at != std::chrono::steady_clock::time_point{} && now - first_at < options.fold &&
      same_words(record, latest)) {
    latest = record;  // whose, and when: as of the last one
    ++repeated;
    return true;
  }
  tell_repeated();
  latest = record;
  first_at = now;
  return false;
}

void SinkSet::Slot::tell_repeated() {
  if (repeated == 0) return;
  LogRecord told = latest;
  told.fields.push_back({"repeated", std::exchange(repeated, 0)});
  Delivery delivery{told};
  write(delivery);
}

void SinkSet::write_special(Slot& slot, Delivery& delivery) {
  if (slot.options.fold.count() != 0 && slot.folds(delivery.whole())) return;
  slot.write(delivery);
  const Level flush_on = slot.options.flush_on;
  if (delivery.facts().level >= flush_on && flush_on != Level::off) slot.sink->flush();
}

bool SinkSet::dirty() const noexcept {
  if (dirty_) return true;
  const auto due = told_by();
  return due && *due <= std::chrono::steady_clock::now();
}

Deadline SinkSet::told_by() const noexcept {
  Deadline first;
  for (const auto& slot : slots_) {
    if (slot->repeated == 0) continue;
    const auto due = slot->first_at + slot->options.fold;
    if (!first || due < *first) first = due;
  }
  return first;
}

void SinkSet::flush(bool all) {
  dirty_ = false;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& slot : slots_) {
    if (slot->disabled.load(std::memory_order_relaxed)) continue;
    guard(*slot, "to flush", [&] {
      const bool writes = slot->repeated != 0 && (all || now - slot->first_at >= slot->options.fold);
      if (writes) slot->tell_repeated();
      slot->sink->flush();
      return writes;  // a flush between writes that fail does not end their row
    });
  }
}

void SinkSet::append_stats(std::vector<LogStats::Sink>& out) const {
  const std::lock_guard hold{lock_};
  for (const auto& slot : slots_) {
    out.push_back({.id = slot->id,
                   .written = slot->written.load(std::memory_order_relaxed),
                   .failed = slot->failed.load(std::memory_order_relaxed),
                   .lost = slot->sink->lost(),
                   .disabled = slot->disabled.load(std::memory_order_relaxed)});
  }
}

}  // namespace kindred::internal
