#pragma once

// A whole pool without a process: its workers are segments and sockets whose other end the test plays, its
// clock is moved by the test, and the rounds of its supervisor are made by the test's own thread.

#include <chrono>
#include <csignal>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/submission.hpp"
#include "kindred/internal/task_entry.hpp"
#include "pool/pool_core.hpp"
#include "pool/surroundings.hpp"
#include "supervise/burial.hpp"
#include "supervise/starter.hpp"
#include "supervise/supervisor.hpp"
#include "unit/log_support.hpp"
#include "unit/pool_rooms.hpp"

namespace kindred::internal {
struct PoolTestAccess {
  static PoolMutex& mutex(PoolCore& core) noexcept { return core.tasks_.mutex; }
  static PoolPhase& phase(PoolCore& core) noexcept { return core.tasks_.phase; }
  static WorkerSlots& slots(PoolCore& core) noexcept { return core.links_.slots; }
  static Supervisor& supervisor(PoolCore& core) noexcept { return core.supervise_.supervisor; }
  static Starter& starter(PoolCore& core) noexcept { return core.supervise_.starter; }
  static Burial& burial(PoolCore& core) noexcept { return core.supervise_.burial; }
};
}  // namespace kindred::internal

namespace kindred::test {

/// What stands for a worker process: the test says what it does and how it ends.
struct PlayedProcess {
  std::uint32_t pid = 0;
  Hello hello = {};
  MessageSocket socket = {};              ///< its end, until it is greeted
  std::optional<WorkerEnd> end = {};      ///< once it is greeted
  Doorbell ended = {};                    ///< what the parent has for a pidfd
  std::optional<ExitReason> reason = {};  ///< how it ended; nothing: it lives
  bool obeys = true;                      ///< it leaves when it is asked to
  bool ignores_terminate = false;         ///< it goes on after a SIGTERM
  bool given_up = false;                  ///< the pool wanted it no more before it was there

  /// The next call that the worker begins; 0: there is none.
  std::uint64_t begin() { return end->begin(); }
  void answer(const std::string& value) { end->end(value); }
  void fail(const char* what) { end->fail(std::make_exception_ptr(std::runtime_error{what})); }
  void say_ready() const { end->say(WorkerMessage::ready); }
  void die(ExitReason how) {
    reason = how;
    // First: a look that finds the socket closed finds the end, too. Else a case that moves the clock at once
    // would have it killed as one that closed its socket and went on.
    ended.ring();
    socket.close();
    if (end) end->close_socket();
  }
};

/// The machine that the workers run on, as far as a launcher knows it.
struct PlayedMachine {
  std::deque<PlayedProcess> processes;          ///< all that were ever started, in their order
  std::vector<std::string> refusals;            ///< what further starts fail with, the last one first
  bool is_prepared = true;                      ///< the fork server has preloaded
  std::function<void()> while_preparing = {};   ///< once, while the pool waits for the fork server to preload
  bool answers = true;                          ///< the fork server says that workers are there
  bool tells_ends = true;                       ///< it says how they ended
  int tidied = 0;                               ///< how often it was asked to end what dead workers have left
  kindred::internal::Deadline tidy_again = {};  ///< when it wants to be asked again

  PlayedProcess& of(std::uint32_t pid) {
    for (PlayedProcess& process : processes) {
      if (process.pid == pid) return process;
    }
    FAIL("no such process");
    std::abort();
  }
};

class PlayedLauncher final : public Launcher {
 public:
  explicit PlayedLauncher(PlayedMachine& machine) : machine_{machine} {}

  bool prepare() override {
    if (const auto act = std::exchange(machine_.while_preparing, nullptr)) act();
    return machine_.is_prepared;
  }
  AskedWorker ask() override {
    if (!machine_.refusals.empty()) {
      const std::string call = machine_.refusals.back();
      machine_.refusals.pop_back();
      throw SystemError{call, EAGAIN, "starting a worker"};
    }
    auto [ours, theirs] = MessageSocket::pair();
    PlayedProcess& process = machine_.processes.emplace_back();
    // No process has such a number: what is sent to it or read of it by mistake reaches nothing.
    process.pid = (1U << 30U) + static_cast<std::uint32_t>(machine_.processes.size());
    process.socket = std::move(theirs);
    return {.process = {},
            .ticket = process.pid,
            .answer_by = std::chrono::steady_clock::time_point::max(),
            .socket = std::move(ours),
            .lifeline = {}};
  }
  void greet(const AskedWorker& worker, const Hello& hello, std::span<const int> descriptors) override {
    PlayedProcess& process = of(worker);
    process.hello = hello;
    const int memory = descriptors[descriptors.size() - 2];  // before the setup's
    process.end.emplace(std::make_shared<Segment>(Segment::adopt(duplicate(memory), hello.segment_bytes)),
                        std::move(process.socket));
  }
  std::optional<StartedWorker> started(AskedWorker& worker) override {
    if (!machine_.answers) return {};
    const PlayedProcess& process = of(worker);
    return StartedWorker{
        Process{process.pid, duplicate(process.ended.fd()), false}, std::move(worker.socket), {}};
  }
  void give_up(AskedWorker worker) noexcept override {
    if (worker.ticket != 0) of(worker).given_up = true;  // else it was refused
  }
  bool end_is_known(const Process&) override { return machine_.tells_ends; }
  ExitReason exit_reason(Process& process) override {
    return machine_.tells_ends ? machine_.of(process.pid()).reason.value() : ExitReason{};
  }

  kindred::internal::Deadline tidy_up() noexcept override {
    ++machine_.tidied;
    return std::exchange(machine_.tidy_again, kindred::internal::Deadline{});
  }

 private:
  PlayedProcess& of(const AskedWorker& worker) {
    return machine_.of(static_cast<std::uint32_t>(worker.ticket));
  }

  PlayedMachine& machine_;
};

/// A pool on such a machine.
class PlayedCore {
 public:
  explicit PlayedCore(ExecutorOptions options = {}) {
    options.start_method = StartMethod::forkserver;
    if (options.max_workers.value() == 0) options.max_workers = 1;
    clock_.stop_at(now_);
    core_ = new PoolCore{
        std::move(options),
        LogTestAccess::key(),
        {.make_launcher = [this](const LaunchPlan&) { return std::make_unique<PlayedLauncher>(machine); },
         .clock = clock_,
         .supervisor_has_thread = false}};
    ExecutorLogger{LogTestAccess::key(), core_->collector()}.add_sink([this](const LogRecord& record) {
      const std::scoped_lock lock{log_mutex_};
      log_ += record.message + "\n";
    });
  }
  PlayedCore(const PlayedCore&) = delete;
  PlayedCore& operator=(const PlayedCore&) = delete;
  ~PlayedCore() {
    for (PlayedProcess& process : machine.processes) process.obeys = true;
    machine.tells_ends = machine.answers = machine.is_prepared = true;
    core_->shutdown(false, true);
    while (!is_over()) {
      for (PlayedProcess& process : machine.processes) {
        if (process.end && process.end->runs() && !process.reason) process.answer({});
      }
      round();
    }
    core_->close();
    core_->release_by_executor();
  }

  PoolCore* operator->() const noexcept { return core_; }

  StateHandle submit(const std::string& arguments = {}, const std::optional<TaskOptions>& options = {}) {
    static constexpr EntryInfo entry{nullptr, "played", false};
    Submission submission{*core_};
    submission.encoder().write(arguments.data(), arguments.size());
    return submission.submit(entry, nullptr, options ? &*options : nullptr);
  }

  /// What the kernel and the workers do by themselves, and then one round of the supervisor.
  void round() {
    for (PlayedProcess& process : machine.processes) follow_orders(process);
    PoolGuard guard{PoolTestAccess::mutex(*core_)};
    (void)PoolTestAccess::supervisor(*core_).round(guard);
  }
  /// Rounds until the condition holds. Where it never does, the deadline of the test case ends it.
  void rounds_until(const std::function<bool()>& condition) {
    while (!condition()) {
      round();
      std::this_thread::yield();  // to the thread that hears the descriptors
    }
  }
  /// Rounds until the task is finished.
  void finish(const StateHandle& task) {
    rounds_until([&] { return task->finished(); });
  }
  /// The `n`-th process that was ever started, once it is there.
  PlayedProcess& process(std::size_t n = 0) {
    rounds_until([&] { return machine.processes.size() > n && !is_buried(machine.processes[n]); });
    return machine.processes[n];
  }
  /// The same, and it has said that it is ready.
  PlayedProcess& ready_process(std::size_t n = 0) {
    PlayedProcess& its = process(n);
    its.say_ready();
    rounds_until([&] { return of_slot(its, [](const WorkerSlot* slot) { return slot->ready; }); });
    return its;
  }
  /// A process that is ready, with a call begun.
  PlayedProcess& busy_process(std::size_t n = 0) {
    PlayedProcess& its = ready_process(n);
    rounds_until([&] { return its.begin() != 0; });
    return its;
  }
  void pass(std::chrono::nanoseconds time) {
    now_ += std::chrono::duration_cast<std::chrono::steady_clock::duration>(time);
    clock_.stop_at(now_);
    round();
  }
  [[nodiscard]] std::chrono::steady_clock::time_point now() const noexcept { return now_; }
  /// When the pool looks at starts again, and at what dead workers have left, if nothing happens before.
  [[nodiscard]] kindred::internal::Deadline next_start() const {
    PoolGuard guard{PoolTestAccess::mutex(*core_)};
    return PoolTestAccess::starter(*core_).next(guard);
  }
  [[nodiscard]] kindred::internal::Deadline next_tidying() const {
    PoolGuard guard{PoolTestAccess::mutex(*core_)};
    return PoolTestAccess::burial(*core_).next(guard);
  }
  [[nodiscard]] bool is_over() const {
    PoolGuard guard{PoolTestAccess::mutex(*core_)};
    return PoolTestAccess::supervisor(*core_).is_over(guard);
  }
  /// Has the pool lost the worker, by death and burial or in good order?
  [[nodiscard]] bool is_buried(const PlayedProcess& process) const {
    return of_slot(process, [](const WorkerSlot* slot) { return slot == nullptr; });
  }
  [[nodiscard]] KillReason kill_reason(const PlayedProcess& process) const {
    return of_slot(process, [](const WorkerSlot* slot) {
      return slot == nullptr ? KillReason::none : slot->kill_reason;
    });
  }
  /// The messages that the log has by now, a line each.
  [[nodiscard]] std::string log() {
    CHECK(core_->collector().flush());
    const std::scoped_lock lock{log_mutex_};
    return log_;
  }

  PlayedMachine machine;

 private:
  /// What `f` returns of the worker's slot, while the lock is held; null: the process has none, or none any
  /// more.
  template <class F>
  [[nodiscard]] std::invoke_result_t<const F&, const WorkerSlot*> of_slot(const PlayedProcess& process,
                                                                          const F& f) const {
    PoolGuard guard{PoolTestAccess::mutex(*core_)};
    for (const WorkerSlot& slot : PoolTestAccess::slots(*core_).all(guard)) {
      if (slot.worker.process.pid() == process.pid) return f(&slot);
    }
    return f(static_cast<const WorkerSlot*>(nullptr));
  }
  [[nodiscard]] int kill_signal() const {
    const PoolGuard guard{PoolTestAccess::mutex(*core_)};
    return PoolTestAccess::phase(*core_).kill_signal;
  }
  // A signal is never sent, since there is no process: it is known by why the pool would send it.
  void follow_orders(PlayedProcess& process) {
    if (process.reason || !process.end) return;
    const int signal = process.ignores_terminate && kill_signal() == SIGTERM ? 0 : kill_signal();
    if (signal != 0 || kill_reason(process) != KillReason::none)
      process.die({.kind = ExitReason::Kind::signalled, .signal = signal != 0 ? signal : SIGKILL});
    else if (process.obeys && !process.end->runs() &&
             process.end->header().command.load() == static_cast<std::uint32_t>(Command::finish))
      process.die({.kind = ExitReason::Kind::exited, .code = 0});
  }

  std::chrono::steady_clock::time_point now_ = std::chrono::steady_clock::now();
  PoolClock clock_;
  std::mutex log_mutex_;
  std::string log_;
  PoolCore* core_ = nullptr;
};

/// The failure of a finished task, as the error that it is.
template <class E>
[[nodiscard]] std::optional<E> failure_of(const StateHandle& task) {
  REQUIRE(task->finished());
  try {
    if (const auto failure = task->exception()) std::rethrow_exception(failure);
  } catch (const E& error) {
    return error;
  } catch (const std::exception& other) {
    FAIL_CHECK("another failure: ", other.what());
  }
  return {};
}

}  // namespace kindred::test
