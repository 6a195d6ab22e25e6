#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "collect/drain.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/deadline.hpp"
#include "kindred/internal/futex.hpp"

namespace kindred::internal {

/// Something that another thread asks of the collector's, and waits for.
struct Ticket {
  enum class Kind : std::uint8_t { command, drain, flush, finish, stop };
  Kind kind = Kind::command;
  std::function<void(Drain&)> run{};  ///< `command`: done at once; `drain`: when all is drained
  SourceId source{};                  ///< `finish`
  Collector::Death death{};           ///< `finish`
  SourceEnd end{};
  std::uint64_t accepted = 0;  ///< ticks: what is older has been asked for
  std::atomic<std::uint32_t> done{0};

  void complete() noexcept {
    done.store(1, std::memory_order_release);
    futex_wake(done, 1 << 20);
  }
  bool wait(Deadline deadline) const noexcept {
    while (done.load(std::memory_order_acquire) == 0) {
      if (!futex_wait(done, 0, deadline)) return done.load(std::memory_order_acquire) != 0;
    }
    return true;
  }
};

/// The tickets that the collector's thread has not taken yet. Any thread.
class TicketBox {
 public:
  using Tickets = std::vector<std::shared_ptr<Ticket>>;

  /// False: the box is closed.
  [[nodiscard]] bool put(std::shared_ptr<Ticket> ticket) {
    const std::scoped_lock hold{mutex_};
    if (closed_) return false;
    tickets_.push_back(std::move(ticket));
    // Order: before the look at what the collector does, whether it sleeps; pairs with its look here before
    // it does.
    any_.store(1, std::memory_order_seq_cst);
    return true;
  }
  [[nodiscard]] bool empty() const noexcept { return any_.load(std::memory_order_seq_cst) == 0; }
  [[nodiscard]] Tickets take() {
    const std::scoped_lock hold{mutex_};
    any_.store(0, std::memory_order_relaxed);
    return std::exchange(tickets_, {});
  }
  /// No ticket is taken after it. Returns those that were there.
  [[nodiscard]] Tickets close() {
    const std::scoped_lock hold{mutex_};
    closed_ = true;
    return std::exchange(tickets_, {});
  }
  [[nodiscard]] bool is_closed() const {
    const std::scoped_lock hold{mutex_};
    return closed_;
  }

 private:
  mutable std::mutex mutex_;
  Tickets tickets_;
  std::atomic<std::uint32_t> any_{0};
  bool closed_ = false;
};

}  // namespace kindred::internal
