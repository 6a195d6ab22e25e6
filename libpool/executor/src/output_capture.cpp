#include "output_capture.hpp"

#include <chrono>
#include <cstring>

#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/log_front.hpp"

namespace kindred::internal {

OutputCapture::OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr, std::span<std::byte> page)
    : stdout_{std::move(captured_stdout)},
      stderr_{std::move(captured_stderr)},
      kept_{reinterpret_cast<PartialLines*>(page.subspan(partial_lines_offset, sizeof(PartialLines)).data())} {
  std::thread{[this] {
    settle_thread("kindred-output");
    while (wait_for_output(stdout_.get(), stderr_.get())) {
      // Crash: what is read here and not yet logged is lost if the process dies now; what still lies in the pipe is found there by the parent. So
      // a task's last words are left alone for a while: its end, or its death, takes them. Only a pipe that fills up is emptied at once.
      constexpr std::size_t much = 16 * 1024;
      for (int i = 0; i < 10 && bytes_in_pipe(stdout_.get()) < much && bytes_in_pipe(stderr_.get()) < much; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
      }
      drain(false);
    }
  }}.detach();
}

void OutputCapture::drain(bool partial_lines) {
  const std::scoped_lock lock{mutex_};
  read_one(stdout_, partial_stdout_, Origin::stdout, kept_->out, partial_lines);
  read_one(stderr_, partial_stderr_, Origin::stderr, kept_->error, partial_lines);
}

void OutputCapture::read_one(const Descriptor& pipe, std::string& partial, Origin origin, PartialLine& kept, bool partial_lines) {
  while (read_available(pipe.get(), partial)) {
  }
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
    log_captured(origin, std::string_view{partial}.substr(begin, end - begin));
  }
  partial.erase(0, begin);
  if ((partial_lines || partial.size() > PartialLine::limit) && !partial.empty()) {
    log_captured(origin, partial);
    partial.clear();
  }
  kept.bytes.store(0, std::memory_order_release);
  if (partial.empty()) return;
  std::memcpy(kept.text, partial.data(), partial.size());
  kept.bytes.store(static_cast<std::uint32_t>(partial.size()), std::memory_order_release);
}

}  // namespace kindred::internal
