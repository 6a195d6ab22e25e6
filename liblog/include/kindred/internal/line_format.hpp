#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "kindred/internal/text_buffer.hpp"
#include "kindred/log_record.hpp"

namespace kindred::internal {

class Delivery;

/// Makes lines of records. One thread at a time.
class LineFormatter {
 public:
  LineFormatter() = default;
  LineFormatter(const LineFormatter&) = delete;
  LineFormatter& operator=(const LineFormatter&) = delete;
  virtual ~LineFormatter() = default;
  /// Appends the line of a record, without its newline.
  virtual void append(Delivery& delivery, TextBuffer& out) = 0;
};

/// How a sink makes lines. Sinks whose lines are the same share one, so that each line is made once; see
/// `share`. One thread at a time.
class LineFormat {
 public:
  /// `key`: what makes the same line of the same record has the same one; empty: nothing else does.
  explicit LineFormat(std::unique_ptr<LineFormatter> formatter, std::string key = {});
  template <class F>
    requires std::invocable<F&, const LogRecord&, TextBuffer&>
  LineFormat(F format)  // NOLINT(google-explicit-constructor)
      : LineFormat{std::make_unique<OfFunction<F>>(std::move(format))} {}

  /// Appends the line of a record, without its newline.
  void append(Delivery& delivery, TextBuffer& out) {
    Lines& lines = *lines_;
    if (!lines.shared) [[likely]]
      return lines.formatter->append(delivery, out);
    append_shared(delivery, out);
  }
  /// Takes the other's lines for its own, where they are the same.
  void share(const LineFormat& other) noexcept;

 private:
  void append_shared(Delivery& delivery, TextBuffer& out);
  static const LogRecord& whole(Delivery& delivery);
  template <class F>
  struct OfFunction final : LineFormatter {
    explicit OfFunction(F its_format) : format{std::move(its_format)} {}
    void append(Delivery& delivery, TextBuffer& out) override { format(whole(delivery), out); }
    F format;
  };
  struct Lines {
    std::unique_ptr<LineFormatter> formatter;
    std::string key;
    bool shared = false;       ///< by several sinks, or it was
    TextBuffer latest{};       ///< where several sinks share it
    std::uint64_t number = 0;  ///< of the record whose line `latest` is; 0: of none
  };
  std::shared_ptr<Lines> lines_;
};

}  // namespace kindred::internal
