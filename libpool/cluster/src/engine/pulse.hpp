#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.hpp"

namespace kindred::internal::cluster {

/// What a process says and does to show that it lives.
struct SignsOfLife {
  std::vector<std::pair<Address, Bytes>> packets;
  std::vector<std::string> handles;  ///< of deliveries whose lease begins anew
};

/// Sends signs of life from a thread of its own while the thread that usually sends them is in a long step,
/// such as hashing and copying a value of gigabytes: that must not look like a death.
///
/// The pulse repeats what that thread has said last, for `most_silence` at most: a thread that hangs is still
/// found.
///
/// Threads: any.
class Pulse {
 public:
  static constexpr Time most_silence = std::chrono::minutes{10};
  using Clock = std::function<Time()>;

  Pulse(Engine& engine, Clock clock);
  Pulse(const Pulse&) = delete;
  Pulse& operator=(const Pulse&) = delete;
  ~Pulse();

  /// The thread is at work. Once in each `every` it is asked for its signs.
  template <class MakeSigns>
  void live(Time now, Time every, const MakeSigns& make) {
    if (!note(now, every)) return;
    SignsOfLife signs = make();
    const std::scoped_lock lock{mutex_};
    signs_ = std::move(signs);
  }

 private:
  bool note(Time now, Time every);
  void run();

  Engine& engine_;
  Clock clock_;
  std::mutex mutex_;
  std::condition_variable bell_;
  bool ending_ = false;
  std::optional<Time> lived_;
  std::optional<Time> asked_;
  Time every_ = std::chrono::seconds{1};
  SignsOfLife signs_;
  std::thread thread_;
};

}  // namespace kindred::internal::cluster
