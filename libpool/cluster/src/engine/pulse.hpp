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

/// Gives signs of life on a thread of its own while the thread that has to give them is in a long step: a
/// value of gigabytes is hashed and copied in one, and that must not look like a death.
///
/// It says only what that thread has said last, and no longer than for `most_silence`: a thread that hangs is
/// found out all the same.
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
