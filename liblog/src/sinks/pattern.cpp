#include "kindred/internal/pattern.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <span>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "record/delivery.hpp"
#include "record/small_number.hpp"

namespace kindred::internal {
namespace {

using Kind = PatternPart::Kind;
using Align = PatternPart::Align;

constexpr std::string_view short_days = "SunMonTueWedThuFriSat";
constexpr std::string_view short_months = "JanFebMarAprMayJunJulAugSepOctNovDec";
constexpr std::array<std::string_view, 7> long_days{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                    "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> long_months{"January",   "February", "March",    "April",
                                                       "May",       "June",     "July",     "August",
                                                       "September", "October",  "November", "December"};

constexpr std::uint32_t billion = 1'000'000'000;
constexpr std::size_t copied_at_once = 64;  ///< a head is copied in pieces of this: most take one

std::string time_text(char flag, const std::tm& time) {
  const auto index = [](int value) { return static_cast<std::size_t>(std::max(value, 0)); };
  const int hour = time.tm_hour % 12 == 0 ? 12 : time.tm_hour % 12;
  const auto short_day = short_days.substr(index(time.tm_wday) * 3, 3);
  const auto short_month = short_months.substr(index(time.tm_mon) * 3, 3);
  const auto* const half = time.tm_hour < 12 ? "AM" : "PM";
  const int year = time.tm_year + 1900;
  switch (flag) {
    case 'a': return std::string{short_day};
    case 'A': return std::string{long_days[index(time.tm_wday)]};
    case 'b':
    case 'h': return std::string{short_month};
    case 'B': return std::string{long_months[index(time.tm_mon)]};
    case 'c':
      return fmt::format("{} {} {} {:02}:{:02}:{:02} {}", short_day, short_month, time.tm_mday, time.tm_hour,
                         time.tm_min, time.tm_sec, year);
    case 'C': return fmt::format("{:02}", year % 100);
    case 'Y': return fmt::format("{:04}", year);
    case 'D':
    case 'x': return fmt::format("{:02}/{:02}/{:02}", time.tm_mon + 1, time.tm_mday, year % 100);
    case 'm': return fmt::format("{:02}", time.tm_mon + 1);
    case 'd': return fmt::format("{:02}", time.tm_mday);
    case 'H': return fmt::format("{:02}", time.tm_hour);
    case 'I': return fmt::format("{:02}", hour);
    case 'M': return fmt::format("{:02}", time.tm_min);
    case 'S': return fmt::format("{:02}", time.tm_sec);
    case 'p': return half;
    case 'R': return fmt::format("{:02}:{:02}", time.tm_hour, time.tm_min);
    case 'r': return fmt::format("{:02}:{:02}:{:02} {}", hour, time.tm_min, time.tm_sec, half);
    case 'T':
    case 'X': return fmt::format("{:02}:{:02}:{:02}", time.tm_hour, time.tm_min, time.tm_sec);
    case 'z': {
      const auto minutes = std::abs(time.tm_gmtoff) / 60;
      return fmt::format("{}{:02}:{:02}", time.tm_gmtoff < 0 ? '-' : '+', minutes / 60, minutes % 60);
    }
    default: return {};
  }
}

std::string_view base_name(std::string_view path) noexcept { return path.substr(path.rfind('/') + 1); }

/// Length as a terminal shows it, near enough: characters of UTF-8.
std::size_t characters(std::string_view text) noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

void append_scalar_string(TextBuffer& out, const std::string& text) {
  // Bare only where it cannot be taken for a number, a truth value or nothing at all.
  const auto first = text.empty() ? '\0' : text.front();
  const bool word = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z') || first == '_' ||
                    first == '/' || static_cast<unsigned char>(first) >= 0x80;
  if (word && text != "true" && text != "false" && text != "nan" && text != "inf") {
    append_token(out, text, EscapeIn::field_quotes);
    return;
  }
  out.push_back('"');
  append_escaped(out, text, EscapeIn::field_quotes);
  out.push_back('"');
}

/// Could a reader take the end of `message` for fields?
bool ends_like_fields(std::string_view message) noexcept {
  return message.back() == '}' && message.find(" {") != std::string_view::npos;
}

std::string_view level_text(const LogRecord& record) noexcept {
  return record.level_name.empty() ? to_string(record.level) : std::string_view{record.level_name};
}

void append_place(TextBuffer& out, const LogRecord& record) {
  if (record.source.file.empty()) return;
  append_token(out, record.source.file);
  out.push_back(':');
  out.append_number(std::uint64_t{record.source.line});
}

char level_letter(Level level) noexcept {
  constexpr std::string_view letters = "TDIWECO";
  const auto index = static_cast<std::size_t>(level);
  return index < letters.size() ? letters[index] : '?';
}

void append_worker(TextBuffer& out, const LogRecord& record) {
  if (record.worker < 0)
    out.append("parent");
  else
    out.append_number(static_cast<std::uint64_t>(record.worker));
}

void append_field(TextBuffer& out, const LogRecord& record, std::string_view key) {
  // The last one counts: what a scope within says hides what one around it said.
  for (auto field = record.fields.rbegin(); field != record.fields.rend(); ++field) {
    if (field->key == key) return append_field_value(out, field->value);
  }
}

}  // namespace

struct PatternFormatter::Line {
  const Delivery& delivery;
  const LogRecord& record;
  std::int64_t second;
  std::uint32_t nanosecond;
  std::uint64_t since;  ///< ns since the record before
  std::size_t message_begin;
  std::string_view key{};  ///< of `%{key}`
};

/// A flag of a pattern: its letter, what it stands for, what its text depends on, and how that is written.
/// (How it is read back: `text_reader.cpp`.)
struct PatternFlag {
  using Line = PatternFormatter::Line;
  enum class Of : unsigned char { second, fraction, facts, place, record, before };

  char letter;
  Kind kind;
  Of of;
  void (*write)(const Line&, TextBuffer&) = nullptr;  ///< null: the formatter does it itself
};

namespace {

using Line = PatternFlag::Line;
using Of = PatternFlag::Of;

constexpr std::string_view time_flags = "aAbBhcCYDxmdHIMSpRrTXz";

constexpr PatternFlag time_flag{'T', Kind::time, Of::second};
constexpr PatternFlag field_flag{'{', Kind::field, Of::record, [](const Line& line, TextBuffer& out) {
                                   append_field(out, line.record, line.key);
                                 }};
constexpr PatternFlag flags[] = {
    {'e', Kind::milliseconds, Of::fraction,
     [](const Line& line, TextBuffer& out) { out.append_padded(line.nanosecond / 1'000'000, 3); }},
    {'f', Kind::microseconds, Of::fraction,
     [](const Line& line, TextBuffer& out) { out.append_padded(line.nanosecond / 1'000, 6); }},
    {'F', Kind::nanoseconds, Of::fraction,
     [](const Line& line, TextBuffer& out) { out.append_padded(line.nanosecond, 9); }},
    {'E', Kind::epoch, Of::facts, [](const Line& line, TextBuffer& out) { out.append_number(line.second); }},
    {'u', Kind::since_nanoseconds, Of::before,
     [](const Line& line, TextBuffer& out) { out.append_number(line.since); }},
    {'i', Kind::since_microseconds, Of::before,
     [](const Line& line, TextBuffer& out) { out.append_number(line.since / 1'000); }},
    {'o', Kind::since_milliseconds, Of::before,
     [](const Line& line, TextBuffer& out) { out.append_number(line.since / 1'000'000); }},
    {'O', Kind::since_seconds, Of::before,
     [](const Line& line, TextBuffer& out) { out.append_number(line.since / 1'000'000'000); }},
    {'l', Kind::level, Of::facts,
     [](const Line& line, TextBuffer& out) { append_token(out, level_text(line.record)); }},
    {'L', Kind::level_letter, Of::facts,
     [](const Line& line, TextBuffer& out) { out.push_back(level_letter(line.record.level)); }},
    {'n', Kind::logger, Of::facts,
     [](const Line& line, TextBuffer& out) { append_token(out, line.record.logger); }},
    {'v', Kind::message, Of::record,
     [](const Line& line, TextBuffer& out) { line.delivery.append_message(out); }},
    {'V', Kind::fields, Of::record,
     [](const Line& line, TextBuffer& out) { append_fields(out, line.record, out.size()); }},
    {'w', Kind::worker, Of::facts,
     [](const Line& line, TextBuffer& out) { append_worker(out, line.record); }},
    {'k', Kind::incarnation, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append_number(std::uint64_t{line.record.incarnation}); }},
    {'P', Kind::pid, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append_number(std::uint64_t{line.record.pid}); }},
    {'t', Kind::tid, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append_number(std::uint64_t{line.record.tid}); }},
    {'j', Kind::task_id, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append_number(line.record.task_id); }},
    {'J', Kind::task_name, Of::facts,
     [](const Line& line, TextBuffer& out) { append_token(out, line.record.task_name); }},
    {'q', Kind::attempt, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append_number(std::uint64_t{line.record.attempt}); }},
    {'Q', Kind::sequence, Of::record,
     [](const Line& line, TextBuffer& out) { out.append_number(line.record.sequence); }},
    {'K', Kind::origin, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append(to_string(line.record.origin)); }},
    {'N', Kind::late, Of::facts,
     [](const Line& line, TextBuffer& out) { out.append(line.record.late ? "late" : ""); }},
    {'W', Kind::who, Of::facts, [](const Line& line, TextBuffer& out) { append_who(out, line.record); }},
    {'@', Kind::source, Of::place, [](const Line& line, TextBuffer& out) { append_place(out, line.record); }},
    {'s', Kind::source_name, Of::place,
     [](const Line& line, TextBuffer& out) { append_token(out, base_name(line.record.source.file)); }},
    {'g', Kind::source_path, Of::place,
     [](const Line& line, TextBuffer& out) { append_token(out, line.record.source.file); }},
    {'#', Kind::source_line, Of::place,
     [](const Line& line, TextBuffer& out) {
       if (line.record.source.line != 0) out.append_number(std::uint64_t{line.record.source.line});
     }},
    {'!', Kind::function, Of::place,
     [](const Line& line, TextBuffer& out) { append_token(out, line.record.source.function); }},
    {'^', Kind::color_begin, Of::facts},
    {'$', Kind::color_end, Of::facts},
};

/// Returns the flag of that letter; null: the letter means nothing.
const PatternFlag* flag_of(char letter) noexcept {
  if (time_flags.find(letter) != std::string_view::npos) return &time_flag;
  const auto* const found = std::ranges::find(flags, letter, &PatternFlag::letter);
  return found == std::end(flags) ? nullptr : found;
}

/// The flag that a part was made from.
const PatternFlag* flag_of(const PatternPart& part) noexcept {
  if (part.kind == Kind::field) return &field_flag;
  return part.kind == Kind::literal ? &time_flag : flag_of(part.flag);
}

/// Takes a pattern apart, from front to back.
class PatternParser {
 public:
  explicit PatternParser(std::string_view pattern) noexcept : pattern_{pattern} {}

  std::vector<PatternPart> parse() && {
    while (at_ < pattern_.size()) {
      if (pattern_[at_] != '%') {
        // Ours are the only control bytes of a line, and there are none.
        if (static_cast<unsigned char>(pattern_[at_]) < 0x20 || pattern_[at_] == '\x7f')
          refuse("contains a control character.");
        literal_ += pattern_[at_++];
        continue;
      }
      ++at_;
      take_flag();
    }
    settle();
    return std::move(parts_);
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw UsageError{
        "the pattern '" + std::string{pattern_} + "' " + why +
        " A pattern is spdlog's (\"[%H:%M:%S.%e] [%l] %v\"), with %w worker, %P pid, %t thread, %j task id, %J task name, "
        "%W all of these in short, %V fields, %{key} one field; '%%' is a percent sign."};
  }
  [[nodiscard]] bool is_at(char c) const noexcept { return at_ < pattern_.size() && pattern_[at_] == c; }

  void settle() {
    if (literal_.empty()) return;
    PatternPart part;
    part.text = std::exchange(literal_, {});
    parts_.push_back(std::move(part));
  }

  void take_width(PatternPart& part) {
    if (is_at('-') || is_at('=')) part.align = pattern_[at_++] == '-' ? Align::left : Align::center;
    for (; at_ < pattern_.size() && pattern_[at_] >= '0' && pattern_[at_] <= '9'; ++at_) {
      if (part.align == Align::none) part.align = Align::right;
      part.width =
          std::min<std::size_t>(part.width * 10 + static_cast<std::size_t>(pattern_[at_] - '0'), 128);
    }
    // With a width, `!` says that what is longer is cut; without a flag behind it, it is one itself.
    if (part.width != 0 && is_at('!') && at_ + 1 < pattern_.size() && flag_of(pattern_[at_ + 1]) != nullptr) {
      part.cut = true;
      ++at_;
    }
  }

  /// Behind a `%`.
  void take_flag() {
    PatternPart part;
    take_width(part);
    if (at_ >= pattern_.size()) refuse("ends in the middle of a flag.");
    const char letter = pattern_[at_++];
    if (letter == '%') {
      literal_ += '%';
      return;
    }
    settle();
    if (letter == '+') {
      for (auto& each : parse_pattern(default_pattern)) parts_.push_back(std::move(each));
      return;
    }
    if (letter == '{') {
      const auto close = pattern_.find('}', at_);
      if (close == std::string_view::npos) refuse("has a %{ without its }.");
      part.kind = Kind::field;
      part.text = pattern_.substr(at_, close - at_);
      at_ = close + 1;
    } else {
      const PatternFlag* const flag = flag_of(letter);
      if (flag == nullptr) refuse("has the flag '%" + std::string{letter} + "', which means nothing.");
      part.kind = flag->kind;
      part.flag = letter;
    }
    parts_.push_back(std::move(part));
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::vector<PatternPart> parts_;
  std::string literal_;
};

bool is_steady(const PatternPart& part) noexcept {
  return part.kind == Kind::literal || part.kind == Kind::time;
}

/// Appends a literal, or what a flag of the second shows.
void put_time(std::string& text, const PatternPart& part, const std::tm& time) {
  if (part.kind == Kind::literal) {
    text += part.text;
    return;
  }
  std::string shown = time_text(part.flag, time);
  if (shown.size() < part.width) {
    const auto gap = part.width - shown.size();
    const auto before = part.align == Align::right ? gap : part.align == Align::center ? gap / 2 : 0;
    shown.insert(0, before, ' ');
    shown.append(gap - before, ' ');
  } else if (part.cut) {
    shown.resize(part.width);
  }
  text += shown;
}

}  // namespace

std::vector<PatternPart> parse_pattern(std::string_view pattern) { return PatternParser{pattern}.parse(); }

PatternFormatter::PatternFormatter(std::string_view pattern, const LevelColors* colors)
    : parts_{parse_pattern(pattern.empty() ? default_pattern : pattern)}, colored_{colors != nullptr} {
  if (colors != nullptr) colors_ = *colors;
  for (const auto& part : parts_) add(part);
  turn_to_second_of(0);
  for (const Step& step : steps_) {
    const Of of = step.flag->of;
    if (of == Of::record || of == Of::before || (of == Of::fraction && step.width != 0)) break;
    ++head_steps_;
    head_has_place_ = head_has_place_ || of == Of::place;
  }
  const std::span tail = std::span{steps_}.subspan(head_steps_);
  tail_is_usual_ = tail.size() == 2 && tail[0].kind == Kind::message && tail[0].width == 0 &&
                   tail[1].kind == Kind::fields && tail[1].width == 0;
}

void PatternFormatter::add(const PatternPart& part) {
  const bool steady = is_steady(part);
  if (steady && !steps_.empty() && steps_.back().kind == Kind::time) return;
  Step step{.flag = flag_of(part), .kind = steady ? Kind::time : part.kind};
  if (!steady) {
    step.align = part.align;
    step.cut = part.cut;
    step.width = part.width;
  }
  if (part.kind == Kind::field) {
    step.begin = static_cast<std::uint32_t>(keys_.size());
    keys_.push_back(part.text);
  }
  looks_back_ = looks_back_ || step.flag->of == Of::before;
  steps_.push_back(step);
}

std::uint32_t PatternFormatter::nanosecond_of(const LogRecord& record) const noexcept {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(record.time.time_since_epoch().count()) -
                                    second_begin_);
}

void PatternFormatter::turn_to(const LogRecord& record) {
  const std::int64_t since_epoch = record.time.time_since_epoch().count();
  if (static_cast<std::uint64_t>(since_epoch) - second_begin_ >= billion) [[unlikely]]
    turn_to_second_of(since_epoch);
}

void PatternFormatter::turn_to_second_of(std::int64_t since_epoch) {
  second_ = since_epoch / billion - (since_epoch % billion < 0 ? 1 : 0);
  second_begin_ = static_cast<std::uint64_t>(second_) * billion;
  latest_head_ = nullptr;  // it is of another second
  const auto clock = static_cast<std::time_t>(second_);
  std::tm time{};
  ::localtime_r(&clock, &time);
  steady_text_.clear();
  auto step = steps_.begin();
  for (auto part = parts_.begin(); part != parts_.end(); ++step) {
    if (!is_steady(*part)) {
      ++part;
      continue;
    }
    step->begin = static_cast<std::uint32_t>(steady_text_.size());
    for (; part != parts_.end() && is_steady(*part); ++part) put_time(steady_text_, *part, time);
    step->end = static_cast<std::uint32_t>(steady_text_.size());
  }
}

/// Appends what the first steps made last for the same facts, with this record's part of the second.
[[gnu::always_inline]] inline void PatternFormatter::put_head(const Head& head, std::uint32_t nanosecond,
                                                              TextBuffer& out) {
  const std::size_t bytes = head.bytes;
  const char* const from = head.text.data();
  char* const text = out.reserve(bytes + copied_at_once);
  out.end_at(text + bytes);
  std::memcpy(text, from, copied_at_once);
  for (std::size_t at = copied_at_once; at < bytes; at += copied_at_once) [[unlikely]]
    std::memcpy(text + at, from + at, copied_at_once);
  if (head.micros_at == 0) [[unlikely]]
    return put_fractions(head, nanosecond, text);
  write_six_digits(text + head.micros_at, nanosecond / 1000);
}

void PatternFormatter::put_fractions(const Head& head, std::uint32_t nanosecond, char* text) {
  for (const Fraction& fraction : head.fractions)
    write_padded(text + fraction.at, nanosecond / fraction.unit, fraction.digits);
}

void PatternFormatter::append(const LogRecord& record, TextBuffer& out, ColorRange* range) {
  turn_to(record);
  append_steps(Delivery{record}, 0, out.size(), out, range);
  previous_nanoseconds_ = record.time.time_since_epoch().count();
}

void PatternFormatter::append(const Delivery& delivery, TextBuffer& out) {
  const LogRecord& record = delivery.facts();
  turn_to(record);
  const std::size_t begin = out.size();
  // The same site means the same level and place; a head that serves another record by now is of another
  // site. What is late says so in its head.
  const Head* const latest = latest_head_;
  const bool is_latest =
      latest != nullptr && latest_site_ == delivery.site() && latest->facts_id == delivery.facts_id();
  if (record.late || (!is_latest && delivery.facts_id() == 0)) [[unlikely]] {
    append_steps(delivery, 0, begin, out, nullptr);
  } else {
    if (is_latest) [[likely]]
      put_head(*latest, nanosecond_of(record), out);
    else
      put_other_head(delivery, out);
    if (tail_is_usual_) [[likely]] {
      const std::size_t message_begin = out.size();
      delivery.append_message(out);
      // Most records have no fields, and end in another character than fields do.
      if (!record.fields.empty() || (out.size() != message_begin && out.data()[out.size() - 1] == '}'))
          [[unlikely]]
        append_fields(out, record, message_begin);
    } else {
      append_steps(delivery, head_steps_, begin, out, nullptr);
    }
  }
  previous_nanoseconds_ = record.time.time_since_epoch().count();
}

/// Appends what the steps from `first` on make, of a line that began at `begin`.
void PatternFormatter::append_steps(const Delivery& delivery, std::size_t first, std::size_t begin,
                                    TextBuffer& out, ColorRange* range) {
  Line line = line_of(delivery, begin);
  for (std::size_t i = first; i < steps_.size(); ++i) put(steps_[i], line, out, range);
}

PatternFormatter::Line PatternFormatter::line_of(const Delivery& delivery, std::size_t begin) const noexcept {
  const LogRecord& record = delivery.facts();
  const std::int64_t since_epoch = record.time.time_since_epoch().count();
  const bool follows = previous_nanoseconds_ != 0 && since_epoch >= previous_nanoseconds_;
  return {.delivery = delivery,
          .record = record,
          .second = second_,
          .nanosecond = nanosecond_of(record),
          .since = follows ? static_cast<std::uint64_t>(since_epoch - previous_nanoseconds_) : 0,
          .message_begin = begin};
}

PatternFormatter::Fraction PatternFormatter::fraction_of(Kind kind, std::size_t at) noexcept {
  const auto place = static_cast<std::uint32_t>(at);
  if (kind == Kind::milliseconds) return {place, 1'000'000, 3};
  return kind == Kind::microseconds ? Fraction{place, 1'000, 6} : Fraction{place, 1, 9};
}

std::uintptr_t PatternFormatter::place_of(const Delivery& delivery) const noexcept {
  const LogRecord& record = delivery.facts();
  return head_has_place_ || !record.level_name.empty() ? reinterpret_cast<std::uintptr_t>(delivery.site())
                                                       : static_cast<std::uintptr_t>(record.level) + 1;
}

/// Appends the head of a record that is not of the latest head's site, or thread, or second.
void PatternFormatter::put_other_head(const Delivery& delivery, TextBuffer& out) {
  constexpr unsigned bits = 6;
  if (heads_.empty()) [[unlikely]]
    heads_.resize(std::size_t{1} << bits);
  const std::uintptr_t place = place_of(delivery);
  const std::uint64_t key = delivery.facts_id() ^ place;
  Head& head = heads_[key * 0x9e37'79b9'7f4a'7c15U >> (64U - bits)];
  const Line line = line_of(delivery, out.size());
  if (head.facts_id == delivery.facts_id() && head.second == second_ && head.place == place) [[likely]]
    put_head(head, line.nanosecond, out);
  else
    make_head(head, line, out);
  latest_head_ = &head;
  latest_site_ = delivery.site();
}

/// Appends what the first steps make, and keeps it.
void PatternFormatter::make_head(Head& head, Line line, TextBuffer& out) {
  const std::size_t begin = out.size();
  head.facts_id = 0;  // if a step throws
  head.fractions.clear();
  for (std::size_t i = 0; i < head_steps_; ++i) {
    if (steps_[i].flag->of == Of::fraction)
      head.fractions.push_back(fraction_of(steps_[i].kind, out.size() - begin));
    put(steps_[i], line, out, nullptr);
  }
  const std::string_view text = out.view(begin);
  head.text.assign(text.begin(), text.end());
  head.text.resize((text.size() / copied_at_once + 1) * copied_at_once);
  head.bytes = static_cast<std::uint32_t>(text.size());
  head.micros_at = head.fractions.size() == 1 && head.fractions[0].digits == 6 ? head.fractions[0].at : 0;
  head.place = place_of(line.delivery);
  head.second = line.second;
  head.facts_id = line.delivery.facts_id();
}

void PatternFormatter::put(const Step& step, Line& line, TextBuffer& out, ColorRange* range) {
  switch (step.kind) {
    case Kind::time: out.append({steady_text_.data() + step.begin, step.end - step.begin}); return;
    case Kind::color_begin:
      if (colored_) out.append(colors_.of(line.record));
      if (range != nullptr) range->begin = out.size();
      return;
    case Kind::color_end:
      if (range != nullptr) range->end = out.size();
      if (colored_ && !colors_.of(line.record).empty()) out.append(color_reset);
      return;
    case Kind::message:
      if (step.width != 0) break;
      line.message_begin = out.size();
      line.delivery.append_message(out);
      return;
    case Kind::fields:
      if (step.width != 0) break;
      append_fields(out, line.record, line.message_begin);
      return;
    case Kind::field: line.key = keys_[step.begin]; break;
    default: break;
  }
  const std::size_t begin = out.size();
  step.flag->write(line, out);
  if (step.width != 0) pad(step, begin, out);
}

/// Brings what was appended at `begin` to the step's width.
void PatternFormatter::pad(const Step& step, std::size_t begin, TextBuffer& out) {
  const std::size_t shown = characters(out.view(begin));
  if (shown < step.width) {
    const auto gap = step.width - shown;
    const auto before = step.align == Align::right ? gap : step.align == Align::center ? gap / 2 : 0;
    if (before != 0) out.insert(begin, before, ' ');
    out.insert(out.size(), gap - before, ' ');
  } else if (step.cut && shown > step.width) {
    std::size_t end = begin;
    for (std::size_t seen = 0; end < out.size(); ++end)
      if ((static_cast<unsigned char>(out.data()[end]) & 0xc0U) != 0x80U && seen++ == step.width) break;
    out.truncate(end);
  }
}

void append_who(TextBuffer& out, const LogRecord& record) {
  if (record.worker < 0) {
    out.append("parent");
  } else {
    out.push_back('w');
    out.append_number(static_cast<std::uint64_t>(record.worker));
    if (record.incarnation != 0) {
      out.push_back('.');
      out.append_number(std::uint64_t{record.incarnation});
    }
  }
  if (record.task_id != 0 || !record.task_name.empty()) {
    out.push_back(' ');
    append_token(out, record.task_name);
    out.push_back('#');
    out.append_number(record.task_id);
    if (record.attempt != 1) {
      out.push_back('/');
      out.append_number(std::uint64_t{record.attempt});
    }
  }
  if (!record.logger.empty()) {
    out.push_back(' ');
    append_token(out, record.logger);
  }
  if (record.origin != Origin::log) {
    out.append(" <");
    out.append(to_string(record.origin));
    out.push_back('>');
  }
  if (record.late) out.append(" !late");
}

void append_field_value(TextBuffer& out, const FieldValue& value) {
  switch (value.index()) {
    case 0: out.append(*std::get_if<bool>(&value) ? "true" : "false"); return;
    case 1: out.append_number(*std::get_if<std::int64_t>(&value)); return;
    case 2: out.append_number(*std::get_if<std::uint64_t>(&value)); return;
    case 3: {
      const double number = *std::get_if<double>(&value);
      if (!std::isfinite(number)) {
        out.append(std::isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
        return;
      }
      char* const target = out.reserve(40);
      auto* const end = std::to_chars(target, target + 32, number).ptr;
      std::size_t size = static_cast<std::size_t>(end - target);
      // "5.0", so that a double stays one.
      if (std::string_view{target, size}.find_first_of(".e") == std::string_view::npos) {
        std::memcpy(end, ".0", 2);
        size += 2;
      }
      out.advance(size);
      return;
    }
    default: append_scalar_string(out, *std::get_if<std::string>(&value)); return;
  }
}

void append_fields(TextBuffer& out, const LogRecord& record, std::size_t message_begin) {
  if (record.fields.empty()) [[likely]] {
    if (out.size() != message_begin && ends_like_fields(out.view(message_begin))) out.append(" {}");
    return;
  }
  char separator = '{';
  out.push_back(' ');
  for (const auto& field : record.fields) {
    out.push_back(separator);
    separator = ' ';
    if (field.key.empty())
      out.append("\"\"");
    else
      append_token(out, field.key, EscapeIn::field_quotes);
    out.push_back('=');
    append_field_value(out, field.value);
  }
  out.push_back('}');
}

}  // namespace kindred::internal
