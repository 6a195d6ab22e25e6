#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "collect/history.hpp"
#include "kindred/internal/context_id.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/doorbell.hpp"
#include "kindred/internal/tail_request.hpp"
#include "kindred/internal/tail_visit.hpp"

namespace kindred::internal {

/// The side of `kindred-tail` that is in the parent: gives the log to users that may read it. Each tail has a
/// thread of nice 19 that reads the history, which forgets the oldest for the newest, however slow a reader
/// is: a tail that takes nothing loses records, is told how many, and holds no other up.
///
///     listening socket ---- its waiter calls `answer` --- ----> a thread for each tail:  history -> filter
///     -> JSON -> its socket
///
/// Threads: `answer` by one at a time, `end` when no call of `answer` runs.
class TailServer {
 public:
  /// Takes a name and listens. `workers` counts those that live. Errors: `SystemError`.
  TailServer(ContextId context, std::shared_ptr<History> history, std::function<std::size_t()> workers);
  TailServer(const TailServer&) = delete;
  TailServer& operator=(const TailServer&) = delete;
  ~TailServer() { end(true); }

  /// Has requests for `word` answered so: before the first `answer`, or between two of them.
  void offer(std::string word, TailAnswer answer);

  [[nodiscard]] int fd() const noexcept { return listener_.get(); }
  [[nodiscard]] bool offered() const noexcept {
    return offered_;
  }  ///< false: call `withdraw` when no thread waits on the descriptor
  void withdraw() noexcept { listener_.reset(); }
  /// Lets a visitor in: this user or root. Returns what the log ought to say about it, mostly nothing.
  [[nodiscard]] std::string answer();
  /// The log has ended: gives each tail what there is, for a tenth of a second all in all. `wait`: until
  /// their threads have ended. Idempotent.
  void end(bool wait) noexcept;

 private:
  using Answers = std::map<std::string, TailAnswer, std::less<>>;
  struct Shared {
    std::shared_ptr<History> history;
    std::atomic<bool> ending{false};
    std::chrono::steady_clock::time_point end_by{};  ///< set before `ending`
  };
  class WantedRecords;
  struct Tail final : TailVisit {
    Tail(Descriptor its_socket, std::shared_ptr<const Shared> its_shared)
        : socket{std::move(its_socket)}, shared{std::move(its_shared)} {}
    Descriptor socket;
    Doorbell bell;  ///< rings for news of the history, and for the end
    std::shared_ptr<const Shared> shared;
    std::string facts;
    std::shared_ptr<const Answers> answers;
    std::atomic<bool> ended{false};

    void run() noexcept;
    [[nodiscard]] bool read_request(TailRequest& request) const;
    void give_answer(const TailRequest& request);
    void send_records(const TailRequest& request);
    [[nodiscard]] bool send_wanted(WantedRecords& wanted, std::vector<std::byte>& bytes, std::uint64_t lost);
    [[nodiscard]] bool wait_for_records(const History::Place& place);
    [[nodiscard]] bool send_last(const TailRequest& request, std::uint64_t end);
    bool send(std::string_view text) noexcept override;
    bool pause(std::chrono::steady_clock::time_point until) noexcept override;
  };
  struct Running {
    std::shared_ptr<Tail> tail;
    std::thread thread;
  };
  void forget_ended();
  [[nodiscard]] std::string facts() const;

  ContextId context_;
  std::uint32_t uid_;
  std::function<std::size_t()> workers_;
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<const Answers> answers_ = std::make_shared<Answers>();
  std::chrono::system_clock::time_point since_ = std::chrono::system_clock::now();
  unsigned refused_ = 0;
  bool told_shortage_ = false;  ///< a lack of descriptors was reported since the last guest was let in
  bool offered_ = true;
  std::vector<Running> tails_;
  Descriptor listener_;
};

}  // namespace kindred::internal
