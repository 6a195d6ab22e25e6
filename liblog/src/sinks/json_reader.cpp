// Boost.JSON's parser without its values: header-only here, so that nothing more is linked.
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/src.hpp>
#include <boost/system/error_code.hpp>

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/record_reader.hpp"

namespace kindred::internal {
namespace {

Level level_of_number(std::int64_t number) noexcept {
  if (number < 10) return Level::trace;
  if (number < 20) return Level::debug;
  if (number < 30) return Level::info;
  if (number < 40) return Level::warn;
  if (number < 50) return Level::error;
  return number < 60 ? Level::critical : Level::off;
}

std::uint32_t to_uint32(const FieldValue& value) noexcept {
  if (const auto* const number = std::get_if<std::int64_t>(&value))
    return static_cast<std::uint32_t>(*number);
  if (const auto* const number = std::get_if<std::uint64_t>(&value))
    return static_cast<std::uint32_t>(*number);
  return 0;
}
std::uint64_t to_uint64(const FieldValue& value) noexcept {
  if (const auto* const number = std::get_if<std::int64_t>(&value))
    return static_cast<std::uint64_t>(*number);
  if (const auto* const number = std::get_if<std::uint64_t>(&value)) return *number;
  return 0;
}

/// Called by the parser with each piece of a line; keeps where in the object it is, and puts values in their
/// place.
class Handler {
 public:
  constexpr static std::size_t max_object_size = std::numeric_limits<std::size_t>::max();
  constexpr static std::size_t max_array_size = std::numeric_limits<std::size_t>::max();
  constexpr static std::size_t max_key_size = std::numeric_limits<std::size_t>::max();
  constexpr static std::size_t max_string_size = std::numeric_limits<std::size_t>::max();
  using Code = boost::system::error_code;
  using Text = boost::json::string_view;

  void start(LogRecord& record) {
    record_ = &record;
    path_.clear();
    sizes_.clear();
    text_.clear();
    seen_message_ = seen_time_ = false;
    level_number_ = -1;
    level_name_.clear();
    exact_fields_.clear();
    has_exact_fields_ = failed_ = false;
  }
  /// Call after the last member of a line. False: the line is JSON, but no record.
  bool finish() {
    if (failed_ || !seen_message_ || !seen_time_ || level_name_.empty()) return false;
    settle_level();
    if (has_exact_fields_) record_->fields = std::move(exact_fields_);
    return true;
  }

  bool on_document_begin(Code&) { return true; }
  bool on_document_end(Code&) { return true; }
  bool on_object_begin(Code&) { return enter(); }
  bool on_object_end(std::size_t, Code&) { return leave(); }
  bool on_array_begin(Code&) {
    if (path_ == "exact.extra") has_exact_fields_ = true;
    return enter();
  }
  bool on_array_end(std::size_t, Code&) { return leave(); }
  bool on_key_part(Text text, std::size_t, Code&) {
    text_.append(text.data(), text.size());
    return true;
  }
  bool on_key(Text text, std::size_t, Code&) {
    text_.append(text.data(), text.size());
    path_.resize(sizes_.empty() ? 0 : sizes_.back());
    key_at_ = path_.empty() ? 0 : path_.size() + 1;
    if (!path_.empty()) path_ += '.';
    path_ += text_;
    text_.clear();
    return true;
  }
  bool on_string_part(Text text, std::size_t, Code&) {
    text_.append(text.data(), text.size());
    return true;
  }
  bool on_string(Text text, std::size_t, Code&) {
    text_.append(text.data(), text.size());
    put_string();
    text_.clear();
    return true;
  }
  bool on_number_part(Text text, Code&) {
    text_.append(text.data(), text.size());
    return true;
  }
  bool on_int64(std::int64_t number, Text, Code&) { return put_number(number); }
  bool on_uint64(std::uint64_t number, Text, Code&) { return put_number(number); }
  bool on_double(double, Text text, Code&) {
    // The parser's own value may be off by the last digit; from_chars is exact.
    text_.append(text.data(), text.size());
    double number = 0;
    std::from_chars(text_.data(), text_.data() + text_.size(), number);
    return put_number(number);
  }
  bool on_bool(bool value, Code&) { return put_number(value); }
  bool on_null(Code&) { return true; }
  bool on_comment_part(Text, Code&) { return true; }
  bool on_comment(Text, Code&) { return true; }

 private:
  bool enter() {
    sizes_.push_back(path_.size());
    return sizes_.size() < 16;
  }
  bool leave() {
    sizes_.pop_back();
    path_.resize(sizes_.empty() ? 0 : sizes_.back());
    return true;
  }
  [[nodiscard]] bool in_extra() const noexcept {
    return sizes_.size() == 3 && path_.starts_with("record.extra.") && key_at_ == 13;
  }
  [[nodiscard]] std::string_view key() const noexcept { return std::string_view{path_}.substr(key_at_); }

  bool put_number(FieldValue value) {
    text_.clear();
    if (in_extra()) {
      record_->fields.push_back({std::string{key()}, std::move(value)});
      return true;
    }
    if (is_label()) {
      record_->fields.push_back({std::string{key()}, std::move(value)});
      return true;
    }
    if (sizes_.size() < 2 || !path_.starts_with("record.")) return put_ecs_number(value);
    const std::string_view where = std::string_view{path_}.substr(7);
    if (where == "level.no")
      level_number_ = static_cast<std::int64_t>(to_uint64(value));
    else if (where == "line")
      record_->source.line = to_uint32(value);
    else if (where == "process.id")
      record_->pid = to_uint32(value);
    else if (where == "thread.id")
      record_->tid = to_uint32(value);
    else if (where == "worker")
      record_->worker = static_cast<int>(to_uint32(value));
    else if (where == "incarnation")
      record_->incarnation = to_uint32(value);
    else if (where == "task.id")
      record_->task_id = to_uint64(value);
    else if (where == "task.attempt")
      record_->attempt = to_uint32(value);
    else if (where == "sequence")
      record_->sequence = to_uint64(value);
    else if (where == "late")
      record_->late = value == FieldValue{true};
    return true;
  }

  void put_string() {
    if (in_extra()) {
      record_->fields.push_back({std::string{key()}, text_});
    } else if (path_.starts_with("record.")) {
      put_record_string(std::string_view{path_}.substr(7));
    } else if (path_.starts_with("exact.")) {
      put_exact(std::string_view{path_}.substr(6));
    } else if (is_label()) {
      record_->fields.push_back({std::string{key()}, text_});
    } else {
      put_ecs_string();
    }
  }

  // --- the keys of the Elastic Common Schema ---
  [[nodiscard]] bool is_label() const noexcept {
    return sizes_.size() == 2 && key_at_ == 7 && path_.starts_with("labels.");
  }

  bool put_ecs_number(const FieldValue& value) {
    if (path_ == "process.pid")
      record_->pid = to_uint32(value);
    else if (path_ == "process.thread.id")
      record_->tid = to_uint32(value);
    else if (path_ == "log.origin.file.line")
      record_->source.line = to_uint32(value);
    else if (path_ == "kindred.worker")
      record_->worker = static_cast<int>(to_uint32(value));
    else if (path_ == "kindred.incarnation")
      record_->incarnation = to_uint32(value);
    else if (path_ == "kindred.task.id")
      record_->task_id = to_uint64(value);
    else if (path_ == "kindred.task.attempt")
      record_->attempt = to_uint32(value);
    else if (path_ == "kindred.sequence")
      record_->sequence = to_uint64(value);
    else if (path_ == "kindred.late")
      record_->late = value == FieldValue{true};
    return true;
  }

  void put_ecs_string() {
    const std::string_view where = path_;
    if (where == "@timestamp")
      put_record_string("time.repr");
    else if (where == "message" || where == "log.level" || where == "log.logger")
      put_record_string(where == "message" ? "message" : where == "log.level" ? "level.name" : "name");
    else if (where == "log.origin.file.name" || where == "log.origin.function")
      put_record_string(where == "log.origin.function" ? "function" : "file.path");
    else if (where == "kindred.task.name" || where == "kindred.origin")
      put_record_string(where.substr(8));
  }

  void put_record_string(std::string_view where) {
    if (where == "message") {
      record_->message = text_;
      seen_message_ = true;
    } else if (where == "time.repr") {
      std::string_view text = text_;
      seen_time_ = take_time(text, record_->time) && text.empty();
      failed_ |= !seen_time_;
    } else if (where == "level.name") {
      level_name_ = text_;
    } else if (where == "name") {
      record_->logger = text_;
    } else if (where == "file.path") {
      record_->source.file = intern(text_);
    } else if (where == "function") {
      record_->source.function = intern(text_);
    } else if (where == "task.name") {
      record_->task_name = text_;
    } else if (where == "origin") {
      for (const auto origin :
           {Origin::log, Origin::stdout, Origin::stderr, Origin::lifecycle, Origin::crash})
        if (to_string(origin) == text_) record_->origin = origin;
    }
  }

  void put_exact(std::string_view where) {
    if (where == "extra") {
      std::string_view text = text_;
      failed_ |= !take_field(text, exact_fields_.emplace_back()) || !text.empty();
      return;
    }
    std::string exact;
    failed_ |= !append_unescaped(exact, text_);
    if (where == "message")
      record_->message = std::move(exact);
    else if (where == "name")
      record_->logger = std::move(exact);
    else if (where == "task")
      record_->task_name = std::move(exact);
    else if (where == "level")
      level_name_ = std::move(exact);
    else if (where == "file")
      record_->source.file = intern(exact);
    else if (where == "function")
      record_->source.function = intern(exact);
  }

  void settle_level() {
    if (level_number_ >= 0) record_->level = level_of_number(level_number_);
    // Loguru writes its names large, and "WARNING".
    std::string name = level_name_;
    for (auto& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (name == "warning") name = "warn";
    for (int level = 0; level <= static_cast<int>(Level::off); ++level) {
      if (to_string(static_cast<Level>(level)) != name) continue;
      // A name of one level on a record of another is a custom level that happens to be called so.
      if (level_number_ >= 0 && record_->level != static_cast<Level>(level)) break;
      record_->level = static_cast<Level>(level);
      return;
    }
    record_->level_name = level_name_;
  }

  LogRecord* record_ = nullptr;
  std::string path_;                ///< of the value that is being read: "record.level.no"
  std::vector<std::size_t> sizes_;  ///< of the path at each level that is open
  std::size_t key_at_ = 0;          ///< where the last key begins in it
  std::string text_;
  bool seen_message_ = false;
  bool seen_time_ = false;
  bool failed_ = false;
  std::int64_t level_number_ = -1;
  std::string level_name_;
  std::vector<Field> exact_fields_;
  bool has_exact_fields_ = false;
};

class JsonReader final : public RecordReader {
 public:
  bool read(std::string_view line, LogRecord& record) override {
    parser_.reset();
    parser_.handler().start(record);
    boost::system::error_code error;
    const std::size_t used = parser_.write_some(false, line.data(), line.size(), error);
    return !error && parser_.done() && used == line.size() && parser_.handler().finish();
  }

 private:
  boost::json::basic_parser<Handler> parser_{boost::json::parse_options{}};
};

}  // namespace

std::unique_ptr<RecordReader> make_json_reader() { return std::make_unique<JsonReader>(); }

}  // namespace kindred::internal
