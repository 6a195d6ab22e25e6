#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "head/head.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal::cluster {

/// Puts the records of several nodes into one order, by their times on the head's clock: each is held back
/// until the others have had the time to send what is older.
///
/// Threads: one at a time; `now` is wall time.
class RecordMerger {
 public:
  static constexpr std::int64_t hold_ns = 150'000'000;  ///< three of the nodes' batches

  void add(NodeRecords records);
  /// What is older than `now` by the time that records are held back.
  [[nodiscard]] std::vector<LogRecord> take(std::int64_t now);
  /// All that is there of this node, and what is older: its task's future is about to fail.
  [[nodiscard]] std::vector<LogRecord> take_of(const std::string& node);
  [[nodiscard]] std::vector<LogRecord> take_all();
  [[nodiscard]] bool empty() const noexcept { return waiting_.empty(); }
  [[nodiscard]] std::int64_t oldest() const noexcept { return waiting_.begin()->first; }

 private:
  struct Waiting {
    std::string node;
    LogRecord record;
  };
  [[nodiscard]] std::vector<LogRecord> take_through(std::multimap<std::int64_t, Waiting>::iterator end);
  std::multimap<std::int64_t, Waiting> waiting_;
  std::map<std::string, std::map<std::uint64_t, std::int64_t>> last_;  // by node and thread
};

}  // namespace kindred::internal::cluster
