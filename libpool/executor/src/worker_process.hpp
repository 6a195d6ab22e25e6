#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <typeindex>

#include "child/cpu_manners.hpp"
#include "child/mailbox.hpp"
#include "child/parent_bells.hpp"
#include "child/result_memory.hpp"
#include "child/result_writer.hpp"
#include "child/stop_watch.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/task_entry.hpp"
#include "kindred/logger.hpp"
#include "kindred/worker.hpp"
#include "output_capture.hpp"
#include "pool_setup.hpp"

namespace kindred::internal {

/// A worker's inside: takes calls out of its ring, runs them, puts results into its ring. One thread, beside
/// those that users' tasks start.
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
  [[nodiscard]] bool stop_requested() const noexcept { return stop_.stop_requested(); }
  [[nodiscard]] std::stop_token stop_token() { return stop_.token(); }
  [[nodiscard]] Logger& logger() noexcept { return logger_; }
  [[nodiscard]] std::shared_ptr<void>& state_place(std::type_index type);
  [[nodiscard]] Worker& worker() noexcept { return worker_; }
  /// Call in a process that a task forked and that is about to end.
  void tell_of_forked_child() const noexcept { mailbox_.tell_of_forked_child(); }

 private:
  [[nodiscard]] int run();
  [[nodiscard]] int leave();
  [[nodiscard]] bool close_sandbox(bool after_initializer);
  [[nodiscard]] bool wait_for_call();
  using Condition = bool (WorkerProcess::*)();
  void sleep_until(Condition ready);
  [[nodiscard]] bool spin_until(Condition ready);
  [[nodiscard]] bool call_or_command();
  [[nodiscard]] bool space_for_result();
  void run_call(CallHeader& call, std::span<std::byte> message);
  const std::byte* enter(const CallHeader& call, const std::byte* at, std::uint64_t begun);
  [[nodiscard]] std::span<std::byte> wait_for_result_space();
  struct Arguments;
  static void run_frame(const EntryInfo& entry, TaskFrame& frame, TaskPhase& phase);
  void run_entry(const CallHeader& call, const std::byte* at, Encoder& out, TaskPhase& phase);
  [[nodiscard]] Arguments read_arguments(const CallHeader& call, const std::byte* at);
  void write_result(CallHeader& call, Encoder& out, ResultKind kind, std::uint64_t begun);
  void ring_if_armed() noexcept;
  [[nodiscard]] bool run_start_call(const WrittenCall& call, std::size_t first_attachment,
                                    WorkerMessage failure);
  [[nodiscard]] bool needs_socket(const CallHeader& call) const noexcept;
  [[nodiscard]] bool has_lost_descriptors() const noexcept {
    return !mailbox_.has_socket() || (capture_ && !capture_->intact());
  }
  void keep_descriptors_from_tasks() noexcept;

  WorkerBootstrap& boot_;
  const std::uint32_t boot_pid_ = process_id();
  SegmentHeader& header_;
  PoolSetup setup_;
  RingReader<> calls_;
  Worker worker_;
  Logger logger_;
  std::map<std::type_index, std::shared_ptr<void>> states_;
  CpuManners manners_;
  ParentBells bells_;
  ResultMemory result_memory_;
  Mailbox mailbox_;
  ResultWriter results_;
  StopWatch stop_;
  std::uint32_t attempt_ = 0;
  std::uint64_t last_end_ = 0;  // ticks; 0: the worker was idle since
  std::unique_ptr<OutputCapture> capture_;
};

/// The worker's main, in the context's sense.
int worker_main(WorkerBootstrap& boot);
/// Runs the preload calls in the fork server.
void prepare_fork_server(const Setup& setup, CodeMap& code);

}  // namespace kindred::internal
