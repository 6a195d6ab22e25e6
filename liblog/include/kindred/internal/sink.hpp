#pragma once

#include "kindred/log_record.hpp"

namespace kindred::internal {

/// Where the collector's records end. One thread at a time (the collector's); may throw, the collector reports it.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;
  virtual void write(const LogRecord& record) = 0;
  virtual void flush() = 0;
};

}  // namespace kindred::internal
