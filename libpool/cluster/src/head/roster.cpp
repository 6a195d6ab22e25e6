#include "head/roster.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "wire/told_time.hpp"

namespace kindred::internal::cluster {
namespace {

constexpr std::size_t max_dead_lives = 16'384;
constexpr std::size_t max_sightings = 16'384;
constexpr unsigned clock_samples = 64;  ///< after this many samples the clocks are compared anew

}  // namespace

void Roster::sight(Time now, NodeBeat beat) {
  const std::string name = beat.node;
  if (sightings_.size() < max_sightings || sightings_.contains(name))
    sightings_[name] = {std::move(beat), now};
}

void Roster::on_own_beat(Time now) {
  if (heard_self_) {
    const Time away = now - *heard_self_;
    longest_outage_ = std::max(longest_outage_, away);
    // No node could be heard meanwhile: each has the whole lease again to say that it lives.
    if (away > lease_ / 3) silent_before_ = now;
  }
  heard_self_ = now;
}

Peer* Roster::find(std::uint64_t life) {
  const auto found = peers_.find(life);
  return found == peers_.end() ? nullptr : found->second.get();
}

Peer* Roster::greet(Time now, const Status& status) {
  if (dead_.contains(status.life) || status.workers == 0) return nullptr;
  auto peer = std::make_unique<Peer>();
  peer->life = status.life;
  peer->heard = now;
  return (peers_[status.life] = std::move(peer)).get();
}

void Roster::update(Time now, Peer& peer, Status status, std::int64_t here_ns) {
  peer.heard = now;
  measure_clock(peer, status, here_ns);
  peer.status = std::move(status);
  peer.status.held.clear();
}

void Roster::measure_clock(Peer& peer, const Status& status, std::int64_t here_ns) {
  if (status.echo == 0) return;
  const std::int64_t rtt = told_difference(told_difference(here_ns, status.echo), status.echo_age);
  if (rtt < 0) return;  // a clock was set back meanwhile
  if (peer.samples != 0 && peer.samples < clock_samples && Time{rtt} > peer.rtt) {
    ++peer.samples;
    return;
  }
  peer.samples = peer.samples >= clock_samples ? 1 : peer.samples + 1;
  peer.rtt = Time{rtt};
  const std::int64_t received = told_difference(status.sent_at, status.echo_age);
  peer.offset =
      Time{told_difference(received, status.echo) / 2 + told_difference(status.sent_at, here_ns) / 2};
}

std::unique_ptr<Peer> Roster::remove(std::uint64_t life, bool may_come_back) {
  const auto found = peers_.find(life);
  if (found == peers_.end()) return nullptr;
  auto peer = std::move(found->second);
  peers_.erase(found);
  if (may_come_back) return peer;
  dead_.insert(life);
  dead_lives_.push_back(life);
  if (dead_lives_.size() > max_dead_lives) {
    dead_.erase(dead_lives_.front());
    dead_lives_.pop_front();
  }
  return peer;
}

std::vector<std::uint64_t> Roster::silent(Time) const {
  std::vector<std::uint64_t> lost;
  if (!heard_self_) return lost;
  for (const auto& [life, peer] : peers_) {
    // Counted up to our own last beat that came back: while the engine does not carry even that, silence says
    // nothing of the node.
    if (*heard_self_ - std::max(peer->heard, silent_before_) > lease_) lost.push_back(life);
  }
  return lost;
}

std::optional<std::uint64_t> Roster::earlier_life(const Status& status) const {
  for (const auto& [life, peer] : peers_) {
    if (life != status.life && peer->status.node == status.node) return life;
  }
  return std::nullopt;
}

std::vector<std::uint64_t> Roster::lives() const {
  std::vector<std::uint64_t> lives;
  lives.reserve(peers_.size());
  for (const auto& [life, peer] : peers_) lives.push_back(life);
  return lives;
}

std::size_t Roster::working() const noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(peers_, [](const auto& each) { return each.second->works(); }));
}

std::string Roster::others(Time now, const std::string& build) const {
  std::string others;
  for (const auto& [name, seen] : sightings_) {
    if (now - seen.at > lease_ || seen.beat.build == build) continue;
    others += fmt::format("{}{} runs build {} of {}", others.empty() ? "" : ", ", name,
                          seen.beat.build.substr(0, 16), seen.beat.program);
  }
  return others;
}

std::vector<NodeView> Roster::view(Time now) const {
  std::map<std::string, NodeView> views;
  for (const auto& [name, seen] : sightings_) {
    if (now - seen.at > lease_) continue;
    NodeView& view = views[name];
    view.name = name;
    view.program = seen.beat.program;
    view.build = seen.beat.build;
    view.pid = seen.beat.pid;
    view.workers = seen.beat.workers;
    view.heard = now - seen.at;
    view.leaving = seen.beat.draining;
  }
  for (const auto& [life, peer] : peers_) {
    NodeView& view = views[peer->status.node];
    view.name = peer->status.node;
    view.pid = peer->status.pid;
    view.workers = peer->status.workers;
    view.capacity = peer->status.capacity;
    view.held = peer->held.size();
    view.rtt = peer->rtt;
    view.clock_offset = peer->offset;
    view.heard = now - peer->heard;
    view.member = true;
    view.leaving = peer->status.draining;
  }
  std::vector<NodeView> list;
  list.reserve(views.size());
  for (auto& [name, view] : views) list.push_back(std::move(view));
  return list;
}

}  // namespace kindred::internal::cluster
