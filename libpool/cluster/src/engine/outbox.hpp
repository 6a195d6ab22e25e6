#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"

namespace kindred::internal::cluster {

/// What is to be stored: kept, and put again by the same id, until the engine has said that it is stored.
/// Threads: one at a time; `now` is an argument.
class Outbox {
 public:
  struct Item {
    StreamKind kind = StreamKind::results;
    std::string path;
    std::string id;  ///< without the epoch
    Bytes bytes;
    std::uint64_t cookie = 0;   ///< the owner's
    bool unless_there = false;  ///< only where nothing is stored at this path
  };
  void add(Item item) {
    bytes_ += item.bytes.size();
    waiting_.push_back(std::move(item));
  }
  /// The epoch has changed: all goes out again.
  void restart();
  void tick(Time now, Epoch epoch, Engine& engine, Tickets& tickets);
  /// What was stored is moved to `stored`. False: the answer is not for this.
  bool on_answer(Time now, const Answer& answer, std::vector<Item>& stored);
  void drop_below(StreamKind kind, const std::string& path);  ///< nobody wants these any more
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool empty() const noexcept { return waiting_.empty() && sent_.empty(); }
  [[nodiscard]] Time next_due(Time now) const noexcept;

 private:
  struct Sent {
    Item item;
    Time again{0};
  };
  void put(Time now, Item item, Epoch epoch, Engine& engine, Tickets& tickets);

  std::deque<Item> waiting_;
  std::map<Ticket, Sent> sent_;
  std::size_t bytes_ = 0;
};

}  // namespace kindred::internal::cluster
