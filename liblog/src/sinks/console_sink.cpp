#include "kindred/internal/console_sink.hpp"

#include <string>

#include "kindred/internal/console_foot.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "record/delivery.hpp"
#include "sinks/wrapped_rows.hpp"

namespace kindred::internal {
namespace {

PatternFormatter make_formatter(int fd, const SinkOptions& options) {
  const LevelColors colors{options.colors};
  return PatternFormatter{options.pattern, use_color(options.color, fd) ? &colors : nullptr};
}

}  // namespace

// Where stderr fails, there is no place to report it.
ConsoleSink::ConsoleSink(int fd, const SinkOptions& options)
    : fd_{fd},
      formatter_{make_formatter(fd, options)},
      writer_{fd == 2 ? "" : "standard output", 64 * 1024},
      terminal_{is_terminal(fd)},
      wraps_{terminal_ && options.pattern.empty()} {
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
  Delivery delivery{record};
  deliver(delivery);
}

void ConsoleSink::deliver(Delivery& delivery) {
  auto& buffer = writer_.buffer();
  const std::size_t begin = buffer.size();
  try {
    const std::string* const stack = crash_stack(delivery.facts());
    if (stack == nullptr) {
      formatter_.append(delivery, buffer);
      if (wraps_) wrap_for_terminal(buffer, begin, fd_);
    } else {
      // For people: the crash first, on a terminal no wider than that, then a row a frame.
      formatter_.append(without_stack(delivery.whole()), buffer);
      if (terminal_) wrap_for_terminal(buffer, begin, fd_);
      append_frames(buffer, *stack);
    }
    buffer.push_back('\n');
  } catch (...) {
    buffer.truncate(begin);  // no half line
    throw;
  }
  if (buffer.size() < writer_.limit() && !writer_.failing()) return;
  const ConsoleLines lines{terminal_};
  writer_.end_line(begin);
}

void ConsoleSink::flush() {
  if (writer_.buffer().size() == 0) return;
  const ConsoleLines lines{terminal_};
  writer_.drain();
}

}  // namespace kindred::internal
