#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/engine.hpp"

namespace kindred::internal::cluster {

/// Tasks whose node is gone, and whose results are being asked for: a bounded number at once, each again when
/// no answer comes. A step costs the same however many are in doubt.
///
/// Threads: one at a time; `now` is an argument.
class Doubts {
 public:
  static constexpr std::size_t max_asked = 1024;
  static constexpr Time patience = std::chrono::seconds{1};

  void add(std::uint64_t task) {
    if (tickets_.emplace(task, Ticket{0}).second) waiting_.push_back(task);
  }
  void remove(std::uint64_t task) {
    const auto found = tickets_.find(task);
    if (found == tickets_.end()) return;
    asked_.erase(found->second);
    tickets_.erase(found);
  }
  /// It is asked for once more, in its turn.
  void ask_again(std::uint64_t task) {
    const auto found = tickets_.find(task);
    if (found == tickets_.end() || found->second == 0) return;
    asked_.erase(found->second);
    found->second = 0;
    waiting_.push_back(task);
  }
  /// What was asked is not answered any more.
  void restart() {
    for (const std::uint64_t task : tasks()) ask_again(task);
  }
  /// `ask(task)` asks, and returns the ticket of the question; 0: not now.
  template <class Ask>
  void tick(Time now, const Ask& ask) {
    // Tickets are in the order of time.
    while (!asked_.empty() && now - asked_.begin()->second.at >= patience)
      ask_again(asked_.begin()->second.task);
    for (std::size_t left = waiting_.size(); left != 0 && asked_.size() < max_asked; --left) {
      const std::uint64_t task = waiting_.front();
      waiting_.pop_front();
      const auto found = tickets_.find(task);
      if (found == tickets_.end() || found->second != 0) continue;
      const Ticket ticket = ask(task);
      if (ticket == 0) {
        waiting_.push_back(task);
        continue;
      }
      found->second = ticket;
      asked_.emplace(ticket, Asked{task, now});
    }
  }
  /// The task of this question. It stays in doubt until it is removed.
  [[nodiscard]] std::optional<std::uint64_t> of(Ticket ticket) const {
    const auto found = asked_.find(ticket);
    return found == asked_.end() ? std::nullopt : std::optional{found->second.task};
  }
  [[nodiscard]] bool empty() const noexcept { return tickets_.empty(); }
  [[nodiscard]] std::vector<std::uint64_t> tasks() const {
    std::vector<std::uint64_t> tasks;
    tasks.reserve(tickets_.size());
    for (const auto& [task, ticket] : tickets_) tasks.push_back(task);
    return tasks;
  }

 private:
  struct Asked {
    std::uint64_t task = 0;
    Time at{0};
  };
  std::unordered_map<std::uint64_t, Ticket> tickets_;  // by task; 0: not asked
  std::map<Ticket, Asked> asked_;
  std::deque<std::uint64_t> waiting_;  // to be asked; those that were removed, too
};

}  // namespace kindred::internal::cluster
