#pragma once

#include <cstdint>

#include "kindred/log_record.hpp"

namespace kindred::internal {

class Delivery;
class LineFormat;

/// Where the collector's records end. One thread at a time (the collector's); may throw, the collector
/// reports it.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;
  virtual void write(const LogRecord& record) = 0;
  /// Takes a record that may not be whole yet. A sink that needs no whole one says so by `takes_facts`.
  virtual void deliver(Delivery& delivery);
  /// Does `deliver` do with a record's facts and the plan of its message?
  [[nodiscard]] virtual bool takes_facts() const noexcept { return false; }
  /// How it makes lines, which it may share with sinks whose lines are the same. Null: it makes none.
  [[nodiscard]] virtual LineFormat* line_format() noexcept { return nullptr; }
  virtual void flush() = 0;
  /// Returns how many records it took and could not keep (full disk, reader gone) so far. Any thread.
  [[nodiscard]] virtual std::uint64_t lost() const noexcept { return 0; }
};

}  // namespace kindred::internal
