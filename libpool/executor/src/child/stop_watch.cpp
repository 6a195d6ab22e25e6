#include "child/stop_watch.hpp"

#include "kindred/internal/event_poll.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {

std::stop_token StopWatch::token() {
  const std::scoped_lock lock{mutex_};
  const auto attempt = begun_attempt();
  if (attempt_ != attempt || !source_) {
    source_.emplace();
    attempt_ = attempt;
  }
  if (stop_requested()) source_->request_stop();
  if (!is_watched_) {
    std::thread{[this] { watch(); }}.detach();  // it lives as long as the process
    is_watched_ = true;
  }
  return source_->get_token();
}

void StopWatch::watch() {
  begin_service_thread("kindred-stop");
  // futex_wait takes the word as one to be waited on; it is only read.
  auto& signal = const_cast<std::atomic<std::uint32_t>&>(header_.stop_signal);
  for (;;) {
    const auto seen = signal.load(std::memory_order_acquire);
    {
      const std::scoped_lock lock{mutex_};
      if (source_ && attempt_ != 0 && header_.stop_attempt.load(std::memory_order_acquire) == attempt_)
        source_->request_stop();
    }
    futex_wait(signal, seen);
  }
}

}  // namespace kindred::internal
