#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.hpp"
#include "wire/messages.hpp"

// The head's own copy of all that it has promised: what a task is, which node has it, how it ended.
namespace kindred::internal::cluster {

/// A task as it was submitted.
struct TaskSpec {
  std::string name;
  std::int32_t priority = 0;
  std::int32_t retries = 0;
  bool retry_exceptions = false;
  Time timeout{0};  ///< 0: none
  Time soft_timeout{0};
  Time queue_timeout{0};
  CallCode code;
  Bytes arguments;
};

/// The end of a task.
struct Ended {
  enum class How : std::uint8_t {
    result,         ///< `result` says
    node_lost,      ///< its node, and there were no retries left
    cancelled,      ///< before it began, or by force: `text`
    queue_timeout,  ///< it waited too long
    refused         ///< no node can run it, or none can be reached: `text`
  };
  std::uint64_t task = 0;
  How how = How::result;
  std::string name = {};
  std::string node = {};                ///< that had it last
  std::vector<std::string> nodes = {};  ///< that were lost with it
  std::uint32_t attempts = 1;
  Time after{0};  ///< how long it was open
  std::string text = {};
  bool broken = false;  ///< the whole job is, with `text`
  Result result = {};
};

struct Peer;

/// Its node is gone, or does not name it any more. Before it counts as lost, the results are asked for it.
struct Doubt {
  std::string node;
  std::string why;
  bool former = false;  ///< the results of the former epoch are asked, because those of this one have none
};

struct OpenTask {
  TaskSpec spec;
  Time submitted{0};
  Peer* peer = nullptr;         ///< that has the permit; null: none
  std::uint32_t run = 0;        ///< permits so far
  std::uint64_t claim = 0;      ///< that the last permit was for
  std::uint32_t published = 0;  ///< publications so far: each has an id of its own
  std::uint32_t deaths = 0;
  std::uint64_t sequence = 0;  ///< in the queue's stream; 0: not known to be stored
  Time stored{0};
  std::uint64_t permit_serial = 0;  ///< of the permit, or of the assignment
  std::uint32_t unseen = 0;         ///< statuses of its node that did not name it
  bool waiting = false;             ///< in the ledger, for a node with room; it never was in the queue
  bool assigned = false;            ///< `peer` has it from the head, and not from the queue
  bool begun = false;
  bool adopted = false;          ///< of an earlier life of a detached job: its bytes are not here
  bool recorded = false;         ///< of a detached job: it is in the results as submitted
  bool sent = false;             ///< likewise: it may have reached the engine
  bool adrift = false;           ///< likewise: its message was in a store that is lost
  bool queue_timed_out = false;  ///< the node is asked whether it has begun
  std::optional<Running> cancelling = {};
  Time cancel_told{0};
  Time cancel_since{0};
  std::optional<CancelAnswer> answer = {};
  std::optional<Doubt> doubt = {};
  std::vector<std::string> lost_nodes = {};
};

/// Open tasks by number. It counts their bytes, keeps their limits in the queue, and the order of those that
/// wait for a node with room.
class Ledger {
 public:
  using Map = std::unordered_map<std::uint64_t, OpenTask>;

  std::uint64_t add(Time now, TaskSpec spec) {
    const std::uint64_t id = next_++;
    bytes_ += spec.arguments.size();
    if (spec.queue_timeout > Time{0}) limits_.emplace(now + spec.queue_timeout, id);
    tasks_.emplace(id, OpenTask{.spec = std::move(spec), .submitted = now});
    return id;
  }
  /// Adds a task that an earlier life of the job has submitted.
  void adopt(Time now, std::uint64_t id) {
    tasks_.emplace(id, OpenTask{.spec = {}, .submitted = now, .adopted = true});
  }
  /// It waits here for a node with room.
  void wait(std::uint64_t id, OpenTask& task) {
    task.waiting = true;
    ++waiting_count_;
    waiting_[task.spec.priority > 0 ? 0 : task.spec.priority == 0 ? 1 : 2].push_back(id);
  }
  void stop_waiting(OpenTask& task) noexcept {
    if (std::exchange(task.waiting, false)) --waiting_count_;
  }
  /// The first that waits, by priority and then by submission. Nothing: none waits.
  [[nodiscard]] std::optional<std::uint64_t> first_waiting() {
    for (auto& tasks : waiting_) {
      for (; !tasks.empty(); tasks.pop_front()) {
        const OpenTask* const task = get(tasks.front());
        if (task != nullptr && task->waiting) return tasks.front();
      }
    }
    return std::nullopt;
  }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiting_count_; }
  void count_from(std::uint64_t first) noexcept { next_ = std::max(next_, first); }
  void erase(Map::iterator task) {
    const TaskSpec& spec = task->second.spec;
    bytes_ -= spec.arguments.size();
    stop_waiting(task->second);
    if (spec.queue_timeout > Time{0})
      limits_.erase({task->second.submitted + spec.queue_timeout, task->first});
    tasks_.erase(task);
  }
  [[nodiscard]] Map::iterator find(std::uint64_t id) { return tasks_.find(id); }
  [[nodiscard]] OpenTask* get(std::uint64_t id) {
    const auto found = tasks_.find(id);
    return found == tasks_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] const OpenTask* get(std::uint64_t id) const { return const_cast<Ledger*>(this)->get(id); }
  [[nodiscard]] Map& tasks() noexcept { return tasks_; }
  [[nodiscard]] const Map& tasks() const noexcept { return tasks_; }
  [[nodiscard]] std::size_t size() const noexcept { return tasks_.size(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  template <class Wanted>
  [[nodiscard]] std::vector<std::uint64_t> ids(Wanted wanted) const {
    std::vector<std::uint64_t> ids;
    for (const auto& [id, task] : tasks_) {
      if (wanted(task)) ids.push_back(id);
    }
    std::ranges::sort(ids);
    return ids;
  }
  /// Takes out those whose time in the queue is over.
  [[nodiscard]] std::vector<std::uint64_t> over_limit(Time now) {
    std::vector<std::uint64_t> over;
    while (!limits_.empty() && limits_.begin()->first <= now) {
      over.push_back(limits_.begin()->second);
      limits_.erase(limits_.begin());
    }
    return over;
  }
  [[nodiscard]] Time next_limit() const noexcept {
    return limits_.empty() ? Time::max() : limits_.begin()->first;
  }

 private:
  Map tasks_;
  std::set<std::pair<Time, std::uint64_t>> limits_;
  std::array<std::deque<std::uint64_t>, 3> waiting_;  // from high to low; those that ended meanwhile, too
  std::size_t waiting_count_ = 0;
  std::uint64_t next_ = 1;
  std::uint64_t bytes_ = 0;
};

}  // namespace kindred::internal::cluster
