#pragma once

#include <chrono>
#include <optional>

namespace kindred::internal {

/// What is known when the supervisor looks whether to start a worker.
struct StartFacts {
  using Time = std::chrono::steady_clock::time_point;
  bool is_wanted = false;                    ///< a worker is wanted
  bool is_in_hand = false;                   ///< one is on its way: they are started one by one
  bool has_use = true;                       ///< the pool goes on, or has tasks left
  bool has_slot = true;                      ///< there are fewer workers than may be
  Time may_start = {};                       ///< after failures, not before this
  std::optional<Time> preparing_since = {};  ///< the fork server preloads since then
  std::optional<std::chrono::nanoseconds> preload_limit = {};  ///< for how long it may
};

/// What follows from it.
enum class StartStep : unsigned char {
  none,             ///< nothing now
  want_none,        ///< no further worker is of use: the wish is dropped
  end_fork_server,  ///< its preload ran over its limit
  prepare           ///< the start is begun, or the fork server's preload goes on
};

[[nodiscard]] constexpr StartStep next_start_step(const StartFacts& facts, StartFacts::Time now) noexcept {
  if (!facts.is_wanted || facts.is_in_hand || now < facts.may_start) return StartStep::none;
  if (!facts.has_use || !facts.has_slot) return StartStep::want_none;
  const bool is_late =
      facts.preparing_since && facts.preload_limit && *facts.preparing_since + *facts.preload_limit <= now;
  return is_late ? StartStep::end_fork_server : StartStep::prepare;
}

/// When to look again, if nothing is heard before; none: when a worker is wanted.
[[nodiscard]] constexpr std::optional<StartFacts::Time> next_start_look(const StartFacts& facts) noexcept {
  if (facts.preparing_since) {
    if (!facts.preload_limit) return {};
    return *facts.preparing_since + *facts.preload_limit;
  }
  if (!facts.is_wanted) return {};
  return facts.may_start;
}

}  // namespace kindred::internal
