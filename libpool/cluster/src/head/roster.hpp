#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "wire/messages.hpp"

namespace kindred::internal::cluster {

/// Tasks that were assigned to a node in one packet, until the node says that it has come.
struct SentAssignment {
  std::uint64_t serial = 0;
  Time at{0};
  std::vector<std::uint64_t> tasks;
};

/// A node that has joined the job, for one life of it there.
struct Peer {
  std::uint64_t life = 0;
  Status status;
  std::set<std::uint64_t> held;  ///< tasks that it has permits for
  Time heard{0};
  std::uint64_t serial = 0;           ///< of the last permits
  std::vector<Permit> due;            ///< to be told
  std::uint64_t assigned = 0;         ///< tasks that were assigned so far
  std::uint64_t last_assignment = 0;  ///< serial
  std::deque<SentAssignment> sent;    ///< in order
  Time offset{0}, rtt{0};
  unsigned samples = 0;

  [[nodiscard]] bool works() const noexcept { return !status.draining && status.broken.empty(); }
  [[nodiscard]] bool has_room() const noexcept { return works() && held.size() < status.capacity; }
};

/// What is known of one node.
struct NodeView {
  std::string name, program, build;
  std::uint32_t pid = 0, workers = 0, capacity = 0;
  std::size_t held = 0;
  std::size_t running = 0;
  Time rtt{0};
  Time clock_offset{0};
  Time heard{0};  ///< how long ago
  bool member = false;
  bool leaving = false;
};

/// The nodes that a head hears of: members of its job, and others by their beats. Silence is counted only
/// while the engine carries the head's own beats back to it, so an engine that is away makes no node lost.
///
/// Threads: one at a time; `now` is an argument.
class Roster {
 public:
  explicit Roster(Time lease) : lease_{lease} {}

  void sight(Time now, NodeBeat beat);
  void on_own_beat(Time now);
  void begin(Time now) noexcept {
    if (!heard_self_) heard_self_ = now;
  }
  [[nodiscard]] Time unheard(Time now) const noexcept { return heard_self_ ? now - *heard_self_ : Time{0}; }
  [[nodiscard]] Time longest_outage() const noexcept { return longest_outage_; }

  [[nodiscard]] Peer* find(std::uint64_t life);
  /// Adds a life of a node, and returns it; null: this life is over, or has no workers.
  Peer* greet(Time now, const Status& status);
  void update(Time now, Peer& peer, Status status, std::int64_t here_ns);
  /// Out of the list; its life never comes back, unless it may.
  std::unique_ptr<Peer> remove(std::uint64_t life, bool may_come_back = false);
  [[nodiscard]] std::vector<std::uint64_t> silent(Time now) const;
  /// Another life of the node with this name: it has started anew.
  [[nodiscard]] std::optional<std::uint64_t> earlier_life(const Status& status) const;
  [[nodiscard]] const std::map<std::uint64_t, std::unique_ptr<Peer>>& peers() const noexcept {
    return peers_;
  }
  [[nodiscard]] std::vector<std::uint64_t> lives() const;
  [[nodiscard]] std::size_t working() const noexcept;
  /// Nodes heard of within the lease that run another build, as words.
  [[nodiscard]] std::string others(Time now, const std::string& build) const;
  [[nodiscard]] std::vector<NodeView> view(Time now) const;

 private:
  struct Sighting {
    NodeBeat beat;
    Time at{0};
  };
  static void measure_clock(Peer& peer, const Status& status, std::int64_t here_ns);

  Time lease_;
  std::map<std::uint64_t, std::unique_ptr<Peer>> peers_;  // by life
  std::map<std::string, Sighting> sightings_;
  std::set<std::uint64_t> dead_;
  std::deque<std::uint64_t> dead_lives_;  // in order, so that the oldest is forgotten
  std::optional<Time> heard_self_;
  Time silent_before_ = Time::min();  // end of the latest outage
  Time longest_outage_{0};
};

}  // namespace kindred::internal::cluster
