#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"
#include "wire/messages.hpp"

// Bytes that are too large for a message travel in parts of their own, and the message says where they are,
// how many they are, and their SHA-256.
namespace kindred::internal::cluster {

/// Stores the parts. The bytes stay where they are until it is done. Threads: one at a time.
class BlobUpload {
 public:
  BlobUpload(std::string job, BlobRef ref, const Bytes& bytes, std::size_t part_bytes)
      : job_{std::move(job)}, ref_{std::move(ref)}, bytes_{&bytes}, part_bytes_{part_bytes} {}

  void tick(Time now, Epoch epoch, Engine& engine, Tickets& tickets);
  bool on_answer(Time now, const Answer& answer);
  void restart();  ///< the epoch has changed
  [[nodiscard]] bool done() const noexcept { return stored_ == parts(); }
  [[nodiscard]] const BlobRef& ref() const noexcept { return ref_; }

 private:
  struct Sent {
    std::size_t part = 0;
    Time at{0};
  };
  [[nodiscard]] std::size_t parts() const noexcept {
    return (bytes_->size() + part_bytes_ - 1) / part_bytes_;
  }
  void put(Time now, std::size_t part, Epoch epoch, Engine& engine, Tickets& tickets);

  std::string job_;
  BlobRef ref_;
  const Bytes* bytes_;
  std::size_t part_bytes_;
  std::map<Ticket, Sent> sent_;
  std::size_t next_ = 0;
  std::size_t stored_ = 0;
};

/// Fetches the parts in order. Threads: one at a time.
class BlobFetch {
 public:
  BlobFetch(std::string job, BlobRef ref) : job_{std::move(job)}, ref_{std::move(ref)} {}

  void tick(Time now, Epoch epoch, Engine& engine, Tickets& tickets);
  bool on_answer(Time now, const Answer& answer);
  enum class State : std::uint8_t { fetching, complete, failed };
  [[nodiscard]] State state() const noexcept { return state_; }
  [[nodiscard]] Bytes take() noexcept { return std::move(bytes_); }
  [[nodiscard]] const std::string& why() const noexcept { return why_; }

 private:
  void fail(std::string why);
  std::string job_;
  BlobRef ref_;
  Bytes bytes_;
  std::size_t next_ = 0;
  Ticket asked_ = 0;
  Time asked_at_{0};
  unsigned missing_ = 0;
  State state_ = State::fetching;
  std::string why_;
};

/// Large enough that few are needed, and below a server's usual limit of 1 MiB.
[[nodiscard]] std::size_t blob_part_bytes(const Engine& engine);
[[nodiscard]] BlobRef blob_ref(std::uint64_t id, const Bytes& bytes);

}  // namespace kindred::internal::cluster
