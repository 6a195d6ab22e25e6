#include "kindred/executor_logger.hpp"

#include <chrono>

#include "kindred/internal/deadline.hpp"

namespace kindred {

// Each call first makes sure that this process is the one whose log it is: `target()` throws otherwise.

SinkId ExecutorLogger::add_sink(const AnySink& sink, SinkOptions options) {
  static_cast<void>(target());
  auto made = sink.make(options, to_string(collector_.start_method()));
  return collector_.add_sink(std::move(made), std::move(options));
}

bool ExecutorLogger::remove_sink(SinkId sink) {
  static_cast<void>(target());
  return collector_.remove_sink(sink);
}

void ExecutorLogger::remove_sinks() {
  static_cast<void>(target());
  collector_.remove_sinks();
}

void ExecutorLogger::set_level(Level level) {
  static_cast<void>(target());
  collector_.set_level(level);
}

void ExecutorLogger::set_level(std::string_view logger, Level level) {
  static_cast<void>(target());
  collector_.set_level(logger, level);
}

void ExecutorLogger::set_level(int worker, Level level) {
  static_cast<void>(target());
  collector_.set_level(worker, level);
}

Level ExecutorLogger::level() const {
  static_cast<void>(target());
  return collector_.level();
}

bool ExecutorLogger::flush(std::optional<std::chrono::milliseconds> limit) {
  static_cast<void>(target());
  internal::Deadline deadline;
  if (limit) deadline = internal::deadline_after(*limit);
  return collector_.flush(deadline);
}

void ExecutorLogger::on_record(std::function<void(LogRecord&)> fn) {
  static_cast<void>(target());
  collector_.on_record(std::move(fn));
}

void ExecutorLogger::deliver(std::vector<LogRecord> records) {
  static_cast<void>(target());
  for (LogRecord& record : records) collector_.emit(std::move(record));
}

LogRecords ExecutorLogger::records() const {
  static_cast<void>(target());
  return LogRecords{collector_.records(true)};
}

LogRecords ExecutorLogger::kept_records() const {
  static_cast<void>(target());
  return LogRecords{collector_.records(false)};
}

LogStats ExecutorLogger::stats() const {
  static_cast<void>(target());
  return collector_.stats();
}

Logger ExecutorLogger::with(std::initializer_list<LogField> fields) const {
  return collector_.logger().with(fields);
}
Logger ExecutorLogger::named(std::string_view name) const { return collector_.logger().named(name); }

}  // namespace kindred
