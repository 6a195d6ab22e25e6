#include "kindred/internal/console_foot.hpp"

#include <algorithm>
#include <mutex>
#include <vector>

#include "kindred/internal/files.hpp"

namespace kindred::internal {
namespace {

constexpr std::string_view erase_row = "\r\x1b[K";

struct Foot {
  const void* owner;
  int fd;
  std::string text;
};

// Never destroyed: static destructors of the program may still log.
struct Feet {
  std::mutex mutex;
  std::vector<Foot> shown;  // the newest last
};
Feet& feet() {
  static auto* const all = new Feet;
  return *all;
}

void write_whole(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const auto written = write_some(fd, text);
    if (written <= 0) return;  // the terminal is gone
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void erase(const std::vector<Foot>& shown) noexcept {
  if (!shown.empty()) write_whole(shown.back().fd, erase_row);
}
void draw(const std::vector<Foot>& shown) noexcept {
  if (!shown.empty()) write_whole(shown.back().fd, shown.back().text);
}

}  // namespace

void show_console_foot(const void* owner, int fd, std::string text) noexcept {
  try {
    Feet& all = feet();
    const std::scoped_lock lock{all.mutex};
    auto found = std::ranges::find(all.shown, owner, &Foot::owner);
    if (found == all.shown.end()) {
      erase(all.shown);
      found = all.shown.insert(all.shown.end(), Foot{owner, fd, {}});
    }
    found->text = std::move(text);
    if (found != std::prev(all.shown.end())) return;  // a newer one is shown
    write_whole(fd, std::string{erase_row} + found->text);
  } catch (...) {  // no memory for a progress bar: the program has other cares
  }
}

void end_console_foot(const void* owner, int fd, std::string_view last) noexcept {
  try {
    Feet& all = feet();
    const std::scoped_lock lock{all.mutex};
    erase(all.shown);
    std::erase_if(all.shown, [&](const Foot& foot) { return foot.owner == owner; });
    if (!last.empty()) write_whole(fd, std::string{last} + '\n');
    draw(all.shown);
  } catch (...) {}
}

ConsoleLines::ConsoleLines(bool terminal) noexcept : terminal_{terminal} {
  if (!terminal_) return;
  feet().mutex.lock();
  erase(feet().shown);
}

ConsoleLines::~ConsoleLines() {
  if (!terminal_) return;
  draw(feet().shown);
  feet().mutex.unlock();
}

}  // namespace kindred::internal
