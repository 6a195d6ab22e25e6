#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "wire/messages.hpp"

namespace kindred::internal::cluster {

/// Records of one node; their times are the head's.
struct NodeRecords {
  std::string node;
  LogBatch batch;
  std::int64_t error_ns = 0;  ///< of the clocks' difference
};

/// Takes each record of a node once: batches come again after the engine has lost its store, and may come
/// with a gap. Threads: one at a time.
class LogIntake {
 public:
  /// False: it was taken before. What is missing before it is added to its `lost`.
  bool take(LogBatch& batch) {
    std::uint64_t& next = next_[batch.life];
    const std::uint64_t end = batch.from + batch.lost + batch.records.size();
    if (end <= next) return false;
    if (batch.from > next) batch.lost += batch.from - next;
    next = end;
    return true;
  }
  /// Records of this life that have come, lost ones counted in.
  [[nodiscard]] std::uint64_t up_to(std::uint64_t life) const {
    const auto found = next_.find(life);
    return found == next_.end() ? 0 : found->second;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> next_;  // by life
};

}  // namespace kindred::internal::cluster
