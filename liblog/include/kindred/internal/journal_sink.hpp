#pragma once

#include <atomic>
#include <chrono>
#include <optional>
#include <string>

#include "kindred/internal/journal_socket.hpp"
#include "kindred/internal/pattern.hpp"
#include "kindred/internal/sink.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/sinks.hpp"

namespace kindred::internal {

/// Records to systemd-journald: `sinks::journald`, whose table has the fields.
class JournalSink final : public Sink {
 public:
  /// Errors: `SystemError` where there is no journald; `UsageError` (pattern).
  JournalSink(const JournaldOptions& options, const SinkOptions& sink);
  void write(const LogRecord& record) override;
  void flush() override {}
  [[nodiscard]] std::uint64_t lost() const noexcept override { return lost_.load(std::memory_order_relaxed); }

 private:
  void put(std::string_view key, std::string_view value);
  void put(std::string_view key, std::uint64_t value);
  void put_field(const Field& field);

  JournalSocket socket_;
  std::string identifier_;
  std::optional<PatternFormatter> text_;
  TextBuffer line_;
  TextBuffer out_;
  std::atomic<std::uint64_t> lost_{0};
  std::chrono::steady_clock::time_point next_report_{};
};

}  // namespace kindred::internal
