#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "collect/drain.hpp"
#include "collect/history.hpp"
#include "collect/level_board.hpp"
#include "collect/ticket.hpp"
#include "front/front.hpp"
#include "kindred/internal/collector.hpp"
#include "tail/tail_server.hpp"

namespace kindred::internal {

/// What the collector's thread shares with its owner. Member order is shutdown order.
struct Collector::State : std::enable_shared_from_this<Collector::State> {
  State(std::shared_ptr<ContextLife> its_life, const LogOptions& its_options);

  const std::shared_ptr<ContextLife> life;
  const LogOptions options;
  const SharedBell bell;
  const LogAreaShape shape;
  const std::shared_ptr<History> history;
  LogFront* front = nullptr;
  Logger logger;
  std::unique_ptr<TailServer> tail;  ///< set once, by the owner's thread that waits on its descriptor
  std::vector<std::pair<std::string, TailAnswer>> tail_answers;  ///< for `tail`, until it is made

  LevelBoard levels;
  /// Answers `kindred-tail --set-level`.
  void answer_set_level(const TailRequest& request, TailVisit& visit);

  TicketBox tickets;
  /// Returns false where the log is shut down.
  bool send(const std::shared_ptr<Ticket>& ticket);
  /// Sends something to be done by the collector's thread, and does not wait.
  bool command(std::function<void(Drain&)> run);

  // --- the thread ---
  std::mutex thread_lock;
  std::thread thread;
  std::atomic<bool> started{false};
  bool shut = false;  ///< under `thread_lock`
  std::atomic<std::uint32_t> thread_tid{0};
  std::atomic<std::uint64_t> progress{
      0};  ///< tickets done, and sinks flushed; records are counted by the drain
  std::atomic<std::uint64_t> wakeups{0};
  std::atomic<std::uint64_t> last_id{0};
  std::unique_ptr<Drain> drain;  ///< the thread's alone; its counters are for all
  void start();
  void emit(LogRecord&& record, std::uint64_t at = 0);
  /// For records that were put on the desk.
  void ring_if_sleeping() const noexcept;
  [[nodiscard]] bool on_own_thread() const noexcept {
    return thread_tid.load(std::memory_order_relaxed) == thread_id();
  }
  /// Waits while the collector makes progress. Returns false where the deadline passed, or nothing moved for
  /// `flush_limit`.
  bool wait_moving(const Ticket& ticket, Deadline deadline) const;

  // --- what the thread does ---
  std::vector<std::shared_ptr<Ticket>> waiting;  ///< accepted, and not done
  void run();
  void end_thread();
  void take_tickets();
  std::uint32_t flush_number = 0;     ///< of `LogFront::flushes_asked`: seen
  std::uint64_t flush_wanted_at = 0;  ///< ticks; 0: no such flush is wanted
  void take_flushes() noexcept;
  [[nodiscard]] bool must_force() const noexcept;
  bool settle(const Drain::Round& round);
  void sleep_until_something(std::chrono::steady_clock::time_point quiet_since,
                             std::chrono::microseconds& nap, bool pending);
};

}  // namespace kindred::internal
