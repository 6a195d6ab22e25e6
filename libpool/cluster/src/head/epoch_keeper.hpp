#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"

namespace kindred::internal::cluster {

/// Which life of the engine's store this head works with: it finds or makes the epoch, its streams and
/// queues, looks whether they are still there and whole, and raises the epoch where they are not.
///
///     bucket -> read -> (claim) -> streams, queues, manifest -> ready --something is gone--> read ...
///
/// The number of an epoch is the time in milliseconds at which it was made, and larger than that before: so
/// no epoch comes twice, even if nothing is left of the earlier ones. Two heads that raise it at once write
/// the key with the revision that they have read: one of them gets a conflict, and takes the other's.
///
/// Threads: one at a time; `now` and `wall` (system clock) are arguments.
class EpochKeeper {
 public:
  struct Settings {
    std::string build;  ///< token in hex
    std::string job;    ///< key of the manifest
    Bytes manifest;
    Time lease{0};
    Time keep_results{0};
    Time node_key_age{0};
    unsigned replicas = 1;
    bool in_memory = false;
    std::uint64_t max_queue_bytes = 0;
    bool insist =
        false;  ///< results and large values are to be kept for `keep_results`, whoever made the streams
  };
  EpochKeeper(Settings settings, Engine& engine, Tickets& tickets);

  void tick(Time now, std::int64_t wall_ns);
  /// False: the answer is not to one of its questions.
  bool on_answer(Time now, const Answer& answer);
  [[nodiscard]] bool ready() const noexcept { return step_ == last_step; }
  [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }
  /// The epoch before, as its key says; 0: it says nothing.
  [[nodiscard]] Epoch former() const noexcept { return former_; }
  /// A task was stored at this sequence of the present epoch: a shorter stream has lost something.
  void confirm(std::uint64_t sequence) noexcept { confirmed_ = std::max(confirmed_, sequence); }
  /// Looks at once, as after a publish that found no stream.
  void suspect() noexcept { look_at_ = Time{0}; }
  /// Another head is in a later epoch.
  void hear_of(Epoch other) noexcept;
  /// The queue holds something back that it will not give out: everything is published anew in a new epoch.
  void raise() noexcept;
  [[nodiscard]] Time next_due(Time now) const noexcept;
  /// What the engine said to the last question that it refused.
  [[nodiscard]] const std::string& words() const noexcept { return words_; }

 private:
  static constexpr unsigned step_bucket = 0, step_read = 1, step_claim = 2, step_first_stream = 3,
                            step_first_queue = 9, step_manifest = 12, last_step = 13;
  void ask(Time now, std::int64_t wall_ns);
  void look(Time now);
  void on_step(const Answer& answer);
  void on_look(const Answer& answer);
  void begin_again(Epoch at_least) noexcept;
  [[nodiscard]] Stream stream_at(unsigned step) const noexcept;
  [[nodiscard]] StreamLimits limits_of(StreamKind kind) const noexcept;

  Settings settings_;
  Engine& engine_;
  Tickets& tickets_;
  unsigned step_ = step_bucket;
  Ticket asked_ = 0;  ///< the step's question; 0: it is to be asked
  Time asked_at_{0};
  Time look_at_{0};
  Ticket looked_ = 0;  ///< at the streams
  Ticket read_ = 0;    ///< the key
  Epoch epoch_ = 0;
  Epoch wanted_ = 1;  ///< the least that is taken
  Epoch proposed_ = 0;
  Epoch former_ = 0;  ///< before the one that was read, or before ours
  std::uint64_t revision_ = 0;
  std::uint64_t confirmed_ = 0;
  std::uint64_t confirmed_before_look_ = 0;  ///< acknowledgements overtake the answer to a look
  std::string created_;
  std::string words_;
};

}  // namespace kindred::internal::cluster
