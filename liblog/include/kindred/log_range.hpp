#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kindred/log_record.hpp"

namespace kindred {

/// Any input range of records: `logger().records()`, `future.log()`, `read_log(path)`, a
/// `std::vector<LogRecord>`.
template <class R>
concept LogRange = requires(std::remove_reference_t<R>& range) {
  { *range.begin() } -> std::convertible_to<const LogRecord&>;
  range.begin() == range.end();
};

/// The records of a range that pass a predicate. An input range, lazy; holds the range itself if that was a
/// temporary, else points to it. (A view of our own, because `<ranges>` costs several times what this header
/// does to compile. `std::views` take it as any range.)
template <class Range, class Predicate>
class FilteredLog {
 public:
  class iterator {
    using Inner = decltype(std::declval<Range&>().begin());

   public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = LogRecord;
    using difference_type = std::ptrdiff_t;

    iterator() = default;
    explicit iterator(FilteredLog& log) : log_{&log}, inner_{log.range().begin()} { skip(); }
    [[nodiscard]] decltype(auto) operator*() const { return **inner_; }
    [[nodiscard]] auto* operator->() const
      requires std::is_lvalue_reference_v<decltype(*std::declval<const Inner&>())>
    {
      return std::addressof(**inner_);
    }
    iterator& operator++() {
      ++*inner_;
      skip();
      return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const { return *inner_ == log_->range().end(); }

   private:
    void skip() {
      while (!(*inner_ == log_->range().end()) && !log_->predicate_(static_cast<const LogRecord&>(**inner_)))
        ++*inner_;
    }
    FilteredLog* log_ = nullptr;
    std::optional<Inner> inner_;
  };

  FilteredLog(Range&& range, Predicate predicate)
      : range_{held(std::forward<Range>(range))}, predicate_{std::move(predicate)} {}
  FilteredLog(const FilteredLog&) = default;
  FilteredLog(FilteredLog&&) noexcept = default;
  FilteredLog& operator=(const FilteredLog&) = delete;
  /// Lambdas cannot be assigned, but `std::views` ask for it.
  FilteredLog& operator=(FilteredLog&& other) noexcept {
    if (this != &other) {
      std::destroy_at(this);
      std::construct_at(this, std::move(other));
    }
    return *this;
  }
  ~FilteredLog() = default;
  [[nodiscard]] iterator begin() { return iterator{*this}; }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  static constexpr bool points = std::is_lvalue_reference_v<Range>;
  using Held = std::conditional_t<points, std::remove_reference_t<Range>*, std::remove_reference_t<Range>>;
  static decltype(auto) held(Range&& range) {
    if constexpr (points)
      return std::addressof(range);
    else
      return std::forward<Range>(range);
  }
  auto& range() noexcept {
    if constexpr (points)
      return *range_;
    else
      return range_;
  }

  Held range_;
  Predicate predicate_;
};

/// A condition on records that a range is piped into: `records() | at_least(Level::warn) | of_task(id)`. Two
/// make one that demands both.
template <class Predicate>
struct LogCondition {
  Predicate accepts;

  template <LogRange Range>
  [[nodiscard]] friend FilteredLog<Range, Predicate> operator|(Range&& range, LogCondition condition) {
    return {std::forward<Range>(range), std::move(condition.accepts)};
  }
  template <class Other>
  [[nodiscard]] friend auto operator|(LogCondition first, LogCondition<Other> second) {
    auto both = [first = std::move(first.accepts), second = std::move(second.accepts)](
                    const LogRecord& record) { return first(record) && second(record); };
    return LogCondition<decltype(both)>{std::move(both)};
  }
};

/// Records that a predicate accepts.
template <std::predicate<const LogRecord&> Predicate>
[[nodiscard]] auto matching(Predicate predicate) {
  return LogCondition<Predicate>{std::move(predicate)};
}
/// Records of that level and above.
[[nodiscard]] inline auto at_least(Level level) {
  return matching([level](const LogRecord& record) { return record.level >= level; });
}
/// Records of one task.
[[nodiscard]] inline auto of_task(std::uint64_t task_id) {
  return matching([task_id](const LogRecord& record) { return record.task_id == task_id; });
}
/// Records of one worker, by index; -1: the parent's.
[[nodiscard]] inline auto of_worker(int index) {
  return matching([index](const LogRecord& record) { return record.worker == index; });
}
/// Records of that time and later.
template <class Duration>
[[nodiscard]] auto since(std::chrono::time_point<std::chrono::system_clock, Duration> time) {
  return matching([time](const LogRecord& record) { return record.time >= time; });
}
/// Records before that time.
template <class Duration>
[[nodiscard]] auto until(std::chrono::time_point<std::chrono::system_clock, Duration> time) {
  return matching([time](const LogRecord& record) { return record.time < time; });
}
/// Records whose message contains the text.
[[nodiscard]] inline auto containing(std::string text) {
  return matching([text = std::move(text)](const LogRecord& record) {
    return record.message.find(text) != std::string::npos;
  });
}

}  // namespace kindred
