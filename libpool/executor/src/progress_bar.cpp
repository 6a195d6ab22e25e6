#include "kindred/progress_bar.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <string>

#include "kindred/internal/console_foot.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "pool/pool_core.hpp"
#include "progress_row.hpp"

namespace kindred {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds between_rows{100};
constexpr std::chrono::seconds between_lines{10};
constexpr unsigned usual_columns = 80;

// The descriptor of a terminal that a row can be drawn on, or -1.
int terminal_of(const std::ostream& out) {
  const int fd = &out == &std::cout ? 1 : &out == &std::cerr || &out == &std::clog ? 2 : -1;
  const char* const kind = std::getenv("TERM");
  const bool draws = kind != nullptr && *kind != '\0' && std::string_view{kind} != "dumb";
  return fd >= 0 && draws && internal::is_terminal(fd) ? fd : -1;
}

std::string one_row(std::string_view text) {
  internal::TextBuffer escaped;
  internal::append_escaped(escaped, text);
  return std::string{escaped.view()};
}

std::int64_t now_ns() { return steady_clock::now().time_since_epoch().count(); }

}  // namespace

class ProgressBar::State {
 public:
  State(std::ostream& out, Count total, std::string_view unit)
      : out_{out},
        fd_{terminal_of(out)},
        total_{total.value() < 0 ? 0 : static_cast<std::size_t>(total.value())},
        unit_{one_row(unit)},
        next_{began_ + (fd_ < 0 ? std::chrono::nanoseconds{between_lines}.count() : 0)} {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { finish(); }

  void update(std::size_t done, std::size_t failed, internal::PoolCore* pool) noexcept {
    done_.store(done, std::memory_order_relaxed);
    failed_.store(failed, std::memory_order_relaxed);
    if (total_ != 0 && done >= total_) return finish();
    const auto now = now_ns();
    if (now < next_.load(std::memory_order_relaxed)) return;
    const std::unique_lock lock{drawing_, std::try_to_lock};
    if (!lock || over_) return;  // another thread draws, and will do so again soon
    const std::chrono::nanoseconds wait = fd_ < 0 ? std::chrono::nanoseconds{between_lines} : between_rows;
    next_.store(now + wait.count(), std::memory_order_relaxed);
    draw(pool);
  }

  void finish() noexcept {
    const std::scoped_lock lock{drawing_};
    if (over_) return;
    over_ = true;
    draw(nullptr);
  }

 private:
  void draw(internal::PoolCore* pool) noexcept {
    try {
      internal::Progress progress{.unit = unit_,
                                  .done = done_.load(std::memory_order_relaxed),
                                  .total = total_,
                                  .failed = failed_.load(std::memory_order_relaxed),
                                  .busy = 0,
                                  .seconds = static_cast<double>(now_ns() - began_) * 1e-9,
                                  .over = over_};
      if (fd_ < 0) {
        out_ << internal::progress_line(progress) + '\n' << std::flush;
        return;
      }
      if (pool != nullptr) progress.busy = static_cast<std::size_t>(pool->stats().running);
      const unsigned columns = internal::terminal_columns(fd_);
      // The last column is left free: a terminal that wraps there would make a new row.
      const auto row = internal::progress_row(progress, (columns == 0 ? usual_columns : columns) - 1);
      out_.flush();  // what the program printed before comes first
      if (over_)
        internal::end_console_foot(this, fd_, row);
      else
        internal::show_console_foot(this, fd_, row);
    } catch (...) {  // a stream that throws, no memory: nothing that the work should end for
    }
  }

  std::ostream& out_;
  const int fd_;
  const std::size_t total_;
  const std::string unit_;
  const std::int64_t began_ = now_ns();
  std::atomic<std::size_t> done_{0};
  std::atomic<std::size_t> failed_{0};
  std::atomic<std::int64_t> next_;
  std::mutex drawing_;
  bool over_ = false;
};

ProgressBar::ProgressBar(std::ostream& out, Count total, std::string_view unit)
    : state_{std::make_shared<State>(out, total, unit)} {}

void ProgressBar::update(std::size_t done, std::size_t failed) { state_->update(done, failed, nullptr); }
void ProgressBar::update(std::size_t done, std::size_t failed, internal::PoolCore& pool) {
  state_->update(done, failed, &pool);
}
void ProgressBar::operator()(std::size_t done, std::size_t) const { state_->update(done, 0, nullptr); }
void ProgressBar::finish() { state_->finish(); }

std::optional<ProgressBar> ProgressBar::in(const std::function<void(std::size_t, std::size_t)>& progress) {
  if (const auto* const bar = progress.target<ProgressBar>()) return *bar;
  if (const auto* const bar = progress.target<std::reference_wrapper<ProgressBar>>()) return bar->get();
  return std::nullopt;
}

}  // namespace kindred
