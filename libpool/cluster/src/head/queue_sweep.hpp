#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"

namespace kindred::internal::cluster {

/// Removes messages of tasks that have ended from the queue. A server that was killed may keep messages that
/// were acknowledged, and give them to no node (nats-server 2.9 does).
///
/// After each outage all that was stored before it is swept. Once per lease everything is removed up to the
/// oldest message whose task still waits, until all is removed and the server has confirmed it.
///
/// Threads: one at a time; `now` is an argument.
class QueueSweep {
 public:
  QueueSweep(Engine& engine, Tickets& tickets, std::string build, std::string job)
      : engine_{engine}, tickets_{tickets}, build_{std::move(build)}, job_{std::move(job)} {}

  /// `outages`: how often the connection was lost so far. Where that has grown, a sweep begins after the
  /// lease.
  void note_outages(Time now, Time lease, std::uint64_t outages);
  [[nodiscard]] bool due(Time now) const noexcept { return due_ && now >= *due_; }
  /// Begins a round where none is under way: everything up to `stored` is to be swept.
  void begin(Time now, std::uint64_t stored) noexcept;
  /// Tasks that were submitted up to this time may have left something.
  [[nodiscard]] Time begun_at() const noexcept { return begun_at_; }
  /// `lowest`: the sequence number of the oldest message whose task waits; nothing: it is not known yet, and
  /// so nothing is removed.
  void sweep(Time now, Time lease, Epoch epoch, std::optional<std::uint64_t> lowest);
  /// False: the answer is not for this.
  bool on_answer(const Answer& answer);
  /// The epoch has changed: its stream has nothing of the tasks before.
  void forget() noexcept;

 private:
  Engine& engine_;
  Tickets& tickets_;
  std::string build_;
  std::string job_;
  std::uint64_t outages_ = 0;
  std::optional<Time> due_;
  Time begun_at_{0};
  std::optional<std::uint64_t> target_;  ///< sequence up to which is to be swept
  bool whole_ = false;                   ///< the last request reached it
  std::set<Ticket> asked_;               ///< purges that the server has not answered
};

}  // namespace kindred::internal::cluster
