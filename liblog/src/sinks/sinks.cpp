#include "kindred/sinks.hpp"

#include "kindred/internal/console_sink.hpp"
#include "kindred/internal/ecs_formatter.hpp"
#include "kindred/internal/file_sink.hpp"
#include "kindred/internal/journal_sink.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/spdlog_sink.hpp"
#include "record/delivery.hpp"

namespace kindred {
namespace {

class CallbackSink final : public internal::Sink {
 public:
  explicit CallbackSink(std::function<void(const LogRecord&)> fn) : fn_{std::move(fn)} {}
  void write(const LogRecord& record) override { fn_(record); }
  void flush() override {}

 private:
  std::function<void(const LogRecord&)> fn_;
};

/// Lines as one of the formatters makes them.
template <class Formatter>
class LinesOf final : public internal::LineFormatter {
 public:
  template <class... Args>
  explicit LinesOf(Args&&... args) : formatter_{std::forward<Args>(args)...} {}
  void append(internal::Delivery& delivery, internal::TextBuffer& out) override {
    formatter_.append(delivery, out);
  }

 private:
  Formatter formatter_;
};

/// Names lines that the same options make, so that sinks can share them.
std::string key_of(std::string_view kind, const SinkOptions& options, std::string_view start_method) {
  // Two sinks may have had different records before this one.
  const bool looks_back =
      !options.pattern.empty() && internal::PatternFormatter{options.pattern}.looks_back();
  std::string key;
  if (looks_back) return key;
  for (const std::string_view part : {kind, start_method, std::string_view{options.pattern}}) {
    key += part;
    key += '\0';
  }
  return key;
}

internal::LineFormat text_lines(const SinkOptions& options) {
  const internal::LevelColors colors{options.colors};
  const bool colored = options.color == Color::always;
  return internal::LineFormat{
      std::make_unique<LinesOf<internal::PatternFormatter>>(options.pattern, colored ? &colors : nullptr),
      colored ? std::string{} : key_of("text", options, {})};
}

internal::LineFormat json_lines(const SinkOptions& options, std::string_view start_method, JsonKeys keys) {
  if (keys == JsonKeys::ecs)
    return internal::LineFormat{
        std::make_unique<LinesOf<internal::EcsFormatter>>(options.pattern, start_method),
        key_of("ecs", options, start_method)};
  return internal::LineFormat{
      std::make_unique<LinesOf<internal::JsonFormatter>>(options.pattern, start_method),
      key_of("json", options, start_method)};
}

}  // namespace

AnySink::AnySink(std::string path) : AnySink{sinks::file(std::move(path))} {}
AnySink::AnySink(Made, Maker make) : make_{std::move(make)} {}
AnySink AnySink::of_maker(Maker make) { return AnySink{Made{}, std::move(make)}; }

AnySink AnySink::of_spdlog(std::shared_ptr<spdlog::sinks::sink> sink) {
  return of_maker([sink = std::move(sink)](const SinkOptions& options, std::string_view) {
    return internal::make_spdlog_sink(sink, options);
  });
}

AnySink AnySink::of_callback(std::function<void(const LogRecord&)> fn) {
  return of_maker(
      [fn = std::move(fn)](const SinkOptions&, std::string_view) -> std::unique_ptr<internal::Sink> {
        return std::make_unique<CallbackSink>(fn);
      });
}

std::unique_ptr<internal::Sink> AnySink::make(const SinkOptions& options,
                                              std::string_view start_method) const {
  return make_(options, start_method);
}

namespace sinks {
namespace {

AnySink console(int fd) {
  return AnySink::of_maker(
      [fd](const SinkOptions& options, std::string_view) -> std::unique_ptr<internal::Sink> {
        return std::make_unique<internal::ConsoleSink>(fd, options);
      });
}

}  // namespace

AnySink stdout_color() { return console(1); }
AnySink stderr_color() { return console(2); }

AnySink file(std::string path, FileOptions options) {
  internal::validate(path, options);
  return AnySink::of_maker([path = std::move(path), file = std::move(options)](
                               const SinkOptions& sink, std::string_view) -> std::unique_ptr<internal::Sink> {
    return std::make_unique<internal::FileSink>(path, file, text_lines(sink));
  });
}

AnySink json(std::string path, FileOptions options, JsonKeys keys) {
  internal::validate(path, options);
  return AnySink::of_maker(
      [path = std::move(path), file = std::move(options), keys](
          const SinkOptions& sink, std::string_view start_method) -> std::unique_ptr<internal::Sink> {
        return std::make_unique<internal::FileSink>(path, file, json_lines(sink, start_method, keys));
      });
}

AnySink journald(JournaldOptions options) {
  return AnySink::of_maker([options = std::move(options)](
                               const SinkOptions& sink, std::string_view) -> std::unique_ptr<internal::Sink> {
    return std::make_unique<internal::JournalSink>(options, sink);
  });
}

}  // namespace sinks
}  // namespace kindred
