#pragma once

#include <cstdint>

#include "kindred/internal/line_writer.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/sink.hpp"
#include "kindred/sink_options.hpp"

namespace kindred::internal {

/// Lines to standard output (1) or standard error (2), with colours. Written out when 64 KiB came together,
/// and at every `flush`. On a terminal, lines of the default pattern are broken at spaces into rows of its
/// width; lines of another pattern are left as they are.
class ConsoleSink final : public Sink {
 public:
  /// Errors: `UsageError` for a pattern or a colour that means nothing.
  ConsoleSink(int fd, const SinkOptions& options);
  ~ConsoleSink() override;
  void write(const LogRecord& record) override;
  void deliver(Delivery& delivery) override;
  [[nodiscard]] bool takes_facts() const noexcept override { return true; }
  void flush() override;
  [[nodiscard]] std::uint64_t lost() const noexcept override { return writer_.lost(); }

 private:
  int fd_;
  PatternFormatter formatter_;
  LineWriter writer_;
  bool terminal_;
  bool wraps_;
};

}  // namespace kindred::internal
