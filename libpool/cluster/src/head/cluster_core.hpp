#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/engine.hpp"
#include "head/head.hpp"
#include "head/record_merger.hpp"
#include "kindred/cluster_options.hpp"
#include "kindred/executor.hpp"
#include "kindred/internal/cluster_core.hpp"
#include "kindred/internal/code_reference.hpp"

namespace kindred::internal {

/// A cluster executor's inside: the head's state machine with a thread, an engine, and the futures.
///
/// One lock guards the state machine. It is held for short steps only, never over a future's end or user
/// code. Threads: the callers', the engine's (they only put packets into the inbox), and one of its own.
class ClusterCore : public std::enable_shared_from_this<ClusterCore> {
 public:
  ClusterCore(Entry& entry, ClusterOptions options);
  ClusterCore(const ClusterCore&) = delete;
  ClusterCore& operator=(const ClusterCore&) = delete;
  ~ClusterCore();

  /// Errors: `UsageError` (shut down), `BrokenProcessPool`.
  void require_open();
  bool submit(const EntryInfo& entry, const void* function, const TaskOptions* options,
              std::vector<std::byte> arguments, const StateHandle& state, RemoteTask& task, bool try_only);
  [[nodiscard]] bool running(std::uint64_t task);
  bool cancel(std::uint64_t task, Running how);
  void cancel_pending(std::uint64_t task);
  void shutdown(ShutdownOptions options);
  void stop();  ///< after `shutdown`: tells the nodes, and ends the thread
  void adopt(std::uint64_t id, const StateHandle& state, RemoteTask& task);
  [[nodiscard]] std::vector<ClusterTaskInfo> tasks();
  void drop(std::uint64_t id);
  [[nodiscard]] std::vector<NodeInfo> nodes();
  [[nodiscard]] ClusterStats stats();
  [[nodiscard]] std::size_t workers();
  void on_node(std::function<void(const NodeEvent&)> callback);
  [[nodiscard]] ProcessPoolExecutor& pool() noexcept { return pool_; }
  [[nodiscard]] ContextId context() const noexcept { return {}; }

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct OpenFuture {
    StateHandle state;
    RemoteTask* task = nullptr;
  };

  [[nodiscard]] cluster::HeadSettings settings();
  [[nodiscard]] cluster::CallCode code_of(const EntryInfo& entry, const void* function);
  [[nodiscard]] cluster::PreparedCall prepare(const Call& call);
  [[nodiscard]] bool has_room(std::size_t bytes) const;
  void receive(cluster::EngineEvent event);
  void await_streams();
  void run();
  void wake();
  /// Gives the lock away, and finishes what has ended.
  void deliver(Lock& lock, bool own_thread);
  void finish(cluster::Ended& ended, const OpenFuture& future);
  void leave(Lock& lock);
  void tell_news(const std::vector<cluster::NodeNews>& news);
  void open_to_tails();

  /// How guests of the log reach the head: closed when it ends, because a guest's thread may outlive it.
  struct Gate {
    std::mutex mutex;  // held while a guest is answered
    ClusterCore* core = nullptr;
  };

  ClusterOptions options_;
  std::shared_ptr<CodeBook> code_;
  std::uint64_t job_;
  ProcessPoolExecutor pool_;
  std::mutex inbox_mutex_;
  std::vector<cluster::EngineEvent> inbox_;
  bool woken_ = false;
  std::condition_variable inbox_bell_;
  std::mutex mutex_;
  std::condition_variable changed_;  // a task has ended, or a node has answered
  std::unique_ptr<cluster::Engine> engine_;
  std::unique_ptr<cluster::Head> head_;
  cluster::RecordMerger merger_;
  std::unordered_multimap<std::uint64_t, OpenFuture> futures_;
  std::size_t undelivered_ = 0;  // ended, and their futures not yet finished
  std::uint64_t lost_records_ = 0;
  bool closed_ = false;
  bool offers_tail_ = false;
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::atomic<bool> stopping_{false};
  std::function<void(const NodeEvent&)> on_node_;
  std::thread thread_;
};

}  // namespace kindred::internal
