#include "kindred/internal/console_sink.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <variant>

#include "kindred/internal/console_foot.hpp"
#include "kindred/internal/escape.hpp"
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

constexpr std::string_view stack_field = "backtrace";
constexpr std::size_t usual_columns = 80;

// The stack of a crash that the pool tells of; null for any other record.
const std::string* stack_of(const LogRecord& record) noexcept {
  if (record.origin != Origin::lifecycle) return nullptr;
  const auto found = std::ranges::find(record.fields, stack_field, &Field::key);
  return found == record.fields.end() ? nullptr : std::get_if<std::string>(&found->value);
}

}  // namespace

// A standard error that fails has nobody to be told to.
ConsoleSink::ConsoleSink(int fd, const SinkOptions& options)
    : fd_{fd},
      formatter_{make_formatter(fd, options)},
      writer_{fd == 2 ? "" : "standard output", 64 * 1024},
      terminal_{is_terminal(fd)} {
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
    const std::string* const stack = stack_of(delivery.facts());
    if (stack == nullptr)
      formatter_.append(delivery, buffer);
    else
      append_with_stack(delivery.whole(), *stack);
    buffer.push_back('\n');
  } catch (...) {
    buffer.truncate(begin);  // no half line
    throw;
  }
  if (buffer.size() < writer_.limit() && !writer_.failing()) return;
  const ConsoleLines lines{terminal_};
  writer_.end_line(begin);
}

// For people: the crash first, on a terminal no wider than that, then a row a frame.
void ConsoleSink::append_with_stack(const LogRecord& record, std::string_view stack) {
  LogRecord crash = record;
  std::erase_if(crash.fields, [](const Field& field) { return field.key == stack_field; });
  auto& buffer = writer_.buffer();
  if (terminal_) {
    TextBuffer line;
    formatter_.append(crash, line);
    const unsigned columns = terminal_columns(fd_);
    buffer.append(wrapped_rows(line.view(), columns == 0 ? usual_columns : columns));
  } else {
    formatter_.append(crash, buffer);
  }
  for (std::string_view rest = stack; !rest.empty();) {
    const auto end = rest.find('\n');
    buffer.append("\n    at ");
    append_escaped(buffer, rest.substr(0, end));
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
  }
}

void ConsoleSink::flush() {
  if (writer_.buffer().size() == 0) return;
  const ConsoleLines lines{terminal_};
  writer_.drain();
}

}  // namespace kindred::internal
