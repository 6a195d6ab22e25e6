#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/json_end.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

class Delivery;

/// Turns records into JSON objects, one a line. The keys are those of Loguru's `serialize=True`, and ours
/// beside them; `sinks.hpp` has the table. What a thread's records of one place have in common is put
/// together once. One thread at a time.
class JsonFormatter {
 public:
  /// `pattern`: of the member "text"; the message alone where it is empty. `start_method`: left out where it
  /// is empty.
  explicit JsonFormatter(std::string_view pattern = {}, std::string_view start_method = {});
  /// Appends the object, without a newline.
  void append(const LogRecord& record, TextBuffer& out);
  void append(Delivery& delivery, TextBuffer& out);

 private:
  /// The members that a site and a thread's facts make, as they were put together last.
  struct Common {
    std::uint64_t facts_id = 0;
    const void* site = nullptr;
    std::string text{};
  };

  void append_message(Delivery& delivery, TextBuffer& out);
  void append_time(const LogRecord& record, TextBuffer& out);
  void turn_to_second_of(std::int64_t since_epoch);
  void append_common(const Delivery& delivery, TextBuffer& out);
  void append_facts(const LogRecord& record, TextBuffer& out);
  void append_extra(const LogRecord& record, TextBuffer& out);
  void append_string(TextBuffer& out, std::string_view text, std::string_view exact_key);
  void add_exact(std::string_view key, std::string_view text);

  std::optional<PatternFormatter> text_;
  TextBuffer line_;   ///< of `text_`
  TextBuffer exact_;  ///< members of "exact", where the record has bytes that JSON cannot carry
  JsonEnd end_;
  std::vector<Common> common_;
  std::string time_;                  ///< the member "time", with room for the two fractions
  std::size_t fraction_ = 0;          ///< where its first one stands
  std::size_t before_timestamp_ = 0;  ///< where the number begins that has the second one
  std::uint64_t second_begin_ = 0;    ///< of the second that `time_` is of: ns
};

}  // namespace kindred::internal
