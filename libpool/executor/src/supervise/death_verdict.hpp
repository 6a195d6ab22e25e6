#pragma once

#include "kindred/exit_reason.hpp"
#include "link/kill_reason.hpp"

namespace kindred::internal {

/// What is known of a worker's death.
struct Death {
  ExitReason reason;
  KillReason killed_for = KillReason::none;
  bool pool_ends = false;            ///< all workers were ended: `terminate_workers`, `kill_workers`
  bool was_leaving = false;          ///< it was asked to finish
  bool was_ready = true;             ///< it had passed its initializer
  bool front_was_cancelled = false;  ///< the call that it ran was cancelled by killing it
  bool out_of_memory = false;        ///< the kernel has counted an OOM kill in this cgroup since
  bool over_memory_limit = false;    ///< it was killed for the limit of its own control group
  bool is_sandboxed = false;         ///< SIGSYS means that the sandbox refused a system call
  bool has_initializer = false;
  bool is_spawned = false;           ///< by executing the program, which may never reach `Entry`
  bool reached_initializer = false;  ///< it passed `Entry`, and began its initializer
  bool initializer_failed = false;   ///< it said so
  bool bootstrap_failed = false;     ///< it said so
  bool lost_descriptors = false;     ///< it ended itself because a task had closed what kindred needs
};

/// What follows from it.
struct DeathVerdict {
  enum class Hint : unsigned char {
    none,
    corrupted,
    mute,
    stopped,
    lost_descriptors,
    sandboxed,
    over_memory_limit,
    out_of_memory,
    maybe_out_of_memory
  };
  /// A failure of its start that the next start would repeat: it breaks the pool.
  enum class StartFailure : unsigned char {
    none,
    initializer_threw,
    bootstrap,
    initializer_timeout,
    died_in_initializer,
    died_before_entry
  };

  ExitReason reason;             ///< as users see it: killed for a time limit is `timed_out`
  bool in_good_order = false;    ///< it left because it was asked to
  bool ours = false;             ///< the pool ended it
  bool for_cancelled = false;    ///< it was killed for a task that was cancelled
  bool only_replaced = false;    ///< no crash: it makes room for a worker with all its descriptors
  bool own_doing = false;        ///< it ended by what ran in it, and not by a signal from outside
  bool counts_as_crash = false;  ///< for the restart limit
  Hint hint = Hint::none;
  StartFailure start_failure = StartFailure::none;
};

[[nodiscard]] DeathVerdict judge(const Death& death) noexcept;

/// What is known of the first call of a dead worker. Calls run in order and the results of finished ones were
/// taken in, so only the first call can have been begun.
struct FirstCall {
  bool state_says_begun = false;  ///< the call's own state word
  bool word_says_begun = false;   ///< the worker's word about what it runs
  bool condemned = false;         ///< its worker was killed for it
  bool suspect = false;           ///< worker after worker died with it first in the ring
};

/// Was the first call lost with its worker, or is it as good as new? Either word is enough: a task that wrote
/// over one of them was begun.
[[nodiscard]] constexpr bool is_lost(const FirstCall& call) noexcept {
  return call.state_says_begun || call.word_says_begun || call.condemned || call.suspect;
}

}  // namespace kindred::internal
