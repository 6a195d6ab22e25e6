#include "kindred/internal/line_format.hpp"

#include "record/delivery.hpp"

namespace kindred::internal {

LineFormat::LineFormat(std::unique_ptr<LineFormatter> formatter, std::string key)
    : lines_{std::make_shared<Lines>(Lines{std::move(formatter), std::move(key)})} {}

const LogRecord& LineFormat::whole(Delivery& delivery) { return delivery.whole(); }

void LineFormat::append_shared(Delivery& delivery, TextBuffer& out) {
  Lines& lines = *lines_;
  if (delivery.number == 0 || lines_.use_count() == 1) return lines.formatter->append(delivery, out);
  if (lines.number != delivery.number) {
    lines.number = 0;  // if the formatter throws
    lines.latest.clear();
    lines.latest.shrink(1024 * 1024);
    lines.formatter->append(delivery, lines.latest);
    lines.number = delivery.number;
  }
  out.append(lines.latest.view());
}

void LineFormat::share(const LineFormat& other) noexcept {
  if (lines_->key.empty() || lines_->key != other.lines_->key) return;
  lines_ = other.lines_;
  lines_->shared = true;
}

}  // namespace kindred::internal
