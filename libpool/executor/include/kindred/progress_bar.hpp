#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string_view>

#include "kindred/count.hpp"

namespace kindred {

namespace internal {
class PoolCore;
}

/// Shows how far a piece of work has come, at the foot of a terminal:
///
///     files  42% [##########..............] 1260/3000 567/s 0:03 left, 2 busy
///
///     kindred::ProgressBar bar{std::cerr, files.size(), "files"};
///     for (auto& words : pool.map(count_words, files, {.progress = bar})) ...
///
/// Or by hand, with `as_completed` say: `bar.update(++done)`. Lines that kindred's console sinks write appear
/// above it. What the program itself prints to the same terminal does not know of it: print through the log,
/// or after `finish`.
///
/// Where the stream is not the terminal's (a file, a pipe, TERM=dumb) it writes a plain line every ten
/// seconds, and one at the end. It uses no colours.
///
/// Costs some 30 ns an update; the terminal is written to at most ten times a second, and never waited for
/// while another thread draws. Copies are the same bar: it ends when it is complete, at `finish`, or with the
/// last copy. Threads: any. Fork: parent only.
class ProgressBar {
 public:
  /// args: std::cerr, std::clog or std::cout for a terminal, or any stream for plain lines, which must
  /// outlive the bar; how much there is to do (0: not known); what is counted, for people.
  ProgressBar(std::ostream& out, Count total, std::string_view unit = "items");

  /// Shows that `done` is done, and that `failed` of it failed. An exception of the stream is not passed on.
  void update(std::size_t done, std::size_t failed = 0);
  /// For `MapOptions::progress`.
  void operator()(std::size_t done, std::size_t fetched) const;
  /// Leaves the bar as it is now, as an ordinary line. Again: nothing.
  void finish();

 private:
  class State;
  template <class Home, bool keeps, class F, class... Ranges>
  friend class BasicMapRange;

  /// The bar that a map was given for its progress; none: it was given something else.
  [[nodiscard]] static std::optional<ProgressBar> in(
      const std::function<void(std::size_t, std::size_t)>& progress);
  /// The same, with the number of workers that are busy.
  void update(std::size_t done, std::size_t failed, internal::PoolCore& pool);

  std::shared_ptr<State> state_;
};

}  // namespace kindred
