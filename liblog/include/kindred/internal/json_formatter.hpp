#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kindred/internal/pattern.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

/// Turns records into JSON objects, one a line. The keys are those of Loguru's `serialize=True`, and ours
/// beside them; `sinks.hpp` has the table. One thread at a time.
class JsonFormatter {
 public:
  /// `pattern`: of the member "text"; the message alone where it is empty. `start_method`: left out where it
  /// is empty.
  explicit JsonFormatter(std::string_view pattern = {}, std::string_view start_method = {});
  /// Appends the object, without a newline.
  void append(const LogRecord& record, TextBuffer& out);

 private:
  void append_time(const LogRecord& record, TextBuffer& out);
  void append_extra(const LogRecord& record, TextBuffer& out);
  void append_string(TextBuffer& out, std::string_view text, std::string_view exact_key);

  std::optional<PatternFormatter> text_;
  TextBuffer line_;           ///< of `text_`
  TextBuffer exact_;          ///< members of "exact", where the record has bytes that JSON cannot carry
  std::string start_method_;  ///< the member, ready
  std::string date_time_;     ///< "2026-07-26T14:03:11", as of `second_`
  std::string zone_;
  std::int64_t second_ = INT64_MIN;
};

}  // namespace kindred::internal
