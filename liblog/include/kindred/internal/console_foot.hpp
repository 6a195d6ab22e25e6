#pragma once

#include <string>
#include <string_view>

namespace kindred::internal {

/// The last row of the terminal while a progress bar is shown there: lines of the log pass above it. There is
/// one in a process; of several bars the newest is seen. Any thread.
///
/// Shows `text` (one row, no newline, narrower than the terminal) in place of what `owner` showed before.
void show_console_foot(const void* owner, int fd, std::string text) noexcept;
/// `owner` is done: its row becomes `last` and an ordinary line; nothing where `last` is empty.
void end_console_foot(const void* owner, int fd, std::string_view last) noexcept;

/// Held while whole lines are written to the terminal: the foot is erased before them and drawn again after
/// them. No other code that knows of the row writes meanwhile.
class ConsoleLines {
 public:
  /// `terminal`: false: the lines go elsewhere, and nothing is done.
  explicit ConsoleLines(bool terminal) noexcept;
  ConsoleLines(const ConsoleLines&) = delete;
  ConsoleLines& operator=(const ConsoleLines&) = delete;
  ~ConsoleLines();

 private:
  bool terminal_;
};

}  // namespace kindred::internal
