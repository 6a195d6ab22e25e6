#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine.hpp"
#include "engine/outbox.hpp"
#include "engine/pulse.hpp"
#include "engine/tickets.hpp"
#include "node/fetcher.hpp"
#include "wire/blob.hpp"
#include "wire/messages.hpp"

namespace kindred::internal::cluster {

struct NodeSettings {
  std::string name;
  std::string build;
  std::string program;
  std::uint64_t instance = 0;
  std::uint32_t pid = 0;
  std::uint32_t workers = 1;
  std::optional<std::uint32_t> prefetch = {};  ///< nothing: by how long tasks take
  std::vector<std::string> accept_jobs = {};   ///< patterns; none: all jobs
  std::size_t max_unacknowledged = 256U
                                   << 20U;   ///< bytes that are not stored yet; beyond it no task is taken
  std::size_t max_held_bytes = 256U << 20U;  ///< of arguments; beyond it nothing is fetched
  std::size_t max_log_bytes = 32U << 20U;    ///< likewise; beyond it records are counted only
  std::function<std::uint64_t()> random;     ///< for the lives of jobs
};

/// What a node's state machine has done for it: a local pool for each life of a job. No call blocks.
class NodeHost {
 public:
  NodeHost() = default;
  NodeHost(const NodeHost&) = delete;
  NodeHost& operator=(const NodeHost&) = delete;
  virtual ~NodeHost() = default;

  virtual void open(std::uint64_t life, const Manifest& manifest) = 0;
  /// Runs a task; `Node::on_ended` is called later.
  virtual void start(std::uint64_t life, const Grant& grant) = 0;
  /// `dropped`: it had not begun and never will.
  virtual CancelAnswer cancel(std::uint64_t life, std::uint64_t task, Running how) = 0;
  virtual void set_level(std::uint64_t life, std::uint8_t level) = 0;
  /// Kills what runs for this life, and forgets it.
  virtual void close(std::uint64_t life) = 0;
};

/// A node of a cluster, as a state machine: it takes tasks from the queue of its build, asks the head of each
/// whether it may begin it, runs it, and stores its result. A task without retries leaves the queue before it
/// begins; another one when its result is stored.
///
///     fetched --claim--> claimed --permit--> ready --> begun --> finished --result stored--> settled
///     assigned by the head ------------------^
///
/// Threads: one at a time. No thread, no clock, no process: `now` is an argument, the host runs tasks.
class Node {
 public:
  Node(NodeSettings settings, Engine& engine, NodeHost& host);

  void on_event(Time now, const EngineEvent& event);
  /// A task of that life has ended; nothing is done for one that is not held any more.
  void on_ended(Time now, std::uint64_t life, Result result);
  void on_begun(std::uint64_t life, const std::vector<std::uint64_t>& tasks);
  void on_log(std::uint64_t life, LogBatch batch);
  /// The local pool cannot run this job, and no more is taken. What is held goes back, where it may run again
  /// or cannot have begun; else it is lost.
  void on_broken(std::uint64_t life, const std::string& why, bool may_have_begun);

  void set_clock(std::int64_t wall_minus_monotonic) noexcept { wall_offset_ = wall_minus_monotonic; }
  void tick(Time now);
  [[nodiscard]] Time next_due(Time now) const;
  /// For a `Pulse`: what says that this node lives and goes on with what it holds, and how often it has to be
  /// said.
  [[nodiscard]] SignsOfLife signs_of_life(Time now) const;
  [[nodiscard]] Time beat_every() const noexcept { return times_.beat_every; }

  /// Takes nothing new, gives back what has not begun, lets the rest end.
  void drain();
  /// Is it draining, does it hold no task, and is all stored? Then `leave` may be called.
  [[nodiscard]] bool drained() const;
  /// Says farewell, and kills what still runs.
  void leave();

  /// Another node of this name runs for longer: its pid. Then this one has to leave.
  [[nodiscard]] std::optional<std::uint32_t> older_of_this_name() const noexcept { return others_.older_pid; }

  [[nodiscard]] std::size_t held() const;
  [[nodiscard]] std::size_t jobs() const noexcept { return jobs_.size(); }
  [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }

 private:
  /// How a node comes to be the one that runs a task of a detached job: by the record of which node has begun
  /// it, which is stored only over the one that was read.
  ///
  ///     [look --another has begun it--> result --none--> ] put --stored--> (it runs) ... [back]
  ///       ^---------------------- another was faster ------+
  struct Taking {
    enum class Step : std::uint8_t {
      look,    ///< at the record
      result,  ///< is there one of an earlier attempt?
      put,     ///< our own record
      back     ///< a record that nobody has begun it, because it has not, and goes back
    };
    Step step = Step::put;
    bool unwanted = false;  ///< the task must not begin here, whatever `put` answers
    Ticket asked = 0;
    Time asked_at{0};
    std::uint64_t revision = 0;  ///< of the record that was read, or is ours; 0: there is none
    Begun last = {};
  };
  struct Held {
    Grant grant;
    std::string handle;  ///< of its delivery
    Epoch epoch = 0;     ///< likewise: of another epoch it is never settled
    std::uint64_t claim = 0;
    std::uint64_t count = 1;         ///< how often it was given out
    std::unique_ptr<Taking> taking;  ///< of a detached job
    bool settled = false;
    bool returned = false;  ///< finished, because it was given back
    HeldState state = HeldState::claimed;
    std::unique_ptr<BlobFetch> blob;
    bool blob_begun = false;
    std::size_t bytes = 0;  ///< of its arguments, wherever they are
  };
  struct LargeResult {
    Result result;
    Bytes bytes;
    std::unique_ptr<BlobUpload> upload;
  };
  struct Job {
    std::uint64_t life = 0;
    Address address;
    Time heard{0};  ///< its head
    Time grace{0};
    std::int64_t head_sent_at = 0;
    std::uint8_t level = 0;
    Ticket manifest_asked = 0;
    Time manifest_at{0};
    bool open = false;  ///< the host has a pool for it
    bool detached = false;
    bool refused = false;  ///< it is none of `accept_jobs`
    std::uint64_t inline_limit = 256U << 10U;
    std::string broken;
    bool status_due = true;
    bool told_of_others = false;  ///< the last status said that tasks of other jobs are here
    std::uint64_t permits_seen = 0;
    std::uint64_t assignments_seen = 0;
    std::uint64_t log_next = 0;
    std::uint64_t last_claim = 0;
    std::uint64_t lost_records = 0;
    std::vector<std::uint64_t> claims;
    std::unordered_map<std::uint64_t, Held> held;
    std::map<std::uint64_t, LargeResult> large;  ///< results on their way, by task
  };
  using JobMap = std::map<std::uint64_t, std::unique_ptr<Job>>;  // by job

  void on_told(Time now, const Bytes& bytes);
  void on_answer(Time now, const Answer& answer);
  void on_delivery(Time now, const Delivery& delivery);
  void on_head(Time now, const HeadBeat& beat, Epoch epoch);
  void on_permits(Time now, const Permits& permits);
  void on_assignment(Assignment assignment);
  void on_permit(std::uint64_t id, Job& job, const Permit& permit);
  void on_cancel(const Cancel& cancel);
  void on_stored(const Outbox::Item& item);
  void on_manifest(Job& job, const Answer& answer);

  // node_detached.cpp
  void take_detached(Time now);
  void ask_taking(Time now, std::uint64_t id, const Job& job, std::uint64_t task, Held& held);
  bool on_taking_answer(Time now, std::uint64_t id, Job& job, const Answer& answer);
  void on_looked(Time now, std::uint64_t id, Job& job, Held& held, const Answer& answer);
  void on_result_looked(Time now, std::uint64_t id, Job& job, Held& held, const Answer& answer);
  void on_begun_put(Job& job, Held& held, const Answer& answer);
  void begin_taken(Job& job, Held& held);
  [[nodiscard]] bool give_up_taking(Held& held, Settle how);
  [[nodiscard]] Time taking_due(Time now, const Job& job) const;
  void take_back(Held& held);
  void hear_node(Time now, const NodeBeat& beat);
  [[nodiscard]] bool is_gone(Time now, const Begun& begun) const;
  void find_epoch(Time now);

  [[nodiscard]] bool accepts(const std::string& job) const;
  void learn_lease(Time lease);
  Job& join(Time now, std::uint64_t id, Time grace);
  void forget(JobMap::iterator job);
  void closed(std::uint64_t id);
  [[nodiscard]] Job* of_life(std::uint64_t life);
  void enter(Epoch epoch);
  void settle(Held& held, Settle how);
  void claim(Job& job);
  void begin(Job& job, Held& held);
  void start(Job& job, Held& held);
  void store(std::uint64_t id, Job& job, Result result);
  void store_large(Time now);
  void give_back(std::uint64_t id, Job& job, std::uint64_t task, std::uint32_t run, std::uint64_t claim);
  [[nodiscard]] std::size_t capacity() const;
  [[nodiscard]] std::size_t room() const;
  [[nodiscard]] std::size_t held_beside(const Job& job) const;
  void note_capacity(Time now);
  void tell(const Address& to, const Message& message);

  [[nodiscard]] NodeBeat beat_message(Time now) const;
  void hear_namesake(Time now, const NodeBeat& other);
  void beat(Time now);
  void tell_status(Time now, Job& job);
  void ask_manifests(Time now);
  void fetch_blobs(Time now);
  [[nodiscard]] std::size_t bytes_here() const;
  void extend(Time now);
  void forget_orphans(Time now);

  struct Times {
    std::optional<Time> begun;
    std::optional<Time> last_beat;
    Time extended{0};
    Time beat_every = std::chrono::seconds{1};
    Time lease = std::chrono::seconds{10};
    Time look_at{0};            ///< at the epoch
    Ticket looked = 0;          ///< likewise
    Time head{0};               ///< any head was heard
    std::uint64_t outages = 0;  ///< of the connection, as it was looked at last
    Time capacity_told{0};
  };

  /// Which nodes are there, for jobs without a head. As a head does, a node counts silence only while the
  /// engine carries its own beats back to it.
  struct Others {
    std::map<std::uint64_t, Time> heard;     ///< by instance
    std::optional<Time> self;                ///< our own last beat that came back
    Time since{0};                           ///< they come back without a pause
    std::optional<std::uint32_t> older_pid;  ///< of a node that had our name before us
  };

  NodeSettings settings_;
  BuildToken build_;
  Engine& engine_;
  NodeHost& host_;
  Others others_;
  Tickets tickets_;
  Fetcher fetcher_;
  Outbox outbox_;
  Epoch epoch_ = 0;
  std::int64_t wall_offset_ = 0;
  Times times_;
  double mean_run_ns_ = -1;
  std::size_t told_capacity_ = 0;
  bool draining_ = false;
  JobMap jobs_;
  std::map<std::uint64_t, std::uint64_t> closed_jobs_;  ///< and our last life there
};

}  // namespace kindred::internal::cluster
