#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <variant>

#include "wire/archive.hpp"

namespace kindred::internal::cluster {

/// Time of one process, from any origin. It never runs backwards.
using Time = std::chrono::nanoseconds;
/// The number of one life of the engine's store. Each stream's name has it, so that a message about an
/// earlier life, a late acknowledgement for instance, cannot touch this one.
using Epoch = std::uint64_t;
/// The number that the asker gives a question; the answer has the same number.
using Ticket = std::uint64_t;

enum class StreamKind : std::uint8_t {
  tasks,    ///< a work queue; path: build.class.job
  results,  ///< path: job.task
  log,      ///< path: job.node
  blobs,    ///< path: job.blob.part
  nodes,    ///< keys, of no epoch; path: the node's name
  jobs,     ///< likewise; path: the job
  epochs    ///< likewise; path: "current"
};
/// One of the streams. Keys keep their last value for each path, and belong to no epoch.
struct Stream {
  StreamKind kind = StreamKind::tasks;
  Epoch epoch = 0;

  friend auto operator<=>(const Stream&, const Stream&) = default;
};
[[nodiscard]] constexpr bool holds_keys(StreamKind kind) noexcept { return kind >= StreamKind::nodes; }

struct StreamLimits {
  unsigned replicas = 1;
  bool in_memory = false;
  Time max_age{0};              ///< 0: for ever
  std::uint64_t max_bytes = 0;  ///< 0: no limit
  Time duplicates_window = std::chrono::minutes{2};
  bool insist = false;  ///< a stream that exists with other limits gets these
};

/// A message's place in a stream: names with dots between them.
struct Place {
  Stream stream = {};
  std::string path = {};
};

/// A consumer of the task queue: all nodes of one build share one for each class of priority. The build is in
/// its name, and so no pull of another build can reach it.
struct Queue {
  Epoch epoch = 0;
  std::string build = {};  ///< token in hex
  char priority = 'm';     ///< h, m or l

  friend auto operator<=>(const Queue&, const Queue&) = default;
};

/// Where packets go that nobody keeps: the names that engines give to places.
struct Address {
  enum class Kind : std::uint8_t {
    heads,  ///< beats of all heads: for nodes, and for the head itself
    nodes,  ///< beats of all nodes: for heads
    job,    ///< one head, by its job
    node    ///< one node, by its name
  };
  Kind kind = Kind::heads;
  std::string name = {};  ///< of the job or node

  friend auto operator<=>(const Address&, const Address&) = default;
};

/// The end of a question.
struct Answer {
  enum class How : std::uint8_t {
    done,
    missing,   ///< there is no such stream, message or key
    conflict,  ///< the key has another revision than was expected
    refused    ///< `text` has the server's words
  };
  Ticket ticket = 0;
  How how = How::done;
  std::uint64_t number = 0;  ///< sequence of what was put or found, or the stream's last
  bool duplicate = false;    ///< a put of the same id was there before
  Bytes bytes = {};          ///< what was found
  std::string text = {};     ///< server's words; of a stream's state: when it was created
};
/// A task that the queue has given to this process, until it is settled, or not extended for the lease.
struct Delivery {
  Epoch epoch = 0;
  std::uint64_t sequence = 0;
  std::uint64_t count = 1;  ///< how often it was given out
  std::string handle = {};
  Bytes bytes = {};
};
/// A message of a stream that is followed.
struct StreamEntry {
  Ticket feed = 0;
  std::uint64_t sequence = 0;
  Bytes bytes = {};
};
struct Told {
  Bytes bytes;
};
using EngineEvent = std::variant<Answer, Delivery, StreamEntry, Told>;

enum class Settle : std::uint8_t {
  done,  ///< it leaves the queue
  back,  ///< it is to be given out again at once
  later  ///< likewise, after a second
};

/// What a key must be for a put to be done.
struct Expect {
  enum class What : std::uint8_t { anything, absent, revision };
  What what = What::anything;
  std::uint64_t revision = 0;
};

/// What an engine knows of itself.
struct EngineState {
  bool connected = false;
  std::uint64_t outages = 0;
  std::string last_words;              ///< the server's last complaint; empty: none
  std::uint64_t refused_messages = 0;  ///< dropped, because they bore no right signature
};

/// The messaging system under a cluster: streams that keep messages, a work queue over one of them, keys, and
/// packets that nobody keeps. Every verb asks and returns at once; the answer is an event. A question or its
/// answer may be lost: the asker asks again, and so every verb may be repeated (a put by its id).
///
/// Threads: any. No call blocks. Events come on the engine's threads; the receiver only queues them.
class Engine {
 public:
  using Receive = std::function<void(EngineEvent event)>;

  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;

  /// Makes the stream (or the queue) where there is none of that name yet.
  virtual void ensure(Ticket ticket, const Stream& stream, const StreamLimits& limits) = 0;
  virtual void ensure(Ticket ticket, const Queue& queue, Time lease) = 0;
  virtual void state(Ticket ticket, const Stream& stream) = 0;
  /// Removes the stream with all that is in it, and its queues.
  virtual void remove(Ticket ticket, const Stream& stream) = 0;
  /// Stores a message. Of several with one id within the window only the first is kept; empty: no id.
  virtual void put(Ticket ticket, const Place& place, const std::string& id, std::span<const std::byte> bytes,
                   Expect expect) = 0;
  /// The last message at this place.
  virtual void find(Ticket ticket, const Place& place) = 0;
  virtual void find(Ticket ticket, const Stream& stream, std::uint64_t sequence) = 0;
  virtual void erase(Ticket ticket, const Stream& stream, std::uint64_t sequence) = 0;
  /// Removes the messages of exactly this subject up to the sequence number; 0: all of them.
  virtual void erase_at(Ticket ticket, const Place& place, std::uint64_t up_to) = 0;
  /// Removes all messages below this place up to the sequence; 0: all.
  virtual void purge(Ticket ticket, const Place& below, std::uint64_t up_to) = 0;
  /// Asks for at most `room` deliveries; the answer comes after the last one. `wait` 0: only what is there
  /// now.
  virtual void take(Ticket ticket, const Queue& queue, std::size_t room, Time wait) = 0;
  /// The task is still in work: its lease begins anew.
  virtual void extend(const std::string& handle) = 0;
  /// Ticket 0: nobody waits for the answer.
  virtual void settle(Ticket ticket, const std::string& handle, Settle how) = 0;
  /// Brings each message below this place from the sequence on, in order, each once, for as long as the
  /// stream is there, over restarts of the engine, too.
  virtual void follow(Ticket feed, const Place& below, std::uint64_t from) = 0;
  virtual void unfollow(Ticket feed) = 0;

  virtual void listen(const Address& address) = 0;  ///< once is enough
  virtual void tell(const Address& to, std::span<const std::byte> packet) = 0;

  /// Call now and then: followed streams that have fallen silent are asked for anew.
  virtual void tick() {}
  [[nodiscard]] virtual std::size_t max_message() const = 0;
  [[nodiscard]] virtual EngineState connection() const = 0;
};

}  // namespace kindred::internal::cluster
