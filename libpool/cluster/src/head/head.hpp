#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.hpp"
#include "engine/outbox.hpp"
#include "engine/pulse.hpp"
#include "engine/tickets.hpp"
#include "head/doubts.hpp"
#include "head/epoch_keeper.hpp"
#include "head/former_epoch.hpp"
#include "head/ledger.hpp"
#include "head/log_intake.hpp"
#include "head/publisher.hpp"
#include "head/queue_sweep.hpp"
#include "head/roster.hpp"
#include "wire/messages.hpp"

namespace kindred::internal::cluster {

struct HeadSettings {
  std::string cluster;
  std::uint64_t job = 0;
  std::string build;    ///< build id of the program
  std::string program;  ///< file name
  Manifest manifest = {};
  std::size_t min_nodes = 1;
  Time node_timeout = std::chrono::seconds{30};
  Time lease = std::chrono::seconds{10};
  Time head_grace = std::chrono::seconds{30};
  Time keep_results = std::chrono::hours{1};
  unsigned replicas = 1;
  bool in_memory = false;
  std::uint64_t max_queue_bytes = 0;
  std::size_t inline_limit = 256U << 10U;
  bool assigns = true;  ///< tasks go straight to nodes that serve no other job
  bool detached = false;
  std::uint64_t first_task = 1;
};

struct NodeNews {
  enum class What : std::uint8_t { joined, left, lost, broken };
  What what = What::joined;
  std::string node;
  std::string text;
};

struct HeadCounts {
  std::uint64_t submitted = 0, done = 0, failed = 0, lost = 0, cancelled = 0, retried = 0;
  std::uint64_t published = 0, confirmed = 0, republished = 0, redelivered = 0, repeated = 0;
  std::uint64_t permitted = 0, returned = 0, duplicates = 0, nodes_lost = 0, outages = 0, epochs = 0;
  std::size_t pending = 0, held = 0;
  std::uint64_t ledger_bytes = 0;
  Epoch epoch = 0;
  Time longest_outage{0};
};

/// The head of a job, as a state machine: it keeps each open task with its bytes (the ledger), puts it into
/// the engine's queue, permits one node at a time to run it, and says how it ended, once.
///
///     pending --in the queue, claimed by a node, permitted--> held by that node --result--> ended
///        ^  \--assigned to a node, without the queue------------^  |  node lost, retries left / given back
///        +---------------------------------------------------------+
///
/// Invariant: a task that one node may run is permitted to no other before that node is lost and the results
/// have been asked for it. So a task without retries begins at most once, whatever the queue loses, keeps or
/// gives out twice.
///
/// Threads: one at a time. No thread, no clock: `now` is an argument. It asks by its engine.
class Head final : private TaskSource {
 public:
  Head(HeadSettings settings, Engine& engine);
  Head(const Head&) = delete;
  Head& operator=(const Head&) = delete;
  ~Head() override = default;

  /// Takes the task in, and returns its number. Where the head is `broken`, the task ends at once.
  std::uint64_t submit(Time now, TaskSpec spec);
  enum class CancelState : std::uint8_t { cancelled, refused, asked };
  /// `asked`: the node has been asked, and `cancel_answer` tells.
  CancelState cancel(Time now, std::uint64_t task, Running how);
  /// Returns the node's answer; nothing: there is none yet. The task may have ended meanwhile.
  [[nodiscard]] std::optional<CancelAnswer> cancel_answer(std::uint64_t task) const;
  [[nodiscard]] bool is_open(std::uint64_t task) const { return ledger_.get(task) != nullptr; }
  [[nodiscard]] bool is_running(std::uint64_t task) const;
  void cancel_pending(Time now);
  /// A task of an earlier life of a detached job: it ends as it ended, or will.
  void adopt(Time now, std::uint64_t task);
  /// Cancels a task that is open, by force, and removes what is stored of it.
  void drop(Time now, std::uint64_t task);
  /// For a detached job: are all submitted tasks in the queue, and recorded there?
  [[nodiscard]] bool all_recorded() const;
  enum class Known : std::uint8_t { pending, running, ended };
  /// The tasks of a detached job, of earlier lives, too; of another job those that are open.
  [[nodiscard]] std::map<std::uint64_t, Known> known_tasks() const;
  void set_level_if_changed(std::uint8_t level);

  /// Errors: none; what makes no sense is dropped.
  void on_event(Time now, const EngineEvent& event);
  void set_clock(std::int64_t wall_minus_monotonic) noexcept { wall_offset_ = wall_minus_monotonic; }
  /// Asks what is to be asked, and applies time limits. Call after each batch of events, and at `next_due`.
  void tick(Time now);
  [[nodiscard]] Time next_due(Time now) const;
  /// For a `Pulse`: what says that this head lives, and how often it has to be said.
  [[nodiscard]] SignsOfLife signs_of_life() const;
  [[nodiscard]] Time beat_every() const noexcept;
  /// Tells the nodes that the job has ended, and removes what is stored of it.
  void close(Time now);
  /// Have all nodes said that they have heard it?
  [[nodiscard]] bool all_gone() const { return roster_.peers().empty(); }

  [[nodiscard]] std::vector<Ended> take_ended() { return std::exchange(out_.ended, {}); }
  [[nodiscard]] std::vector<NodeRecords> take_records() { return std::exchange(out_.records, {}); }
  [[nodiscard]] std::vector<NodeNews> take_news() { return std::exchange(out_.news, {}); }
  [[nodiscard]] std::size_t open_tasks() const noexcept { return ledger_.size(); }
  [[nodiscard]] std::uint64_t ledger_bytes() const noexcept { return ledger_.bytes(); }
  [[nodiscard]] const std::string& broken() const noexcept { return broken_; }
  [[nodiscard]] bool ready() const noexcept { return epoch_.ready(); }
  [[nodiscard]] const std::string& engine_words() const noexcept { return epoch_.words(); }
  [[nodiscard]] std::vector<NodeView> nodes(Time now) const;
  [[nodiscard]] HeadCounts counts() const;
  [[nodiscard]] std::size_t total_workers() const noexcept;

 private:
  struct LargeResult {
    Result result;
    BlobFetch fetch;
    Epoch epoch;  ///< that its bytes were stored in: they stay there where a head has only raised it
  };
  struct HeldBack {
    Ended ended;
    Time until{0};
  };
  using Open = Ledger::Map::iterator;

  // The publisher's view of the ledger.
  bool publication(std::uint64_t task, Publication& out) override;
  Bytes message(std::uint64_t task, const BlobRef& blob) override;

  [[nodiscard]] Grant grant_of(std::uint64_t id, const OpenTask& task) const;
  void publish(std::uint64_t id, OpenTask& task);
  void hold(std::uint64_t id, OpenTask& task, Peer& peer, std::uint64_t claim);
  void release(std::uint64_t id, OpenTask& task);
  void end(Time now, Open task, Ended ended);
  void end_cancelled(Time now, Open task, std::string how);
  void count_end(const Ended& ended);
  void let_go(Time now);

  void on_told(Time now, const Bytes& bytes);
  void on_answer(Time now, const Answer& answer);
  void on_entry(Time now, const StreamEntry& entry);
  void on_status(Time now, Status status);
  void greeted(Time now, Peer& peer);
  void look_at_held(Time now, Peer& peer, const std::vector<HeldTask>& held);
  void on_claim(Time now, Peer& peer, const HeldTask& claimed);
  void fetch_blobs(Time now);
  void on_cancel_reply(Time now, const CancelReply& reply);
  /// `stored_in`: the epoch of its large bytes; 0: the present one.
  void on_result(Time now, Result result, Epoch stored_in = 0);
  void on_returned(std::uint64_t id, OpenTask& task);
  void on_batch(LogBatch batch);
  void on_bye(Time now, const Bye& bye);

  // head_assign.cpp
  [[nodiscard]] bool must_queue() const;
  void assign(Time now);
  void send_assigned(Time now, Peer& peer, const std::vector<std::uint64_t>& tasks);
  void tell_assignment(const Peer& peer, const SentAssignment& packet);
  void repeat_assignments(Time now, Peer& peer);

  void answer_doubt(Time now, std::uint64_t id, const Answer& answer);
  // head_detached.cpp
  void record(std::uint64_t id, OpenTask& task);
  void record_cancelled(std::uint64_t id, const std::string& text);
  void note(std::uint64_t id, Known state);
  void on_begun(Time now, const Begun& begun);
  void on_submitted(const Submitted& submitted);
  bool on_detached_answer(Time now, const Answer& answer);
  void answer_adopted(Time now, std::uint64_t id, const Answer& answer);
  void answer_lost(Time now, std::uint64_t id, const Answer& answer);
  void answer_cancel(Time now, std::uint64_t id, const Answer& answer);
  void cancelled_detached(Time now, std::uint64_t id);
  CancelState cancel_detached(Time now, std::uint64_t id, Running how, bool timed_out);
  void on_detached_reply(const CancelReply& reply);
  void work_detached(Time now);
  void ask_detached(Time now, std::uint64_t id);
  void look_for_lost(Time now);
  void lost_detached(Time now, std::uint64_t id);
  void enter_epoch_detached(Time now);
  void remove_stored(std::uint64_t id);

  void doubt(Time now, std::uint64_t id, OpenTask& task, std::string node, std::string why);
  void ask_doubts(Time now);
  void conclude(Time now, std::uint64_t id);
  void drop_peer(Time now, std::uint64_t life, NodeNews::What what, const std::string& why);
  void break_job(Time now, const std::string& why);

  void enter_epoch(Time now);
  [[nodiscard]] HeadBeat beat_message() const;
  void beat(Time now);
  void find_lost_nodes(Time now);
  void apply_queue_timeouts(Time now);
  void repeat_cancels(Time now);
  void fail_unserved(Time now);
  void fail_unreachable(Time now, const std::string& why);
  [[nodiscard]] std::string why_unserved() const;
  void watch_queue(Time now);
  void sweep_queue(Time now);
  void publish_pending_anew();
  void tell_permits();
  void tell(const Address& to, const Message& message);
  [[nodiscard]] std::string job_key() const;

  struct Times {
    std::optional<Time> last_beat;
    std::optional<Time> unserved_since;
    std::optional<Time> connected_since;
    Time last_claim{0};
    Time look{0};
    Time purge{0};
    std::uint64_t beats = 0;  ///< serial of the last beat
    bool put_again = false;   ///< what waits was put into the queue anew, and no node has claimed since
  };
  /// What a server may keep of tasks and epochs that are over.
  struct Leftovers {
    QueueSweep sweep;
    FormerEpoch former;
  };
  struct Feeds {
    Ticket results = 0;
    Ticket log = 0;
    std::uint64_t taken = 0;   ///< results up to this sequence
    std::uint64_t stored = 0;  ///< highest sequence of a task in the queue
  };

  /// What is being found out of a task of a detached job, or done about it.
  struct Work {
    enum class Step : std::uint8_t {
      // Of an adopted one: has it ended, was it submitted, has it begun?
      result,
      submitted,
      begun,
      // Of one that is not heard of for long: is it in the queue, and if not, has it ended?
      queue,
      last_result,
      // To be cancelled: a record that no node may begin it; if another record is there, which; its node is
      // told.
      put_cancelled,
      read_begun,
      tell_node
    };
    Step step = Step::result;
    Ticket asked = 0;
    Time asked_at{0};
    Time since{0};
    Running how = Running::leave;
    bool timed_out = false;      ///< its time in the queue is over
    std::uint64_t revision = 0;  ///< of `last`; 0: there is none
    unsigned puts = 0;
    Begun last = {};
  };
  struct Detached {
    Outbox records;                        ///< on their way into the results
    std::map<std::uint64_t, Known> known;  ///< tasks, of all lives
    std::map<std::uint64_t, Work> work;    ///< by task
    std::set<std::uint64_t> dropped;       ///< when they end, what is stored of them is removed
    std::uint64_t looked_at = 0;           ///< task of the last look for lost ones
    Time look{0};
  };

  struct Leaving {
    std::vector<HeldBack> held_back;  ///< until the log of their node has come
    std::vector<Ended> ended;
    std::vector<NodeRecords> records;
    std::vector<NodeNews> news;
  };

  HeadSettings settings_;
  BuildToken build_;
  Engine& engine_;
  Address self_;
  Tickets tickets_;
  EpochKeeper epoch_;
  Publisher publisher_;
  Roster roster_;
  Ledger ledger_;
  LogIntake log_;
  Leftovers leftovers_;
  Epoch entered_ = 0;
  Feeds feeds_;
  Times times_;
  std::int64_t wall_offset_ = 0;
  bool served_once_ = false;
  bool closed_ = false;
  std::string broken_;
  Doubts doubts_;
  std::set<std::uint64_t> cancelling_;          ///< tasks whose node was asked to cancel and has not answered
  std::map<std::uint64_t, LargeResult> large_;  ///< results whose bytes are being fetched, by task
  std::size_t held_ = 0;                        ///< tasks with a permit, or in doubt
  Detached detached_;
  Leaving out_;
  HeadCounts counts_;
};

}  // namespace kindred::internal::cluster
