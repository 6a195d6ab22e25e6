#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"

namespace kindred::internal::cluster {

/// Takes tasks out of the queues of its build: what is there, from high to low priority; where nothing is
/// there, it waits at all three. Threads: one at a time; `now` is an argument.
class Fetcher {
 public:
  Fetcher(Engine& engine, Tickets& tickets, std::string build)
      : engine_{engine}, tickets_{tickets}, build_{std::move(build)} {}

  void tick(Time now, Epoch epoch, std::size_t room);
  /// False: the answer is not to one of its questions.
  bool on_answer(Time now, const Answer& answer);
  void on_delivery() noexcept { ++got_; }
  /// What is there is not for this node: it is not asked for at once again.
  void pause(Time now) noexcept { not_before_ = now + std::chrono::milliseconds{100}; }
  /// The epoch has changed, or the connection: what was asked there is not answered.
  void restart() noexcept;
  [[nodiscard]] Time next_due(std::size_t room) const noexcept;

 private:
  enum class State : std::uint8_t {
    unknown,  ///< there may be tasks
    asked,    ///< for what is there now
    waiting   ///< it was empty: the next task comes by itself
  };
  struct Pull {
    State state = State::unknown;
    Ticket ticket = 0;
    Time until{0};
  };
  void take(Time now, std::size_t index, Epoch epoch, std::size_t room, Time wait);

  Engine& engine_;
  Tickets& tickets_;
  std::string build_;
  std::array<Pull, 3> pulls_ = {};  // from high to low priority
  std::array<bool, 3> empty_ = {};  // as the last answer said
  std::uint64_t got_ = 0;           // deliveries since the last question
  Time not_before_{0};
};

}  // namespace kindred::internal::cluster
