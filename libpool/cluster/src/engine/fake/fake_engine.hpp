#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/engine.hpp"

namespace kindred::internal::cluster {

/// An engine in memory, on a virtual clock, for tests: it keeps streams, hands out tasks and gives out again
/// those that are neither settled nor extended within the lease, drops second puts of one id, and can lose
/// whatever the test says: a question, an answer, a packet, or the whole store. Threads: one.
class FakeBus {
 public:
  /// What becomes of one packet: a question, an answer, a delivery, or what is told.
  struct Fate {
    bool lost = false;
    unsigned copies = 1;
    Time late{0};  ///< besides the delay
  };
  /// One machine's connection.
  class Port final : public Engine {
   public:
    Port(FakeBus& bus, std::string machine) : bus_{bus}, machine_{std::move(machine)} {
      bus_.ports_.insert(this);
    }
    ~Port() override { bus_.forget(*this); }
    void ensure(Ticket ticket, const Stream& stream, const StreamLimits& limits) override;
    void ensure(Ticket ticket, const Queue& queue, Time lease) override;
    void state(Ticket ticket, const Stream& stream) override;
    void remove(Ticket ticket, const Stream& stream) override;
    void put(Ticket ticket, const Place& place, const std::string& id, std::span<const std::byte> bytes,
             Expect expect) override;
    void find(Ticket ticket, const Place& place) override;
    void find(Ticket ticket, const Stream& stream, std::uint64_t sequence) override;
    void erase(Ticket ticket, const Stream& stream, std::uint64_t sequence) override;
    void erase_at(Ticket ticket, const Place& place, std::uint64_t up_to) override;
    void purge(Ticket ticket, const Place& below, std::uint64_t up_to) override;
    void take(Ticket ticket, const Queue& queue, std::size_t room, Time wait) override;
    void extend(const std::string& handle) override;
    void settle(Ticket ticket, const std::string& handle, Settle how) override;
    void follow(Ticket feed, const Place& below, std::uint64_t from) override;
    void unfollow(Ticket feed) override { feeds_.erase(feed); }
    void listen(const Address& address) override { bus_.listeners_[address].insert(this); }
    void tell(const Address& to, std::span<const std::byte> packet) override;
    void tick() override;
    [[nodiscard]] std::size_t max_message() const override { return bus_.max_packet; }
    [[nodiscard]] EngineState connection() const override {
      return {
          .connected = !bus_.down && !bus_.cut.contains(machine_), .outages = bus_.outages, .last_words = {}};
    }
    [[nodiscard]] const std::string& machine() const noexcept { return machine_; }
    Receive receive;

   private:
    friend class FakeBus;
    struct Feed {
      Place below;
      std::uint64_t next = 1;
    };
    /// Runs `verb` at the engine when the question arrives; its answer comes back.
    void ask(Ticket ticket, std::function<Answer(FakeBus&)> verb);

    FakeBus& bus_;
    std::string machine_;
    std::map<Ticket, Feed> feeds_;
  };

  Time now{0};
  Time delay = std::chrono::microseconds{100};
  std::size_t max_packet = 1U << 20U;
  bool down = false;          ///< nothing arrives anywhere
  std::uint64_t outages = 0;  ///< how often connections were lost, as they report it
  /// As a server that is killed: what is settled stays in its stream, and no queue gives it out.
  bool keeps_settled = false;
  std::set<std::string> cut;  ///< machines that nothing reaches and nothing leaves
  /// Asked for each packet, by its number from 0.
  std::function<Fate(std::uint64_t number)> fate;

  /// All streams and keys are gone, as if the disk had been replaced.
  void wipe();
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }
  /// Time of the next arrival; nothing on its way: the largest time.
  [[nodiscard]] Time next() const noexcept;
  /// Hands over all that has arrived by `now`.
  void deliver();
  /// Messages in the streams of this kind, of all epochs.
  [[nodiscard]] std::size_t stored(StreamKind kind) const;
  /// How many streams of this kind there are, of all epochs.
  [[nodiscard]] std::size_t streams(StreamKind kind) const;

 private:
  struct StoredMessage {
    std::string path;
    Bytes bytes;
    bool stuck = false;  ///< settled, and kept all the same
  };
  struct StoredStream {
    std::map<std::uint64_t, StoredMessage> messages;
    std::map<std::string, std::pair<std::uint64_t, Time>> ids;  // sequence, when
    std::uint64_t last = 0;
    std::uint64_t created = 0;
    Time max_age{0};
    Time window{0};
  };
  struct Out {
    Time due{0};  // when it is given out again
    std::uint64_t count = 0;
  };
  struct Waiting {
    Port* port = nullptr;
    Ticket ticket = 0;
    std::size_t room = 0;
    Time until{0};
  };
  struct StoredQueue {
    Time lease{0};
    std::map<std::uint64_t, Out> out;
    std::vector<Waiting> pulls;
  };
  void forget(Port& port);
  /// Something travels from one place to another: lost, repeated or late, as the test says.
  void send(const std::string& from, const std::string& to, const std::function<void()>& arrives);
  void give_out(const Queue& queue, StoredQueue& stored);
  void feed(const Stream& stream);
  Answer store(const Place& place, const std::string& id, const Bytes& bytes, Expect expect);
  StoredQueue* queue_of(const std::string& handle, std::uint64_t& sequence);

  std::multimap<Time, std::function<void()>> on_the_way_;
  std::map<Address, std::set<Port*>> listeners_;
  std::set<Port*> ports_;
  std::map<Stream, StoredStream> streams_;
  std::map<Queue, StoredQueue> queues_;
  std::uint64_t sent_ = 0;
  std::uint64_t created_ = 0;
};

}  // namespace kindred::internal::cluster
