#include "kindred/internal/spdlog_sink.hpp"

#include <spdlog/formatter.h>
#include <spdlog/sinks/sink.h>

#include <string>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/pattern.hpp"

namespace kindred::internal {
namespace {

spdlog::level::level_enum to_spdlog(Level level) noexcept {
  return static_cast<spdlog::level::level_enum>(level);
}
static_assert(static_cast<int>(Level::trace) == SPDLOG_LEVEL_TRACE &&
              static_cast<int>(Level::off) == SPDLOG_LEVEL_OFF);

/// The record that is on its way through the sink, for the formatter in it.
struct OnItsWay {
  const LogRecord* record = nullptr;
  std::string pattern;
};

/// Our patterns inside a sink of spdlog's. Colouring stays the sink's: it is told the range.
class RecordFormatter final : public spdlog::formatter {
 public:
  explicit RecordFormatter(std::shared_ptr<const OnItsWay> way)
      : way_{std::move(way)}, formatter_{way_->pattern} {}
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    if (way_->record == nullptr) {
      // A message that did not come through us: the sink is shared with a logger of spdlog's own.
      out.append(message.payload.data(), message.payload.data() + message.payload.size());
      out.push_back('\n');
      return;
    }
    line_.clear();
    PatternFormatter::ColorRange range;
    formatter_.append(*way_->record, line_, &range);
    message.color_range_start = out.size() + range.begin;
    message.color_range_end = out.size() + range.end;
    out.append(line_.view().data(), line_.view().data() + line_.size());
    out.push_back('\n');
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<RecordFormatter>(way_);
  }

 private:
  std::shared_ptr<const OnItsWay> way_;
  PatternFormatter formatter_;
  TextBuffer line_;
};

class SpdlogSink final : public Sink {
 public:
  SpdlogSink(std::shared_ptr<spdlog::sinks::sink> sink, const SinkOptions& options) : sink_{std::move(sink)} {
    if (!sink_)
      throw UsageError{
          "add_sink was given an empty spdlog::sink_ptr. Make the sink first: std::make_shared<spdlog::sinks::...>()."};
    way_->pattern = options.pattern;
    if (!options.pattern.empty()) sink_->set_formatter(std::make_unique<RecordFormatter>(way_));
  }

  void write(const LogRecord& record) override {
    const auto level = to_spdlog(record.level);
    if (!sink_->should_log(level)) return;
    payload_.clear();
    append_escaped(payload_, record.message);
    append_fields(payload_, record, 0);
    name_.clear();
    append_escaped(name_, record.logger);
    // spdlog wants the strings of a place to end in NUL and to live through the call only.
    file_ = record.source.file;
    function_ = record.source.function;
    const spdlog::source_loc source =
        file_.empty()
            ? spdlog::source_loc{}
            : spdlog::source_loc{file_.c_str(), static_cast<int>(record.source.line), function_.c_str()};
    spdlog::details::log_msg message{std::chrono::time_point_cast<spdlog::log_clock::duration>(record.time),
                                     source,
                                     {name_.view().data(), name_.size()},
                                     level,
                                     {payload_.view().data(), payload_.size()}};
    message.thread_id = record.tid;
    way_->record = &record;
    struct Arrived {
      OnItsWay& way;
      ~Arrived() { way.record = nullptr; }
    } const arrived{*way_};
    sink_->log(message);
  }
  void flush() override { sink_->flush(); }

 private:
  std::shared_ptr<spdlog::sinks::sink> sink_;
  std::shared_ptr<OnItsWay> way_ = std::make_shared<OnItsWay>();
  TextBuffer payload_;
  TextBuffer name_;
  std::string file_;
  std::string function_;
};

}  // namespace

std::unique_ptr<Sink> make_spdlog_sink(std::shared_ptr<spdlog::sinks::sink> sink,
                                       const SinkOptions& options) {
  return std::make_unique<SpdlogSink>(std::move(sink), options);
}

}  // namespace kindred::internal
