#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "collect/collector_state.hpp"
#include "collect/history.hpp"
#include "kindred/log_records.hpp"

namespace kindred::internal {
namespace {

/// Reads the history from the oldest record on, a few at a time, so that the history's lock is held briefly.
class KeptRecords final : public RecordSource {
 public:
  KeptRecords(std::shared_ptr<const History> history, bool live)
      : history_{std::move(history)}, place_{history_->oldest()}, live_{live}, end_{history_->newest()} {}

  bool next(LogRecord& record) override {
    for (;;) {
      if (take_copied(record)) return true;
      if (!live_ && place_.position >= end_.position) return false;
      if (!copy_more() && (!live_ || !history_->wait_beyond(place_))) return false;
    }
  }

  bool next_now(LogRecord& record) override {
    do {
      if (take_copied(record)) return true;
    } while (copy_more());
    return false;
  }

 private:
  static constexpr std::size_t batch_bytes = 64 * 1024;

  bool take_copied(LogRecord& record) {
    if (forgotten_ != 0) {
      record = {};
      record.level = Level::warn;
      record.origin = Origin::lifecycle;
      record.time = std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
      record.message = fmt::format("{} record{} were forgotten here before this reader came to them",
                                   forgotten_, forgotten_ == 1 ? "" : "s");
      forgotten_ = 0;
      return true;
    }
    while (at_ < bytes_.size()) {
      std::uint32_t size = 0;
      std::memcpy(&size, bytes_.data() + at_, sizeof size);
      const std::span<const std::byte> entry{bytes_.data() + at_, size};
      at_ += size;
      if (read_kept(entry, record, scratch_)) return true;
    }
    return false;
  }

  /// False: there was nothing to copy, and nothing was forgotten.
  bool copy_more() {
    bytes_.clear();
    at_ = 0;
    forgotten_ = history_->copy(place_, bytes_, batch_bytes);
    return !bytes_.empty() || forgotten_ != 0;
  }

  std::shared_ptr<const History> history_;
  History::Place place_;
  bool live_;
  History::Place end_;
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
  std::uint64_t forgotten_ = 0;
  TextBuffer scratch_;
};

}  // namespace

std::unique_ptr<RecordSource> Collector::records(bool live) const {
  return std::make_unique<KeptRecords>(state_->history, live);
}

}  // namespace kindred::internal

namespace kindred {

LogRecords::LogRecords(std::unique_ptr<internal::RecordSource> source) : state_{std::make_shared<State>()} {
  state_->source = std::move(source);
}

void LogRecords::next() {
  state_->begun = true;
  state_->ended = state_->ended || !state_->source->next(state_->record);
}

}  // namespace kindred
