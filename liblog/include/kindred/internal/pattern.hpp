#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/internal/color.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

class Delivery;
struct PatternFlag;

/// What a sink without a pattern of its own writes:
/// `[2026-07-26 14:03:11.482913+02:00] [info] [w0 area#41] radius 2 {user=7}`
inline constexpr std::string_view default_pattern = "[%Y-%m-%d %H:%M:%S.%f%z] [%^%l%$] [%W] %v%V";

/// One part of a pattern.
struct PatternPart {
  enum class Kind : unsigned char {
    literal,
    time,  ///< what changes with the second at most: `flag` says what
    milliseconds,
    microseconds,
    nanoseconds,
    epoch,
    since_nanoseconds,
    since_microseconds,
    since_milliseconds,
    since_seconds,
    level,
    level_letter,
    logger,
    message,
    fields,
    field,
    worker,
    incarnation,
    pid,
    tid,
    task_id,
    task_name,
    attempt,
    sequence,
    origin,
    late,
    who,
    source,
    source_name,
    source_path,
    source_line,
    function,
    color_begin,
    color_end
  };
  enum class Align : unsigned char { none, left, right, center };

  Kind kind = Kind::literal;
  char flag = 0;
  std::string text;  ///< of a literal; key of a field
  Align align = Align::none;
  std::size_t width = 0;
  bool cut = false;
};

/// Reads a pattern: spdlog's flags and ours. Errors: `UsageError` that quotes the pattern and names the flag.
[[nodiscard]] std::vector<PatternPart> parse_pattern(std::string_view pattern);

/// Turns records into lines. Compiled once; the date and time of a second are put together once a second, and
/// so is all that stands before the message for each thread (or task) and level that logs in it. One thread
/// at a time.
class PatternFormatter {
 public:
  struct ColorRange {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  /// `colors`: nothing is coloured where there are none. `pattern`: the default one where it is empty.
  /// Errors: `UsageError`.
  explicit PatternFormatter(std::string_view pattern, const LevelColors* colors = nullptr);

  /// Appends the line without its newline: no control byte but the colour sequences. `range`, if given, is
  /// told where the colour would be.
  void append(const LogRecord& record, TextBuffer& out, ColorRange* range = nullptr);
  void append(const Delivery& delivery, TextBuffer& out);
  /// Does a line depend on the record before it (`%u`, `%i`, `%o`, `%O`)?
  [[nodiscard]] bool looks_back() const noexcept { return looks_back_; }

 private:
  friend struct PatternFlag;
  struct Step {
    const PatternFlag* flag = nullptr;
    PatternPart::Kind kind;
    std::uint32_t begin =
        0;  ///< literal and time: position in `steady_text_`; field: position of its key in `keys_`
    std::uint32_t end = 0;
    PatternPart::Align align = PatternPart::Align::none;
    bool cut = false;
    std::size_t width = 0;
  };
  /// What the steps of one line are told.
  struct Line;
  /// A part of a second in a head.
  struct Fraction {
    std::uint32_t at;    ///< where it stands
    std::uint32_t unit;  ///< ns
    std::uint32_t digits;
  };
  /// The begin of a line as it was put together for a record, for the next one of the same facts.
  struct Head {
    std::uint64_t facts_id = 0;
    std::uintptr_t place = 0;  ///< level, or site
    std::int64_t second = 0;
    std::uint32_t bytes = 0;      ///< of the text
    std::uint32_t micros_at = 0;  ///< where the only fraction stands, of six digits; 0: see `fractions`
    std::vector<char> text{};     ///< with some bytes behind it
    std::vector<Fraction> fractions{};
  };

  void add(const PatternPart& part);
  void turn_to(const LogRecord& record);
  void turn_to_second_of(std::int64_t since_epoch);
  [[nodiscard]] std::uint32_t nanosecond_of(const LogRecord& record) const noexcept;
  void append_steps(const Delivery& delivery, std::size_t first, std::size_t begin, TextBuffer& out,
                    ColorRange* range);
  [[nodiscard]] Line line_of(const Delivery& delivery, std::size_t begin) const noexcept;
  [[nodiscard]] std::uintptr_t place_of(const Delivery& delivery) const noexcept;
  void put_other_head(const Delivery& delivery, TextBuffer& out);
  static void put_head(const Head& head, std::uint32_t nanosecond, TextBuffer& out);
  static void put_fractions(const Head& head, std::uint32_t nanosecond, char* text);
  void make_head(Head& head, Line line, TextBuffer& out);
  void put(const Step& step, Line& line, TextBuffer& out, ColorRange* range);
  static Fraction fraction_of(PatternPart::Kind kind, std::size_t at) noexcept;
  static void pad(const Step& step, std::size_t begin, TextBuffer& out);

  std::vector<PatternPart> parts_;
  std::vector<Step> steps_;     ///< neighbouring literals and time parts are one
  std::size_t head_steps_ = 0;  ///< how many of them, from the first on, a head holds
  bool head_has_place_ = false;
  bool tail_is_usual_ = false;  ///< behind the head stand the message and the fields, and nothing else
  bool looks_back_ = false;
  std::vector<Head> heads_;  ///< by a hash; empty: none was needed yet
  /// The head that was put last, and for a record of which site: the next record often is of the same.
  const Head* latest_head_ = nullptr;
  const void* latest_site_ = nullptr;
  std::string steady_text_;  ///< of literal and time parts, as of `second_`
  std::vector<std::string> keys_;
  std::int64_t second_ = 0;
  std::uint64_t second_begin_ = 0;  ///< ns; unsigned, so that every time has a distance from it
  std::int64_t previous_nanoseconds_ = 0;
  LevelColors colors_;
  bool colored_;
};

/// The pieces that `%W` and `%V` are made of; the reader of logs is their inverse.
void append_who(TextBuffer& out, const LogRecord& record);
/// Appends ` {key=value ...}`; nothing for a record without fields, unless the line up to here, which began
/// at `line_begin`, could be taken for one that has some: then ` {}`.
void append_fields(TextBuffer& out, const LogRecord& record, std::size_t message_begin);
void append_field_value(TextBuffer& out, const FieldValue& value);

}  // namespace kindred::internal
