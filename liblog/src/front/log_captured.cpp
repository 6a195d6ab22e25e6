#include "kindred/internal/log_front.hpp"
#include "kindred/logger.hpp"

namespace kindred::internal {

void log_captured(Origin origin, std::string_view line) {
  static const Logger output{"\1stdout"};
  static const Logger errors{"\1stderr"};
  if (origin == Origin::stderr) {
    errors.log_at(Level::warn, std::source_location{}, "{}", line);
  } else {
    output.log_at(Level::info, std::source_location{}, "{}", line);
  }
}

}  // namespace kindred::internal
