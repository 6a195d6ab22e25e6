#include "engine/pulse.hpp"

#include "kindred/internal/process.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal::cluster {

Pulse::Pulse(Engine& engine, Clock clock)
    : engine_{engine}, clock_{std::move(clock)}, thread_{[this] { run(); }} {}

Pulse::~Pulse() {
  {
    const std::scoped_lock lock{mutex_};
    ending_ = true;
  }
  bell_.notify_one();
  thread_.join();
}

bool Pulse::note(Time now, Time every) {
  const std::scoped_lock lock{mutex_};
  lived_ = now;
  every_ = every;
  if (asked_ && now - *asked_ < every) return false;
  asked_ = now;
  return true;
}

void Pulse::run() {
  begin_service_thread("kindred-pulse");
  std::unique_lock lock{mutex_};
  while (!ending_) {
    bell_.wait_for(lock, every_);
    if (ending_ || !lived_) continue;
    const Time silent = clock_() - *lived_;
    if (silent < every_ || silent > most_silence) continue;
    // Under the lock: what the thread says itself comes later.
    for (const auto& [to, packet] : signs_.packets) engine_.tell(to, packet);
    for (const std::string& handle : signs_.handles) engine_.extend(handle);
  }
}

}  // namespace kindred::internal::cluster
