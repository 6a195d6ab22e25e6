#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/text_buffer.hpp"
#include "kindred/stats.hpp"
#include "watch/time_histogram.hpp"

namespace kindred::internal {

using SystemTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds>;

/// A worker that ended otherwise than it was asked to.
struct WorkerDeath {
  SystemTime time{};
  int worker = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t pid = 0;
  std::string kind;    ///< few values, for a label: "SIGKILL", "exited 3", "timed out", "lost"
  std::string reason;  ///< "was killed by SIGKILL"
  std::uint64_t task_id = 0;
  std::string task_name;
  std::string hint;
  std::string crash;  ///< "SIGSEGV at address 0x10"; empty: it left no report
  std::string stack;  ///< a line a frame
  std::vector<std::string> last_lines;
};

struct WorkerView {
  bool runs = false;  ///< a task
  std::string state;  ///< empty, starting, initializing, idle, running, leaving, dying
  std::uint64_t cpu_nanoseconds = 0;
  std::string task_name;                  ///< of the task that runs now
  CodeReference task_code = 0;            ///< where that task has no name of its own
  std::uint64_t running_nanoseconds = 0;  ///< since that task began
  std::uint64_t untaken = 0;              ///< tasks that have ended, and whose results lie in its ring
  std::uint64_t handed = 0;               ///< tasks that it has and has not begun
};

struct TaskNameView {
  std::string name;
  CodeReference code = 0;  ///< where the tasks have no name of their own
  std::uint64_t ended = 0;
  std::uint64_t failed = 0;
  std::uint64_t lost = 0;
  std::uint64_t run_nanoseconds = 0;
  std::uint64_t queue_nanoseconds = 0;
  std::uint64_t longest_nanoseconds = 0;
};

/// All that kindred-view, kindred-top and the metrics show of a pool, at one moment.
struct PoolView {
  std::uint32_t pid = 0;
  std::uint32_t serial = 0;
  std::string start_method;
  std::string program;
  std::string level;
  SystemTime now{};
  SystemTime since{};
  std::uint64_t max_workers = 0;
  std::string broken;  ///< why it is; empty: it is not
  bool closed = false;
  PoolStats stats;
  std::vector<WorkerView> workers;  ///< beside `stats.per_worker`
  /// The times of the tasks that ended while the pool was watched.
  TimeHistogram queue_time;
  TimeHistogram run_time;
  std::vector<TaskNameView> names;
  std::vector<std::shared_ptr<const WorkerDeath>> deaths;  ///< the latest, oldest first
  std::map<std::string, std::uint64_t> restarts_by_kind;
  std::uint64_t trace_lost = 0;  ///< events that the trace had no room for
};

/// Appends one JSON object, on one line.
void append_view_json(const PoolView& view, TextBuffer& out);
/// Appends OpenMetrics text, without the `# EOF` at the end, which belongs behind the last pool's.
/// libpool/doc/metrics.md has the table of families.
void append_view_metrics(const PoolView& view, TextBuffer& out);

}  // namespace kindred::internal
