#include "printed_text.hpp"

#include <algorithm>

#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/keeper.hpp"

namespace kindred::internal {
namespace {

// What the parent reads of a dead worker's output: as much as the largest pipe holds. A subprocess that lives
// on and writes without end is not followed.
constexpr std::size_t max_untold = std::size_t{1} << 20U;

}  // namespace

static_assert(printed_texts_offset + sizeof(PrintedTexts) <= 4096);

std::string take_untold(const PrintedText& printed, std::span<const std::byte> log_area, int pipe) {
  // The worker may have corrupted it: every number is read once and bounded.
  const PrintedText::State state = printed.state.load(std::memory_order_acquire);
  std::string text;
  std::size_t logged =
      state.logging != 0 && was_committed(log_area, printed.mark) ? printed.next_logged : state.logged;
  if (state.taking != 0 && printed.marker == printed.expected) {
    const std::size_t next = std::min(state.next_kept(), PrintedText::limit);
    text.assign(printed.text[1U - state.which], next);
    if (next != 0) text.back() = printed.marker;
    logged = 0;
  } else {
    text.assign(printed.text[state.which], std::min<std::size_t>(state.kept, PrintedText::limit));
  }
  (void)read_available(pipe, text, max_untold);
  text.erase(0, logged);
  return text;
}

}  // namespace kindred::internal
