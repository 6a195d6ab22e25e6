#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/engine.hpp"
#include "kindred/exit_reason.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/log_record.hpp"
#include "wire/archive.hpp"

// What head and node say to each other.
namespace kindred::internal::cluster {

/// A library that a code reference counts from, by its index in the head's book of code.
struct ModuleName {
  std::uint16_t index = 0;
  std::string path;
  std::string build_id;
  void fields(auto& archive) { archive(index, path, build_id); }
};

/// What is to be called: two code references of the head's program, and the libraries they are in. None is
/// named for the program itself, because the build token of the packet has settled that.
struct CallCode {
  std::uint64_t entry = 0;
  std::uint64_t function = 0;
  std::vector<ModuleName> modules;
  void fields(auto& archive) { archive(entry, function, modules); }
};

/// A function with encoded arguments: an initializer or a finalizer. `code.entry` 0: none.
struct PreparedCall {
  CallCode code;
  Bytes arguments;
  void fields(auto& archive) { archive(code, arguments); }
};

/// Bytes that are too large for a message of their own: they lie in the stream of large bytes, in parts.
/// `id` 0: there are none.
struct BlobRef {
  std::uint64_t id = 0;
  std::uint64_t size = 0;
  std::string sha256 = {};  ///< 32 bytes
  void fields(auto& archive) { archive(id, size, sha256); }
};

// --- what is told, and kept by nobody

/// A node's sign of life, sent to all heads and nodes.
struct NodeBeat {
  std::string node = {};
  std::string build = {};    ///< build id in hex, whole
  std::string program = {};  ///< file name
  std::uint64_t instance = 0;
  std::uint32_t pid = 0;
  std::uint32_t workers = 0;
  std::uint32_t held = 0;
  std::int64_t up_ns = 0;  ///< how long it has been running
  bool draining = false;
  void fields(auto& archive) { archive(node, build, program, instance, pid, workers, held, up_ns, draining); }
};
/// A head says that its job is there, to everybody.
struct HeadBeat {
  std::uint64_t job = 0;
  std::uint64_t serial = 0;  ///< so that the head knows its own beat when it comes back
  std::uint64_t open = 0;    ///< tasks of the job
  std::int64_t lease_ns = 0;
  std::int64_t grace_ns = 0;
  std::int64_t sent_at = 0;  ///< its system clock
  std::uint8_t level = 0;    ///< of the log
  bool detached = false;     ///< the job goes on without this head, and needs no permits
  bool closed = false;       ///< the job has ended: its pool is taken down, and its tasks with it
  void fields(auto& archive) {
    archive(job, serial, open, lease_ns, grace_ns, sent_at, level, detached, closed);
  }
};

enum class HeldState : std::uint8_t {
  claimed,  ///< fetched; it waits for the head's permit
  ready,    ///< permitted, not begun
  begun,
  finished  ///< its result is on the way
};
struct HeldTask {
  std::uint64_t task = 0;
  std::uint64_t claim = 0;  ///< the node's number of this fetch: a permit is for one fetch only
  HeldState state = HeldState::claimed;
  void fields(auto& archive) { archive(task, claim, state); }
};
/// A node to a head whose job it has joined: all that it holds of this job, in each beat. `life` is random,
/// and new after each reset.
struct Status {
  std::uint64_t life = 0;
  std::string node = {};
  std::uint32_t pid = 0;
  std::uint32_t workers = 0;
  std::uint32_t capacity = 0;          ///< how many tasks it would hold now
  std::uint64_t permits_seen = 0;      ///< serial of the head's last permits that it has
  std::uint64_t assignments_seen = 0;  ///< serial of the head's last assignment that it has
  std::uint32_t held_for_others = 0;   ///< tasks of other jobs
  bool draining = false;
  std::string broken = {};    ///< why it cannot run this job; empty: it can
  std::int64_t sent_at = 0;   ///< its system clock
  std::int64_t echo = 0;      ///< `sent_at` of the head's latest beat that came; 0: none
  std::int64_t echo_age = 0;  ///< how long ago that came
  std::vector<HeldTask> held = {};
  void fields(auto& archive) {
    archive(life, node, pid, workers, capacity, permits_seen, assignments_seen, held_for_others, draining,
            broken, sent_at, echo, echo_age, held);
  }
};
/// A node has fetched these tasks, and asks whether it may begin them.
struct Claim {
  std::uint64_t life = 0;
  std::string node = {};
  std::vector<HeldTask> tasks = {};
  void fields(auto& archive) { archive(life, node, tasks); }
};
enum class Verdict : std::uint8_t {
  run,
  drop,   ///< it has ended, or another node has it: take it out of the queue
  revoke  ///< it was given to another node, or failed: kill it
};
struct Permit {
  std::uint64_t task = 0;
  std::uint64_t claim = 0;
  Verdict verdict = Verdict::drop;
  std::uint32_t run = 0;      ///< counts the permits of a task
  std::uint32_t attempt = 1;  ///< of the run to come
  std::int32_t retries = 0;   ///< that are left after it
  void fields(auto& archive) { archive(task, claim, verdict, run, attempt, retries); }
};
struct Permits {
  std::uint64_t job = 0;
  std::uint64_t life = 0;
  std::uint64_t serial = 0;
  std::vector<Permit> permits = {};
  void fields(auto& archive) { archive(job, life, serial, permits); }
};
/// The head does not know this life, or has given it up: the node kills what it runs for it, and joins anew.
struct Reset {
  std::uint64_t job = 0;
  std::uint64_t life = 0;
  void fields(auto& archive) { archive(job, life); }
};
struct Cancel {
  std::uint64_t job = 0;
  std::uint64_t life = 0;
  std::uint64_t task = 0;
  Running how = Running::leave;
  void fields(auto& archive) { archive(job, life, task, how); }
};
enum class CancelAnswer : std::uint8_t { dropped, begun, unknown };
struct CancelReply {
  std::uint64_t life = 0;
  std::uint64_t task = 0;
  CancelAnswer answer = CancelAnswer::unknown;
  void fields(auto& archive) { archive(life, task, answer); }
};
/// Last message of a node that ends in good order, or that has taken down the pool of a closed job. What the
/// head has permitted or assigned to it after these serials has not come, and will not.
struct Bye {
  std::uint64_t life = 0;
  std::uint64_t permits_seen = 0;
  std::uint64_t assignments_seen = 0;
  void fields(auto& archive) { archive(life, permits_seen, assignments_seen); }
};

/// A node's thread is in a long step, and cannot say more: all else is as its last status said.
struct Alive {
  std::uint64_t life = 0;
  void fields(auto& archive) { archive(life); }
};

// --- what is stored

enum class EndKind : std::uint8_t {
  value,
  threw,
  lost,
  timeout,
  cancelled,
  refused,
  node_lost,  ///< of a detached job: `nodes` had begun it, and the last one is gone
  returned    ///< the node gives it back: it has not begun, and never will there
};

/// How a task ended on its node.
struct Result {
  std::uint64_t job = 0;
  std::uint64_t task = 0;
  std::uint64_t life = 0;  ///< of the node that ran it
  std::uint32_t run = 0;   ///< the permit that it ran by
  std::string node;
  std::uint64_t log_up_to = 0;  ///< records of this life that came before
  EndKind kind = EndKind::value;
  std::int32_t worker = -1;
  std::uint32_t pid = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t attempt = 1;
  Bytes bytes;                     ///< the value, or what `encode_exception` wrote
  BlobRef blob;                    ///< in place of `bytes`
  std::uint8_t exit_kind = 0;      ///< of `ExitReason`
  std::int32_t exit_code = 0;      ///< likewise
  std::int32_t exit_signal = 0;    ///< likewise
  bool core_dumped = false;        ///< likewise
  std::vector<std::string> lines;  ///< what the worker logged last
  std::string backtrace;
  std::string text;           ///< refused: why; cancelled: how; lost: what else is known
  std::int64_t limit_ns = 0;  ///< of a timeout
  std::int64_t ran_ns = 0;
  std::vector<std::string> nodes = {};  ///< node_lost: in order
  void fields(auto& archive) {
    archive(job, task, life, run, node, log_up_to, kind, worker, pid, incarnation, attempt, bytes, blob,
            exit_kind, exit_code, exit_signal, core_dumped, lines, backtrace, text, limit_ns, ran_ns, nodes);
  }
};

/// For a detached job, stored beside the result: which node began the task. Each is stored only over the one
/// that its writer has read, so one node alone begins an attempt, whatever the queue gives out twice.
struct Begun {
  std::uint64_t job = 0;
  std::uint64_t task = 0;
  std::uint64_t life = 0;      ///< of the job on the node; 0: no node has it
  std::uint64_t claim = 0;     ///< the node's number of the fetch
  std::uint64_t instance = 0;  ///< of the node, as in its beats
  std::string node = {};
  std::uint32_t attempts = 0;           ///< that have begun, this one included
  std::vector<std::string> nodes = {};  ///< that were lost with it before
  bool cancelled = false;               ///< from now on no node may begin the task
  void fields(auto& archive) { archive(job, task, life, claim, instance, node, attempts, nodes, cancelled); }
};
/// For a detached job, stored beside the result: the head has put the task into the queue.
struct Submitted {
  std::uint64_t job = 0;
  std::uint64_t task = 0;
  std::uint64_t sequence = 0;  ///< in the queue's stream
  std::int32_t retries = 0;
  std::string name = {};
  void fields(auto& archive) { archive(job, task, sequence, retries, name); }
};

/// One value of a log record.
struct WireField {
  std::string key;
  std::uint8_t kind = 0;  ///< index in `FieldValue`
  std::uint64_t number = 0;
  std::string text;
  void fields(auto& archive) { archive(key, kind, number, text); }
};
struct WireRecord {
  std::int64_t time_ns = 0;  ///< the node's system clock
  std::uint8_t level = 0;
  std::string level_name, logger, message, file, function;
  std::uint32_t line = 0;
  std::int32_t worker = -1;
  std::uint32_t incarnation = 0, pid = 0, tid = 0;
  std::uint64_t task = 0;
  std::string task_name;
  std::uint32_t attempt = 0;
  std::uint64_t sequence = 0;
  std::uint8_t origin = 0;
  std::vector<WireField> values;
  void fields(auto& archive) {
    archive(time_ns, level, level_name, logger, message, file, function, line, worker, incarnation, pid, tid,
            task, task_name, attempt, sequence, origin, values);
  }
};
/// Records of one life of a node in their order. `lost` before them did not fit into the node's memory.
struct LogBatch {
  std::uint64_t life = 0;
  std::string node = {};
  std::uint64_t from = 0;  ///< number of the first record, lost ones counted in
  std::uint64_t lost = 0;
  std::vector<WireRecord> records = {};
  void fields(auto& archive) { archive(life, node, from, lost, records); }
};

/// What a node must know of a job before its first task.
struct Manifest {
  std::string name;      ///< of the cluster
  std::string job = {};  ///< its name; empty: it has none
  PreparedCall initializer;
  PreparedCall finalizer;
  std::int64_t initializer_timeout_ns = 0;  ///< 0: none
  std::int64_t max_tasks_per_worker = 0;
  std::int64_t max_rss_per_worker = 0;
  std::int64_t restart_count = 64;
  std::int64_t restart_period_ns = 10'000'000'000;
  std::int64_t lease_ns = 10'000'000'000;
  std::uint64_t inline_limit = 256U << 10U;  ///< larger results go into the stream of large bytes
  bool detached = false;                     ///< it goes on without a head
  std::uint8_t level = 0;
  void fields(auto& archive) {
    archive(name, job, initializer, finalizer, initializer_timeout_ns, max_tasks_per_worker,
            max_rss_per_worker, restart_count, restart_period_ns, lease_ns, inline_limit, detached, level);
  }
};
/// A task in the queue. `attempt` and `retries` are filled in by the head's permit.
struct Grant {
  std::uint64_t job = 0;
  std::uint64_t task = 0;
  bool at_most_once = true;  ///< acknowledged before it begins; else when its result is stored
  bool retry_exceptions = false;
  std::int64_t timeout_ns = 0;  ///< 0: none
  std::int64_t soft_timeout_ns = 0;
  std::int32_t priority = 0;
  std::string name = {};
  CallCode code = {};
  Bytes arguments = {};
  BlobRef blob = {};  ///< in place of `arguments`
  std::uint32_t run = 0;
  std::uint32_t attempt = 1;
  std::int32_t retries = 0;
  void fields(auto& archive) {
    archive(job, task, at_most_once, retry_exceptions, timeout_ns, soft_timeout_ns, priority, name, code,
            arguments, blob, retries);
  }
};

/// A task that its head gives to one node, without the queue. The head gives `claim` its number, from
/// `assigned_claims` on.
struct Assigned {
  Grant grant = {};
  std::uint64_t claim = 0;
  std::uint32_t run = 0;
  std::uint32_t attempt = 1;
  std::int32_t retries = 0;  ///< that are left after it
  void fields(auto& archive) { archive(grant, claim, run, attempt, retries); }
};
constexpr std::uint64_t assigned_claims = std::uint64_t{1} << 63U;
/// A head to a node: it is to run these. The node takes each serial once and in order, and tells the last one
/// in its status, so the head can send again what was lost without any task beginning twice.
struct Assignment {
  std::uint64_t job = 0;
  std::uint64_t life = 0;
  std::uint64_t serial = 0;
  std::vector<Assigned> tasks = {};
  void fields(auto& archive) { archive(job, life, serial, tasks); }
};

using Message = std::variant<NodeBeat, HeadBeat, Status, Claim, Permits, Reset, Cancel, CancelReply, Bye,
                             Grant, Result, LogBatch, Manifest, Begun, Submitted, Alive, Assignment>;

/// What stands before every message, stored or told:
///
///     "knd1" | build token (8 bytes) | epoch (8 bytes) | kind (1 byte) | members
using BuildToken = std::uint64_t;
/// The first 16 hex digits of a build id. Errors: `UsageError` where there is no build id of that length.
[[nodiscard]] BuildToken build_token(std::string_view build_id);

struct Envelope {
  Epoch epoch = 0;  ///< that the sender is in
  Message message;
};
[[nodiscard]] Bytes encode(BuildToken build, Epoch epoch, const Message& message);
/// Returns the message; nothing where another build sent it, unless it is a node's beat: nothing else of
/// another build is decoded. Errors: `DecodeError`.
[[nodiscard]] std::optional<Envelope> decode(BuildToken mine, std::span<const std::byte> bytes);

[[nodiscard]] WireRecord to_wire(const LogRecord& record);
/// File and function stay as `SourceLocation` wants them, for the life of the program.
[[nodiscard]] LogRecord from_wire(WireRecord record);

}  // namespace kindred::internal::cluster
