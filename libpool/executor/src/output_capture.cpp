#include "output_capture.hpp"

#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/event_poll.hpp"
#include "kindred/logger.hpp"

namespace kindred::internal {
namespace {
void log_captured_(Origin origin, std::string_view line) { Logger{origin == Origin::stdout ? "stdout" : "stderr"}.info("{}", line); }
}  // namespace


OutputCapture::OutputCapture(Descriptor captured_stdout, Descriptor captured_stderr)
    : stdout_{std::move(captured_stdout)}, stderr_{std::move(captured_stderr)} {
  std::thread{[this] {
    settle_thread("kindred-output");
    while (wait_for_output(stdout_.get(), stderr_.get())) drain(false);
  }}.detach();
}

void OutputCapture::drain(bool partial_lines) {
  const std::scoped_lock lock{mutex_};
  read_one(stdout_, partial_stdout_, Origin::stdout, partial_lines);
  read_one(stderr_, partial_stderr_, Origin::stderr, partial_lines);
}

void OutputCapture::read_one(const Descriptor& pipe, std::string& partial, Origin origin, bool partial_lines) {
  while (read_available(pipe.get(), partial)) {
  }
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = partial.find('\n', begin)) != std::string::npos; begin = end + 1) {
    log_captured_(origin, std::string_view{partial}.substr(begin, end - begin));
  }
  partial.erase(0, begin);
  if (partial_lines && !partial.empty()) {
    log_captured_(origin, partial);
    partial.clear();
  }
}

}  // namespace kindred::internal
