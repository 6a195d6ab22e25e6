#include "head/record_merger.hpp"

#include <fmt/format.h>

namespace kindred::internal::cluster {
namespace {

constexpr std::size_t max_threads = 65'536;  ///< of a node, whose order is kept

}  // namespace

void RecordMerger::add(NodeRecords records) {
  auto& last = last_[records.node];
  if (last.size() > max_threads) last.clear();
  if (records.batch.lost != 0) {
    LogRecord gap;
    gap.level = Level::warn;
    gap.origin = Origin::lifecycle;
    gap.message =
        fmt::format("node {}: {} records lost, for which it had no memory", records.node, records.batch.lost);
    gap.time = std::chrono::system_clock::now();
    if (!records.batch.records.empty())
      gap.time = decltype(gap.time){std::chrono::nanoseconds{records.batch.records.front().time_ns}};
    const auto at = gap.time.time_since_epoch().count();
    waiting_.emplace(at, Waiting{records.node, std::move(gap)});
  }
  for (WireRecord& wire : records.batch.records) {
    // The clocks' difference is measured anew now and then: that must not turn a thread's records round.
    auto& before = last[(std::uint64_t{wire.pid} << 32U) | wire.tid];
    wire.time_ns = before = std::max(before, wire.time_ns);
    LogRecord record = from_wire(std::move(wire));
    record.fields.push_back({"node", records.node});
    const std::int64_t at = record.time.time_since_epoch().count();
    waiting_.emplace(at, Waiting{records.node, std::move(record)});
  }
}

std::vector<LogRecord> RecordMerger::take_through(std::multimap<std::int64_t, Waiting>::iterator end) {
  std::vector<LogRecord> out;
  for (auto each = waiting_.begin(); each != end; ++each) out.push_back(std::move(each->second.record));
  waiting_.erase(waiting_.begin(), end);
  return out;
}

std::vector<LogRecord> RecordMerger::take(std::int64_t now) {
  return take_through(waiting_.upper_bound(now - hold_ns));
}

std::vector<LogRecord> RecordMerger::take_of(const std::string& node) {
  auto end = waiting_.begin();
  for (auto each = waiting_.begin(); each != waiting_.end(); ++each) {
    if (each->second.node == node) end = std::next(each);
  }
  return take_through(end);
}

std::vector<LogRecord> RecordMerger::take_all() { return take_through(waiting_.end()); }

}  // namespace kindred::internal::cluster
