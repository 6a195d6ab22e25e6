#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/engine.hpp"
#include "wire/signature.hpp"

namespace kindred::internal::cluster {

/// An engine whose messages are all signed: what is stored and what is told. What comes without the right
/// signature is dropped before anything in it is decoded, as if it had been lost. So servers that were taken
/// over can withhold messages, and give out old ones again, but cannot make any.
///
/// Threads: as `Engine`.
class SignedEngine final : public Engine {
 public:
  /// Is called with what was dropped, on the engine's threads: the first time, and then at most once in ten
  /// seconds.
  using Refused = std::function<void(const std::string& what)>;
  /// Makes the engine below, which gives its events to the function that it gets.
  using Make = std::function<std::unique_ptr<Engine>(Receive receive)>;

  SignedEngine(Signer signer, std::string cluster, Receive receive, Refused refused, const Make& make);

  void ensure(Ticket ticket, const Stream& stream, const StreamLimits& limits) override {
    below_->ensure(ticket, stream, limits);
  }
  void ensure(Ticket ticket, const Queue& queue, Time lease) override {
    below_->ensure(ticket, queue, lease);
  }
  void state(Ticket ticket, const Stream& stream) override { below_->state(ticket, stream); }
  void remove(Ticket ticket, const Stream& stream) override { below_->remove(ticket, stream); }
  void put(Ticket ticket, const Place& place, const std::string& id, std::span<const std::byte> bytes,
           Expect expect) override {
    below_->put(ticket, place, id, door_->signer.sign(bytes), expect);
  }
  void find(Ticket ticket, const Place& place) override { below_->find(ticket, place); }
  void find(Ticket ticket, const Stream& stream, std::uint64_t sequence) override {
    below_->find(ticket, stream, sequence);
  }
  void erase(Ticket ticket, const Stream& stream, std::uint64_t sequence) override {
    below_->erase(ticket, stream, sequence);
  }
  void erase_at(Ticket ticket, const Place& place, std::uint64_t up_to) override {
    below_->erase_at(ticket, place, up_to);
  }
  void purge(Ticket ticket, const Place& below, std::uint64_t up_to) override {
    below_->purge(ticket, below, up_to);
  }
  void take(Ticket ticket, const Queue& queue, std::size_t room, Time wait) override {
    below_->take(ticket, queue, room, wait);
  }
  void extend(const std::string& handle) override { below_->extend(handle); }
  void settle(Ticket ticket, const std::string& handle, Settle how) override {
    below_->settle(ticket, handle, how);
  }
  void follow(Ticket feed, const Place& below, std::uint64_t from) override {
    below_->follow(feed, below, from);
  }
  void unfollow(Ticket feed) override { below_->unfollow(feed); }
  void listen(const Address& address) override { below_->listen(address); }
  void tell(const Address& to, std::span<const std::byte> packet) override {
    below_->tell(to, door_->signer.sign(packet));
  }
  void tick() override { below_->tick(); }
  [[nodiscard]] std::size_t max_message() const override { return below_->max_message() - Signer::bytes; }
  [[nodiscard]] EngineState connection() const override;

 private:
  /// What the events of the engine below pass through.
  struct Door {
    Door(Signer its_signer, std::string its_cluster, Receive its_receive, Refused its_refused)
        : signer{std::move(its_signer)},
          cluster{std::move(its_cluster)},
          receive{std::move(its_receive)},
          refused{std::move(its_refused)} {}

    Signer signer;
    std::string cluster;
    Receive receive;
    Refused refused;
    std::atomic<std::uint64_t> count{0};
    std::atomic<std::int64_t> told{0};

    void pass(EngineEvent event);
    [[nodiscard]] bool check(Bytes& bytes, const char* what);
  };
  std::shared_ptr<Door> door_;
  std::unique_ptr<Engine> below_;
};

}  // namespace kindred::internal::cluster
