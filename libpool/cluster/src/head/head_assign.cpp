#include <algorithm>

#include "head/head.hpp"

// How a head gives tasks to nodes without the queue. Through the queue, each task costs two messages that the
// server stores, a claim and a permit. To a node that serves no other job the head can send the next tasks
// directly.
namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_tasks_in_packet = 256;
constexpr std::size_t max_bytes_in_packet = 128U << 10U;
constexpr std::size_t bytes_beside = 256;  ///< the other members of a task in it, about
constexpr Time assign_again = 20ms;        ///< after it was sent, where a status says that it has not come

/// Has this node, for its workers, more than the other?
bool is_busier(const Peer* one, const Peer* other) noexcept {
  return one->held.size() * other->status.workers > other->held.size() * one->status.workers;
}

}  // namespace

// The nodes are shared with other jobs, or tasks of this one wait in the queue already: then the queue keeps
// the order, and gives each job its turn.
bool Head::must_queue() const {
  if (ledger_.size() - held_ > ledger_.waiting()) return true;
  return std::ranges::any_of(roster_.peers(), [](const auto& each) {
    return each.second->works() && each.second->status.held_for_others != 0;
  });
}

void Head::assign(Time now) {
  if (ledger_.waiting() == 0) return;
  if (must_queue()) {
    while (const auto id = ledger_.first_waiting()) {
      OpenTask& task = *ledger_.get(*id);
      ledger_.stop_waiting(task);
      publish(*id, task);
    }
    return;
  }
  std::vector<Peer*> open;
  for (const auto& [life, peer] : roster_.peers()) {
    if (peer->has_room()) open.push_back(peer.get());
  }
  std::ranges::make_heap(open, is_busier);
  std::map<Peer*, std::vector<std::uint64_t>> chosen;
  while (!open.empty()) {
    const auto id = ledger_.first_waiting();
    if (!id) break;
    std::ranges::pop_heap(open, is_busier);
    Peer& peer = *open.back();
    OpenTask& task = *ledger_.get(*id);
    ledger_.stop_waiting(task);
    hold(*id, task, peer, assigned_claims + ++peer.assigned);
    task.assigned = true;
    chosen[&peer].push_back(*id);
    if (peer.has_room())
      std::ranges::push_heap(open, is_busier);
    else
      open.pop_back();
  }
  for (auto& [peer, tasks] : chosen) send_assigned(now, *peer, tasks);
}

void Head::send_assigned(Time now, Peer& peer, const std::vector<std::uint64_t>& tasks) {
  for (auto next = tasks.begin(); next != tasks.end();) {
    SentAssignment packet{.serial = ++peer.last_assignment, .at = now, .tasks = {}};
    std::size_t bytes = 0;
    for (; next != tasks.end() && packet.tasks.size() < max_tasks_in_packet; ++next) {
      OpenTask& task = *ledger_.get(*next);
      bytes += task.spec.arguments.size() + task.spec.name.size() + bytes_beside;
      if (bytes > max_bytes_in_packet && !packet.tasks.empty()) break;
      task.permit_serial = packet.serial;
      packet.tasks.push_back(*next);
    }
    tell_assignment(peer, packet);
    peer.sent.push_back(std::move(packet));
  }
}

// What has ended or moved since the packet was first sent is left out of it; the packet itself is not,
// because the node takes them in order.
void Head::tell_assignment(const Peer& peer, const SentAssignment& packet) {
  Assignment assignment{.job = settings_.job, .life = peer.life, .serial = packet.serial, .tasks = {}};
  for (const std::uint64_t id : packet.tasks) {
    const OpenTask* const task = ledger_.get(id);
    if (task == nullptr || task->peer != &peer || !task->assigned || task->permit_serial != packet.serial)
      continue;
    assignment.tasks.push_back({.grant = grant_of(id, *task),
                                .claim = task->claim,
                                .run = task->run,
                                .attempt = task->deaths + 1,
                                .retries = task->spec.retries - static_cast<std::int32_t>(task->deaths)});
  }
  tell({Address::Kind::node, peer.status.node}, Message{std::move(assignment)});
}

void Head::repeat_assignments(Time now, Peer& peer) {
  while (!peer.sent.empty() && peer.sent.front().serial <= peer.status.assignments_seen)
    peer.sent.pop_front();
  if (peer.sent.empty() || now - peer.sent.front().at < assign_again) return;
  for (SentAssignment& packet : peer.sent) {
    packet.at = now;
    tell_assignment(peer, packet);
  }
}

}  // namespace kindred::internal::cluster
