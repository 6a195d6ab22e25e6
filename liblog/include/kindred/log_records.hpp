#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>

#include "kindred/log_record.hpp"

namespace kindred {

namespace internal {
class RecordSource;
}

/// The records of an executor's log, one after the other: what `ExecutorLogger::records()` returns. An input
/// range: it is gone through once.
///
///     for (const kindred::LogRecord& record : pool.logger().records() |
///     kindred::at_least(kindred::Level::warn)) ...
///
/// Threads: one at a time; several ranges of one log are independent. Fork: parent only. May outlive the
/// executor.
class LogRecords {
 public:
  explicit LogRecords(std::unique_ptr<internal::RecordSource> source);

  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = LogRecord;
    using difference_type = std::ptrdiff_t;

    iterator() = default;
    explicit iterator(LogRecords& log) noexcept : log_{&log} {}
    [[nodiscard]] const LogRecord& operator*() const noexcept { return log_->state_->record; }
    [[nodiscard]] const LogRecord* operator->() const noexcept { return &log_->state_->record; }
    iterator& operator++() {
      log_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return log_->state_->ended; }

   private:
    LogRecords* log_ = nullptr;
  };

  /// Goes to the first record. Blocks: in a live range, until there is one or the log ends.
  [[nodiscard]] iterator begin() {
    if (!state_->begun) next();
    return iterator{*this};
  }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  struct State {
    std::shared_ptr<internal::RecordSource> source;
    LogRecord record;
    bool begun = false;
    bool ended = false;
  };
  void next();

  std::shared_ptr<State> state_;  ///< shared by copies: a record that one has taken, the others do not see
};

}  // namespace kindred
