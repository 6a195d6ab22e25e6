#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kindred/internal/tail_client.hpp"
#include "pool_choice.hpp"

namespace kindred::view {

/// Follows the pools that were chosen, where a process was also those of all processes below it (pools in
/// workers): finds those that come, and has each tell once a second what it is like. A pool is named by its
/// key, "PID/N". Of those that have ended the latest few are kept.
///
/// Threads: any thread; one of its own to find pools, and one for each pool.
class PoolSet {
 public:
  explicit PoolSet(tools::PoolChoice choice, std::chrono::milliseconds every = std::chrono::seconds{1});
  PoolSet(const PoolSet&) = delete;
  PoolSet& operator=(const PoolSet&) = delete;
  ~PoolSet();

  struct Snapshot {
    std::uint64_t version = 0;
    std::string json;  ///< {"pools":[{"key":"..","parent":"..","ended":false,"view":{...}}]}, on one line
  };
  /// Waits until there is something newer than `version`, or the time is over.
  [[nodiscard]] Snapshot next(std::uint64_t version, std::chrono::milliseconds patience);
  /// As many pools as are followed and have not ended.
  [[nodiscard]] std::size_t live() const;
  [[nodiscard]] bool ever_found() const;
  /// What the pool told last, a JSON object; nothing where there is no such pool.
  [[nodiscard]] std::optional<std::string> latest(std::string_view key) const;
  /// A new connection to the pool. Nothing where there is none, or it does not let us in.
  [[nodiscard]] std::optional<internal::DoorPool> connect(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> live_keys() const;

 private:
  struct Followed {
    internal::DoorName name;
    std::string key;
    std::uint32_t pid = 0;
    std::string parent;
    std::string latest;
    bool ended = false;
    std::uint64_t ended_as = 0;  ///< how many pools had ended before it; the first of all are forgotten
    std::thread thread;
  };
  void find();
  void look_for_pools();
  void forget_ended();
  void follow(const std::shared_ptr<Followed>& pool, internal::DoorPool connection);
  void set_parents();  ///< call while the lock is held
  [[nodiscard]] bool wanted(std::uint32_t pid, const std::string& serial) const;

  const tools::PoolChoice choice_;
  const std::chrono::milliseconds every_;
  mutable std::mutex lock_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::uint64_t version_ = 0;
  std::uint64_t ended_ = 0;
  std::map<std::string, std::shared_ptr<Followed>> pools_;  // by key
  std::set<std::string> refused_;                           // names that let us not in, or are not wanted
  std::thread finder_;
};

/// The process that made this one; 0 where it cannot be known.
[[nodiscard]] std::uint32_t parent_of(std::uint32_t pid);

}  // namespace kindred::view
