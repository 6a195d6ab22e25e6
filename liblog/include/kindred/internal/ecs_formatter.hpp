#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kindred/internal/json_end.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

class Delivery;

/// Turns records into JSON objects with the keys of the Elastic Common Schema, one a line; `sinks.hpp` has
/// the table. One thread at a time.
class EcsFormatter {
 public:
  /// `pattern`: of "message"; the record's own where it is empty. `start_method`: left out where it is empty.
  explicit EcsFormatter(std::string_view pattern = {}, std::string_view start_method = {});
  /// Appends the object, without a newline.
  void append(const LogRecord& record, TextBuffer& out);
  void append(const Delivery& delivery, TextBuffer& out);

 private:
  void append_time(const LogRecord& record, TextBuffer& out);
  void append_kindred(const LogRecord& record, TextBuffer& out) const;

  std::optional<PatternFormatter> text_;
  TextBuffer line_;  ///< of `text_`
  JsonEnd end_;
  std::string date_time_;  ///< "2026-07-26T12:03:11", as of `second_`
  std::int64_t second_ = INT64_MIN;
};

}  // namespace kindred::internal
