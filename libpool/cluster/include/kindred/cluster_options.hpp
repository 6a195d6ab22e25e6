#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kindred/call.hpp"
#include "kindred/count.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/log_options.hpp"

namespace kindred {

/// Certificates, as files in PEM form.
struct TlsOptions {
  std::string ca = {};    ///< whose signature the server's certificate must bear; empty: the system's own
  std::string cert = {};  ///< this side's certificate, where the server asks for one
  std::string key = {};   ///< its key
  std::string host = {};  ///< the name in the server's certificate, where it is not that of the address
};

/// How the NATS servers of a cluster are reached.
///
/// Any program that can publish in a cluster can run any function of this one on its nodes. So beyond
/// loopback both an encrypted connection (`tls://`) and a proof of the user that connects (`credentials` or
/// `user`) are required.
struct EngineOptions {
  /// Addresses: `nats://127.0.0.1:4222`, `tls://nats.farm:4222`. One that answers is enough.
  std::vector<std::string> servers = {"nats://127.0.0.1:4222"};
  /// A file of NATS credentials (a JWT and its key).
  std::string credentials = {};
  /// A file with the seed of an NKey in one line (SU...), and its public key in another (U...).
  std::string nkey = {};
  std::string user = {};
  std::string password = {};
  TlsOptions tls = {};
  /// Waives the rule above. The log says so.
  bool insecure = false;
  /// A file with a secret of 32 bytes or more, the same for all heads and nodes of the cluster: every message
  /// is signed with it, and one without the right signature is dropped before it is decoded. So servers that
  /// were taken over can run nothing on the nodes that no head has sent. Empty: messages are not signed.
  std::string sign_key = {};

  void validate() const;
};

/// What a task may rest on.
enum class Durability : std::uint8_t {
  ledger,  ///< on this process, which keeps each task until its result is there; the server may lose all that
           ///< it has
  fsync,   ///< on the server's disk, too: it must be configured with `sync_interval: always`
  memory   ///< as `ledger`, and the server writes nothing to its disk
};

/// How an executor over many machines works. An aggregate for designated initialisers; all members but the
/// name have defaults. Checked as a whole in the constructor: `UsageError` names the option, its value and
/// the range.
///
/// The head (the process with the executor) keeps each task with its arguments until its result is there, so
/// a server that is killed, restarted or wiped loses no task; when the head itself ends, its tasks end with
/// it, unless the job is detached.
struct ClusterOptions {
  /// The cluster's name, of letters, digits, - and _, the same as that of its nodes.
  std::string name = {};
  std::vector<std::string> servers = {"nats://127.0.0.1:4222"};  ///< see `EngineOptions`
  std::string credentials = {};                                  ///< likewise
  std::string nkey = {};                                         ///< likewise
  std::string user = {};                                         ///< likewise
  std::string password = {};                                     ///< likewise
  TlsOptions tls = {};                                           ///< likewise
  bool insecure = false;                                         ///< likewise
  std::string sign_key = {};                                     ///< likewise

  /// The job's name, of letters, digits, - and _: nodes choose by it (`NodeOptions::accept_jobs`), and a
  /// detached job is found by it.
  std::string job = {};
  /// The job goes on when this process ends, and keeps its results: a process with the same `job`, of the
  /// same build, gets them by `ClusterExecutor::result`. Its tasks rest on the servers then: see
  /// `durability`.
  bool detached = false;

  /// No task begins before this many nodes are there.
  Count min_nodes = 1;
  /// How long tasks wait where there is no node of this build (or fewer than `min_nodes`), or where the
  /// servers cannot be reached; then they fail, with the reason.
  std::chrono::nanoseconds node_timeout = std::chrono::seconds{30};
  /// A node that was not heard of for this time is lost, with what it runs. 0.5 s or more.
  std::chrono::nanoseconds lease = std::chrono::seconds{10};
  /// A node that has not heard of this head for this time kills what it runs for it. At least `lease`.
  std::chrono::nanoseconds head_grace = std::chrono::seconds{30};
  /// How long the servers keep results (and log, and large values) that were not taken. Nothing: 1 h;
  /// detached: 7 d.
  std::optional<std::chrono::nanoseconds> keep_results = {};
  /// On how many servers of a NATS cluster each stream lies: 1 to 5.
  Count replicas = 1;
  Durability durability = Durability::ledger;
  /// Says that every server has `sync_interval: always`, which a client cannot ask. `Durability::fsync` needs
  /// it.
  bool assume_fsync = false;
  /// Backpressure: `submit` blocks, and `try_submit` refuses, while this many tasks are open; 0: no limit.
  Count max_pending = 10'000;
  /// Arguments and results above this travel beside their message, in parts. At least 1 KiB.
  std::size_t inline_limit = std::size_t{256} << 10U;
  /// As `max_pending`, for bytes of the arguments.
  std::size_t max_ledger_bytes = std::size_t{1} << 30U;

  // As in `ExecutorOptions`, for the workers of every node.
  Call initializer = {};
  Call finalizer = {};
  std::optional<std::chrono::nanoseconds> initializer_timeout = {};
  Count max_tasks_per_worker = 0;
  Count max_rss_per_worker = 0;
  RestartLimit restart_limit = {};
  LogOptions log = {};

  [[nodiscard]] EngineOptions engine() const {
    return {servers, credentials, nkey, user, password, tls, insecure, sign_key};
  }
  void validate() const;
};

/// One node, as a head knows it.
struct NodeInfo {
  std::string name;
  std::string program;              ///< file name
  std::vector<std::string> builds;  ///< build ids; only nodes of the head's own build get its tasks
  std::uint32_t pid = 0;
  std::uint32_t slots = 0;  ///< workers at once
  std::size_t held = 0;     ///< tasks of this job that it has
  std::size_t running = 0;  ///< of these, as far as it has said so
  std::chrono::nanoseconds rtt{0};
  std::chrono::nanoseconds clock_offset{0};  ///< its clock minus ours, known to half the `rtt`
  std::chrono::nanoseconds last_heard{0};    ///< ago
  bool member = false;                       ///< of this job
  bool leaving = false;                      ///< takes no more tasks
};

/// What `ClusterExecutor::on_node` tells.
struct NodeEvent {
  enum class Kind : std::uint8_t {
    joined,
    left,   ///< in good order
    lost,   ///< nothing was heard of it for the lease
    broken  ///< it cannot run this job: `text` says why
  };
  Kind kind = Kind::joined;
  std::string node;
  std::string text;
};

/// A task of a job, as `ClusterExecutor::tasks` lists them.
struct ClusterTaskInfo {
  enum class State : std::uint8_t { pending, running, ended };
  std::uint64_t id = 0;
  State state = State::pending;
};

/// What a cluster's executor has done so far. A snapshot.
struct ClusterStats {
  std::uint64_t submitted = 0;
  std::uint64_t done = 0;    ///< ended with a value
  std::uint64_t failed = 0;  ///< ended with an error of the task's own, or that no node could run it
  std::uint64_t lost = 0;    ///< ended because a worker or node died, or ran over its limit
  std::uint64_t cancelled = 0;
  std::uint64_t retried = 0;
  std::uint64_t pending = 0;             ///< no node has them
  std::uint64_t held = 0;                ///< a node has them
  std::uint64_t published = 0;           ///< put into the engine's queue, for the first time or after a loss
  std::uint64_t confirmed = 0;           ///< that the engine has said it has
  std::uint64_t republished = 0;         ///< put again: not confirmed, or the store was lost
  std::uint64_t redelivered = 0;         ///< given out twice by the engine, and refused to the second node
  std::uint64_t returned = 0;            ///< given back by a node before they began
  std::uint64_t duplicates_dropped = 0;  ///< results of tasks that had ended
  std::uint64_t nodes_lost = 0;
  std::uint64_t epoch = 0;   ///< of the engine's store
  std::uint64_t epochs = 0;  ///< 1, and one more for each loss of the store
  std::uint64_t pauses = 0;  ///< of the connection
  std::chrono::nanoseconds longest_pause{0};
  std::uint64_t ledger_bytes = 0;
  std::uint64_t log_lost = 0;  ///< log records, of which only the number has come
  std::vector<NodeInfo> per_node;
};

}  // namespace kindred
