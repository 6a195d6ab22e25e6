#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "kindred/executor.hpp"
#include "kindred/node_options.hpp"
#include "node/remote_call.hpp"
#include "wire/messages.hpp"

namespace kindred::internal {

/// What a local pool tells its node, from the pool's own threads.
struct LocalPoolEvents {
  std::function<void(std::uint64_t life, cluster::Result)> ended;
  std::function<void(std::uint64_t life, std::string why, bool may_have_begun)> broken;
  std::function<void(std::uint64_t life)> logged;  ///< there are records to take
};

/// The workers of one job on a node: a pool that runs the head's calls, under one life of the job's link.
///
/// Threads: the node's; callbacks of the pool run on the pool's thread.
class LocalPool {
 public:
  LocalPool(Entry& entry, const NodeOptions& options, std::size_t workers, std::uint64_t life,
            const cluster::Manifest& manifest, const LocalPoolEvents& events);
  LocalPool(const LocalPool&) = delete;
  LocalPool& operator=(const LocalPool&) = delete;
  ~LocalPool();

  void start(const cluster::Grant& grant);
  cluster::CancelAnswer cancel(std::uint64_t task, Running how);
  void set_level(std::uint8_t level) { pool_.logger().set_level(static_cast<Level>(level)); }
  /// Tasks that have begun since the last call.
  [[nodiscard]] std::vector<std::uint64_t> newly_begun();
  /// Takes the records that were logged since the last call.
  [[nodiscard]] cluster::LogBatch take_records();
  /// Ends the workers at once. The destructor may wait for them.
  void kill() { pool_.kill_workers(); }

 private:
  struct Held {
    Future<RemoteEnd> future;
    std::uint32_t attempt = 1;
    bool told_begun = false;
  };
  /// What the pool's threads share with this object.
  struct Shared {
    std::mutex mutex;
    bool open = true;
    std::uint64_t life = 0;
    LocalPoolEvents events;
    std::unordered_map<std::uint64_t, std::pair<std::uint64_t, std::uint32_t>>
        tasks;  // local: cluster, attempt
    std::vector<cluster::WireRecord> records;
    std::size_t bytes = 0;
    std::uint64_t lost = 0;
    /// [0]: an initializer has ended well. An array, because it is read when the pool is broken.
    SharedArray<std::uint8_t> ready;
  };
  static void tell_broken(Shared& shared, std::string why);
  static ExecutorOptions pool_options(const NodeOptions& options, std::size_t workers,
                                      const cluster::Manifest& manifest);
  static void take_record(Shared& shared, const LogRecord& record);

  bool load_libraries_;
  std::shared_ptr<Shared> shared_;
  ProcessPoolExecutor pool_;
  std::unordered_map<std::uint64_t, Held> tasks_;
};

}  // namespace kindred::internal
