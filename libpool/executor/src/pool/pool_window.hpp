#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dispatch/dispatcher.hpp"
#include "dispatch/load.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/context.hpp"
#include "kindred/stats.hpp"
#include "link/worker_slots.hpp"
#include "supervise/supervisor.hpp"
#include "task/completion.hpp"
#include "task/pool_guard.hpp"
#include "watch/pool_view.hpp"
#include "watch/pool_watch.hpp"
#include "watch/watch_notes.hpp"

namespace kindred::internal {

struct TailRequest;
class TailVisit;

/// Tells what the pool is like: as `PoolStats`, and for kindred-view, kindred-top, metrics and traces.
class PoolWindow {
 public:
  struct Parts {
    const ExecutorOptions& options;
    std::uint32_t parent_pid;
    Context& context;
    Collector& collector;
    PoolMutex& mutex;
    const PoolPhase& phase;
    const PendingTasks& pending;
    const Completion& completion;
    const WorkerSlots& slots;
    const Load& load;
    Dispatcher& dispatcher;
    PoolWatch& watch;
    WatchNotes& notes;
    const Supervisor& supervisor;
  };
  explicit PoolWindow(const Parts& parts) noexcept : parts_{parts} {}

  /// Opens the window to programs that look at the pool, by the log's door.
  void begin();
  /// The workers have gone. All that was logged is in the log.
  void end() noexcept;
  [[nodiscard]] PoolStats stats();
  void trace(const std::string& path, std::uint64_t max_bytes);  ///< an empty path ends it

 private:
  /// How the log's door reaches the pool: closed when the pool ends, because a guest's thread may outlive it.
  struct Gate {
    std::mutex lock;  // held while a question is answered; never taken while the pool's lock is held
    PoolWindow* window = nullptr;
  };
  using Sources = std::vector<std::optional<SourceId>>;

  /// Counts all but what `add_log_and_memory` adds.
  [[nodiscard]] PoolStats count_all(Locked locked, Sources& sources) const;
  void add_log_and_memory(PoolStats& all, const Sources& sources) const;
  [[nodiscard]] WorkerView look_at(Locked, const WorkerSlot& slot, std::uint64_t now) const;
  void look_at_all(Locked locked, PoolView& view, Sources& sources);
  [[nodiscard]] PoolView look_inside();  // with the gate's lock, without the pool's
  static void answer_pool(Gate& gate, const TailRequest& request, TailVisit& visit);
  static void answer_metrics(Gate& gate, TailVisit& visit);
  [[nodiscard]] std::string metrics_text();
  void end_trace() noexcept;

  const Parts parts_;
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

}  // namespace kindred::internal
