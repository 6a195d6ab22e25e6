#include "kindred/internal/console_sink.hpp"

namespace kindred::internal {
namespace {

PatternFormatter make_formatter(int fd, const SinkOptions& options) {
  const LevelColors colors{options.colors};
  return PatternFormatter{options.pattern, use_color(options.color, fd) ? &colors : nullptr};
}

}  // namespace

// A standard error that fails has nobody to be told to.
ConsoleSink::ConsoleSink(int fd, const SinkOptions& options)
    : formatter_{make_formatter(fd, options)}, writer_{fd == 2 ? "" : "standard output", 64 * 1024} {
  writer_.use(fd, false);
}

ConsoleSink::~ConsoleSink() {
  try {
    flush();
  } catch (...) {  // no memory: what remains is counted as lost
  }
  writer_.abandon();
}

void ConsoleSink::write(const LogRecord& record) {
  auto& buffer = writer_.buffer();
  const std::size_t begin = buffer.size();
  try {
    formatter_.append(record, buffer);
    buffer.push_back('\n');
  } catch (...) {
    buffer.truncate(begin);  // no half line
    throw;
  }
  writer_.end_line(begin);
}

}  // namespace kindred::internal
