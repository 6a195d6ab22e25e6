#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"
#include "wire/blob.hpp"

namespace kindred::internal::cluster {

/// What a publisher asks of the ledger.
class TaskSource {
 public:
  struct Publication {
    char priority = 'm';
    std::string id;                ///< by which the engine drops a second one
    const Bytes* large = nullptr;  ///< arguments that go apart; null: none
    std::uint64_t blob = 0;        ///< their number
  };
  TaskSource() = default;
  TaskSource(const TaskSource&) = delete;
  TaskSource& operator=(const TaskSource&) = delete;
  virtual ~TaskSource() = default;
  /// False: the task needs no publication any more.
  virtual bool publication(std::uint64_t task, Publication& out) = 0;
  virtual Bytes message(std::uint64_t task, const BlobRef& blob) = 0;
};

/// Puts tasks into the engine's queue: in the order given, a bounded number at once, each again and again by
/// the same id until the engine has said that it is stored.
///
/// Threads: one at a time; `now` is an argument.
class Publisher {
 public:
  struct Stored {
    std::uint64_t task = 0;
    std::uint64_t sequence = 0;
  };
  Publisher(TaskSource& source, Engine& engine, Tickets& tickets, std::string build, std::string job)
      : source_{source}, engine_{engine}, tickets_{tickets}, build_{std::move(build)}, job_{std::move(job)} {}

  void add(std::uint64_t task) { queue_.push_back(task); }
  /// All that is on its way belongs to an epoch that is over. What is to go into the new one is added anew.
  void restart();
  void tick(Time now, Epoch epoch);
  bool on_answer(Time now, const Answer& answer, std::vector<Stored>& stored, bool& no_stream);
  [[nodiscard]] Time next_due(Time now) const noexcept;
  [[nodiscard]] std::uint64_t published() const noexcept { return published_; }
  [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }
  [[nodiscard]] std::size_t waiting() const noexcept {
    return queue_.size() + sent_.size() + uploads_.size();
  }
  /// What the engine said to the last publication that it refused.
  [[nodiscard]] const std::string& words() const noexcept { return words_; }

 private:
  struct Sent {
    std::uint64_t task = 0;
    Time again{0};  ///< when it is sent once more
  };
  void publish(Time now, Epoch epoch, std::uint64_t task, const BlobRef& blob, bool again);

  TaskSource& source_;
  Engine& engine_;
  Tickets& tickets_;
  std::string build_;
  std::string job_;
  std::deque<std::uint64_t> queue_;
  std::map<Ticket, Sent> sent_;
  std::map<std::uint64_t, std::unique_ptr<BlobUpload>> uploads_;
  std::map<std::uint64_t, BlobRef> blobs_;  ///< stored, and named by a publication on its way
  std::uint64_t published_ = 0;
  std::uint64_t repeated_ = 0;
  std::string words_;
};

}  // namespace kindred::internal::cluster
