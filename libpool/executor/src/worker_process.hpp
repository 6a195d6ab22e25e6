#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <typeindex>
#include <unordered_map>
#include <vector>

#include "kept_blocks.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/task_entry.hpp"
#include "kindred/logger.hpp"
#include "kindred/worker.hpp"
#include "output_capture.hpp"
#include "pool_setup.hpp"

namespace kindred::internal {

/// A worker's inside: takes calls out of its ring, runs them, puts results into its ring. One thread, but
/// what users' tasks start.
class WorkerProcess {
 public:
  explicit WorkerProcess(WorkerBootstrap& boot);
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;

  [[nodiscard]] int start();  ///< sets up, initialises and runs; returns the exit code

  // What Worker shows.
  [[nodiscard]] const Hello& hello() const noexcept { return boot_.hello; }
  [[nodiscard]] std::uint64_t task_id() const noexcept { return task_of(begun_attempt()); }
  [[nodiscard]] AttemptId begun_attempt() const noexcept {
    return header_.begun_attempt.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint32_t attempt() const noexcept { return attempt_; }
  [[nodiscard]] bool stop_requested() const noexcept;
  [[nodiscard]] std::stop_token stop_token();
  [[nodiscard]] Logger& logger() noexcept { return logger_; }
  [[nodiscard]] std::shared_ptr<void>& state_place(std::type_index type);
  [[nodiscard]] Worker& worker() noexcept { return worker_; }
  void tell_of_forked_child() const noexcept;  ///< in a process that a task forked, which is about to end

 private:
  [[nodiscard]] int run();
  [[nodiscard]] bool close_sandbox(bool after_initializer);
  [[nodiscard]] bool wait_for_call();
  [[nodiscard]] Deadline say_that_it_sleeps() noexcept;
  [[nodiscard]] bool shares_core() const noexcept;  ///< with the parent, by its latest word
  void yield_to_parent() noexcept;  ///< or goes to another core, where it has yielded often and not slept
  void tell_cpu(std::uint64_t now) noexcept;    ///< and leaves it, where the parent finds it crowded
  void move_apart(std::uint64_t now) noexcept;  ///< to another core, but not too often
  [[nodiscard]] bool sleep_until(bool (WorkerProcess::*ready)());
  [[nodiscard]] bool call_or_command();
  [[nodiscard]] bool room_for_result();
  void run_call(CallHeader& header, std::span<std::byte> message);
  void write_result(const CallHeader& header, Encoder& out, ResultKind kind, std::uint64_t begun);
  void publish(std::size_t bytes);
  void ring_if_armed() noexcept;
  [[nodiscard]] bool run_start_call(const WrittenCall& call, std::size_t first_attachment,
                                    WorkerMessage failure);
  void send(WorkerMessage message, std::span<const std::byte> bytes, int fd = -1);
  static std::int64_t send_block(void* self, const std::byte* results) noexcept;
  void send_block_once();
  void send_memory(const SharedMemory& memory, std::uint64_t id);
  void take_in_memories(Message& message);
  [[nodiscard]] std::shared_ptr<SharedMemory> memory(std::uint64_t id);
  std::shared_ptr<SharedMemory> memory_or_missing(std::uint64_t id);
  [[nodiscard]] bool needs_socket(const CallHeader& call) const noexcept;
  /// Is the socket still behind its descriptor? A task may have closed it, or put a file of its own there.
  [[nodiscard]] bool has_socket() const noexcept { return boot_.socket.identity() == socket_identity_; }
  [[nodiscard]] bool has_lost_descriptors() const noexcept {
    return !has_socket() || (capture_ && !capture_->intact());
  }
  void keep_descriptors_from_tasks() noexcept;
  void receive_expected();  ///< what the parent sent before it published the call
  [[noreturn]] void end_without_socket() const noexcept;
  bool receive_message(bool wait);  ///< false: there was none
  void read_mail();
  [[nodiscard]] void* resolve(CodeReference reference);
  [[nodiscard]] bool grown_too_large();
  SharedMemory& take_block(std::size_t bytes);
  void drop_unused_blocks();  ///< that a result was begun in and not sent
  static std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more);

  WorkerBootstrap& boot_;
  const std::uint32_t boot_pid_ = process_id();
  SegmentHeader& header_;
  PoolSetup part_;
  RingReader<> calls_;
  RingWriter<> results_;
  Worker worker_;
  Logger logger_;
  std::map<std::type_index, std::shared_ptr<void>> states_;
  bool asks_recycle_ = false;  // this process has not all that the parent takes it to have
  std::map<std::uint64_t, std::shared_ptr<SharedMemory>> memory_;  // sent, not yet named
  std::vector<std::byte> overflow_;  // a result that does not fit into the ring's room
  // Memory for large values, kept for the next ones: what calls came in, and what results go out in.
  struct ResultBlock {
    SharedMemory memory;
    bool sent = false;
    bool ours = true;  // to write into; false: a future of the parent may read it
  };
  std::unordered_map<std::uint64_t, std::shared_ptr<SharedMemory>> call_blocks_;
  std::array<std::optional<ResultBlock>, max_result_blocks> result_blocks_;
  KeptBlocks kept_blocks_;
  SharedMemory* block_ = nullptr;  // that the result is written into: one of these, or `single_block_`
  std::size_t block_place_ = 0;
  bool runs_items_ = false;    // the call at hand: its results lie where the parent can read them
  SharedMemory single_block_;  // where all places are taken, and the one that it grew out of
  SharedMemory spare_block_;
  std::uint64_t socket_identity_ = 0;
  bool starting_ = true;  // what the initializer needs may still be on its way
  std::uint32_t mail_seen_ = 0;
  std::uint32_t attempt_ = 0;
  std::uint64_t last_rung_ = 0;         // epoch of the last ringing
  std::uint64_t last_end_ = 0;          // ticks; 0: the worker was idle since
  bool shares_core_ = false;            // with whoever woke it, until it has let him run
  std::uint64_t woke_parent_at_ = 0;    // ticks
  unsigned yields_to_parent_ = 0;       // since it slept, or moved
  std::uint64_t cpu_told_at_ = 0;       // ticks
  std::uint64_t cpu_is_old_after_ = 0;  // ticks
  std::uint64_t moved_at_ = 0;          // ticks, to another core
  std::uint64_t move_apart_ = 0;        // ticks
  std::uint64_t next_memory_id_ = 1;
  std::uint64_t rss_checked_ = 0;  // ticks
  CodeReference last_reference_ = 0;
  void* last_address_ = nullptr;
  std::size_t modules_noted_ = 0;  // how many libraries' places a stack can name
  std::unique_ptr<OutputCapture> capture_;
  std::mutex stop_mutex_;
  std::optional<std::stop_source> stop_source_;
  AttemptId stop_attempt_ = 0;  // which attempt that source belongs to
  std::jthread stop_watcher_;
};

/// The worker's main, in the context's sense.
int worker_main(WorkerBootstrap& boot);
/// Runs the preload calls in the fork server.
void prepare_fork_server(const Setup& setup, CodeMap& code);

}  // namespace kindred::internal
