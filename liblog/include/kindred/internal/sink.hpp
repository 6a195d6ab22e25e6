#pragma once

#include <cstdint>

#include "kindred/log_record.hpp"

namespace kindred::internal {

/// Where the collector's records end. One thread at a time (the collector's); may throw, the collector
/// reports it.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;
  virtual void write(const LogRecord& record) = 0;
  virtual void flush() = 0;
  /// Returns how many records it took and could not keep (full disk, reader gone) so far. Any thread.
  [[nodiscard]] virtual std::uint64_t lost() const noexcept { return 0; }
};

}  // namespace kindred::internal
