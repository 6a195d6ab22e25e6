#include "collect/history.hpp"

#include <algorithm>
#include <bit>
#include <climits>
#include <cstring>
#include <ranges>

#include "kindred/internal/log_front.hpp"

namespace kindred::internal {
namespace {

// One place for this many bytes: tasks that share a place then have some 30 records in what is kept.
constexpr std::size_t bytes_a_task_place = 4096;

// The first two words of an entry, which padding has too.
struct EntryHead {
  std::uint32_t bytes;
  std::uint32_t arguments;
};

EntryHead head_at(const std::byte* entry) noexcept {
  EntryHead head;
  std::memcpy(&head, entry, sizeof head);
  return head;
}

}  // namespace

KeptRecord kept_of(const LogRecord& record) noexcept {
  KeptRecord kept{};
  kept.time = record.time.time_since_epoch().count();
  kept.task_id = record.task_id;
  kept.sequence = record.sequence;
  kept.worker = record.worker;
  kept.incarnation = record.incarnation;
  kept.pid = record.pid;
  kept.tid = record.tid;
  kept.attempt = record.attempt;
  kept.origin = record.origin;
  kept.late = record.late;
  return kept;
}

bool read_kept(std::span<const std::byte> bytes, LogRecord& record, TextBuffer& scratch) {
  KeptRecord kept;
  std::memcpy(&kept, bytes.data(), sizeof kept);
  record.time = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>{
      std::chrono::nanoseconds{kept.time}};
  record.level = kept.site->level();
  record.level_name = kept.site->level_name();
  record.source = kept.site->source();
  record.worker = kept.worker;
  record.incarnation = kept.incarnation;
  record.pid = kept.pid;
  record.tid = kept.tid;
  record.task_id = kept.task_id;
  record.attempt = kept.attempt;
  record.sequence = kept.sequence;
  record.origin = kept.origin;
  record.late = kept.late;
  record.fields.clear();
  const auto arguments = bytes.subspan(sizeof kept + kept.arguments_offset, kept.arguments);
  ByteReader texts{bytes.subspan(sizeof kept + kept.arguments_offset + kept.arguments)};
  record.logger = texts.text(kept.logger_bytes);
  if (origin_of_logger(record.logger) != Origin::log) record.logger.clear();
  record.task_name = texts.text(kept.task_name_bytes);
  const auto scope = texts.bytes(kept.scope_bytes);
  const auto binding = texts.bytes(kept.binding_bytes);
  bool sense = (scope.empty() || decode_fields(scope, record.fields)) &&
               (binding.empty() || decode_fields(binding, record.fields));
  scratch.clear();
  sense = kept.site->format(arguments, scratch, record.fields) && sense;
  record.message = scratch.view();
  scratch.shrink(1024 * 1024);
  return sense;
}

History::History(std::size_t bytes)
    : capacity_{bytes / 8 * 8},
      memory_{std::make_unique_for_overwrite<std::byte[]>(capacity_)},
      task_places_{std::bit_ceil(capacity_ / bytes_a_task_place + 1)},
      latest_of_task_{std::make_unique<LatestOfTask[]>(task_places_)} {}

void History::set_mark() noexcept {
  marks_[marks_end_++ % marks_.size()] = {head_, head_ordinal_};
  next_mark_ = head_ + capacity_ / (marks_.size() / 2);
}

void History::forget(std::size_t bytes) {
  // Some more than asked for, so that the lock is taken rarely; up to a mark, so that what is forgotten need
  // not be read once more.
  const std::uint64_t until = tail_ + std::max(bytes, capacity_ / 16);
  Place first{head_, head_ordinal_};
  while (marks_begin_ != marks_end_ && first.position == head_) {
    const Place mark = marks_[marks_begin_++ % marks_.size()];
    if (mark.position >= until) first = mark;
  }
  tail_ = first.position;
  const std::lock_guard hold{lock_};
  begin_ = first;
  if (end_.position < tail_) {  // not shown yet: readers will hear that they missed them
    end_.position = tail_;
    end_.ordinal = begin_.ordinal;
  }
}

std::byte* History::make_room(std::size_t bytes) {
  const std::size_t to_end = capacity_ - head_offset_;
  const std::size_t padding = bytes > to_end ? to_end : 0;
  const std::size_t needed = padding + bytes;
  if (capacity_ - static_cast<std::size_t>(head_ - tail_) < needed)
    forget(needed - (capacity_ - static_cast<std::size_t>(head_ - tail_)));
  if (padding != 0) {
    const EntryHead head{static_cast<std::uint32_t>(padding), KeptRecord::padding};
    std::memcpy(memory_.get() + head_offset_, &head, sizeof head);
    head_ += padding;
    head_offset_ = 0;
  }
  room_ = std::min({capacity_ - head_offset_, capacity_ - static_cast<std::size_t>(head_ - tail_),
                    std::max(bytes, longest())});
  return memory_.get() + head_offset_;
}

void History::publish() noexcept {
  {
    const std::lock_guard hold{lock_};
    if (end_.position == head_) return;
    end_ = {head_, head_ordinal_};
  }
  if (waiting_.load(std::memory_order_seq_cst) != 0) tell_readers();
}

void History::tell_readers() noexcept {
  published_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake(published_, INT_MAX);
  const std::lock_guard hold{lock_};
  for (const Doorbell* const bell : bells_) bell->ring();
}

const KeptRecord* History::at(std::uint64_t position) const noexcept {
  return position >= tail_ && position < head_ ? &record_at(position) : nullptr;
}

void History::each(const std::function<void(KeptRecord&)>& fn) {
  for (std::uint64_t position = tail_; position < head_;) {
    std::byte* const entry = memory_.get() + position % capacity_;
    const EntryHead head = head_at(entry);
    if (head.arguments != KeptRecord::padding) fn(*reinterpret_cast<KeptRecord*>(entry));
    position += head.bytes;
  }
}

void History::close() noexcept {
  {
    const std::lock_guard hold{lock_};
    closed_ = true;
  }
  tell_readers();
}

History::Place History::oldest() const {
  const std::lock_guard hold{lock_};
  return begin_;
}

History::Place History::newest() const {
  const std::lock_guard hold{lock_};
  return end_;
}

std::uint64_t History::copy(Place& place, std::vector<std::byte>& out, std::size_t max_bytes) const {
  const std::lock_guard hold{lock_};
  std::uint64_t forgotten = 0;
  if (place.position < begin_.position) {
    forgotten = begin_.ordinal - place.ordinal;
    place = begin_;
  }
  while (place.position < end_.position && out.size() < max_bytes) {
    const std::byte* const entry = memory_.get() + place.position % capacity_;
    const EntryHead head = head_at(entry);
    if (head.arguments != KeptRecord::padding) {
      out.insert(out.end(), entry, entry + head.bytes);
      ++place.ordinal;
    }
    place.position += head.bytes;
  }
  return forgotten;
}

void History::copy_task(std::uint64_t task_id, std::vector<std::byte>& out) const {
  const std::lock_guard hold{lock_};
  // While the lock is held nothing is forgotten, so what was committed stays as it is.
  std::vector<const KeptRecord*> found;
  std::uint64_t next = latest_of(task_id).load(std::memory_order_acquire);
  while (next > begin_.position) {
    const KeptRecord& record = record_at(next - 1);
    if (record.task_id == task_id && next - 1 < end_.position) found.push_back(&record);
    next = record.previous_of_task;
  }
  for (const KeptRecord* const record : found | std::views::reverse) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(record);
    out.insert(out.end(), bytes, bytes + record->bytes);
  }
}

bool History::wait_beyond(const Place& place) const {
  for (;;) {
    // Order: seq_cst with `publish`: either it sees that we wait, or we see what it has published.
    waiting_.fetch_add(1, std::memory_order_seq_cst);
    const auto seen = published_.load(std::memory_order_seq_cst);
    bool there;
    bool closed;
    {
      const std::lock_guard hold{lock_};
      there = end_.position > place.position;
      closed = closed_;
    }
    if (!there && !closed) futex_wait(published_, seen);
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    if (there) return true;
    if (closed) return false;
  }
}

History::Next History::next(const Place& place, const std::function<void()>& sleep) const {
  // Order: as in `wait_beyond`.
  waiting_.fetch_add(1, std::memory_order_seq_cst);
  Next found;
  {
    const std::lock_guard hold{lock_};
    found = end_.position > place.position ? Next::something : closed_ ? Next::closed : Next::nothing;
  }
  if (found == Next::nothing) sleep();
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  return found;
}

void History::hear(const Doorbell& bell) {
  const std::lock_guard hold{lock_};
  bells_.push_back(&bell);
}

void History::stop_hearing(const Doorbell& bell) noexcept {
  const std::lock_guard hold{lock_};
  std::erase(bells_, &bell);
}

}  // namespace kindred::internal
