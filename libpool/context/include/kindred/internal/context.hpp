#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/context_id.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/launcher.hpp"
#include "kindred/internal/passkey.hpp"
#include "kindred/internal/shared_bell.hpp"
#include "kindred/internal/worker_groups.hpp"
#include "kindred/start_method.hpp"

namespace kindred {
class ProcessPoolExecutor;
}

namespace kindred::internal {

class PoolCore;

/// The one set of process-sharing primitives of one executor: how its workers start, their segments, the
/// bells that wake the parent, and the id by which a handle proves that it is at home. Only an executor makes
/// one, and hands it to its logger.
class Context {
 public:
  Context(Passkey<PoolCore>, StartMethod method, MakeLauncher make_launcher);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

  /// Decides on the workers' sandbox, if any, and tries it out; under `fork`, forks the template now, from
  /// the calling thread. Errors: `SystemError`, `UsageError`.
  void begin(const WorkerOptions& options, std::vector<std::byte> pool_setup, CodeReference prepare,
             void (*around_fork)(void (*fork)(void*), void* argument));
  /// Returns what closes the workers' sandbox; nothing: they have none.
  [[nodiscard]] const std::optional<SandboxPlan>& sandbox() const noexcept { return setup_.sandbox; }
  /// Replaces what further workers are told. Under `fork` it needs no new template: the setup is sent to each
  /// worker.
  void tell(std::vector<std::byte> pool_setup);

  [[nodiscard]] ContextId id() const noexcept { return life_->id; }
  [[nodiscard]] StartMethod start_method() const noexcept { return id().start_method(); }
  [[nodiscard]] const std::shared_ptr<ContextLife>& life() const noexcept { return life_; }
  [[nodiscard]] CodeBook& code() noexcept { return *code_; }
  [[nodiscard]] const CodeBook& code() const noexcept { return *code_; }
  [[nodiscard]] std::shared_ptr<const CodeBook> shared_code() const noexcept {
    return code_;
  }  ///< for errors, which outlive the context

  // The bells are made at the first call, so that an executor that never works opens nothing.
  [[nodiscard]] const SharedBell& waiter_bell() { return bell(waiter_bell_); }
  [[nodiscard]] const SharedBell& service_bell() { return bell(service_bell_); }

  /// Begins what comes before a worker (the fork server and its preload), and says whether it is over. Never
  /// waits; `launcher().news()` is readable when it may have come on. Errors: as `ask_for_worker`.
  [[nodiscard]] bool prepare_launcher();
  /// Has a worker process made; `greet_worker` and the launcher's `started` are to follow, or `give_up`. One
  /// thread at a time. Errors: `SystemError`, `UsageError`.
  [[nodiscard]] AskedWorker ask_for_worker();
  /// Starts its work on the segment. `collector_bell` wakes the log's drain; `capture_fds` are empty or read
  /// and write end of the pipes that stdout and stderr become. Errors: `SystemError`; give the worker up
  /// then.
  void greet_worker(const AskedWorker& worker, int index, std::uint32_t incarnation, std::uint32_t owner,
                    const Segment& segment, int collector_bell, std::span<const int> capture_fds,
                    CodeReference main);
  [[nodiscard]] bool has_launcher() const noexcept { return launcher_ != nullptr; }
  [[nodiscard]] Launcher& launcher() noexcept { return *launcher_; }
  /// Ends the fork server, and removes the workers' control groups. No start after it.
  void end_launcher() noexcept;
  /// In the child of a fork: server and groups are the parent's.
  void abandon_after_fork() noexcept {
    (void)launcher_.release();
    (void)groups_.release();
  }
  /// The worker that was greeted as `owner` is dead, or was given up: ends what is left in its control group,
  /// and returns what had happened there. Nothing where workers have no such groups.
  MemoryEvents end_worker_group(std::uint32_t owner) noexcept;
  /// How many modules the setup tells a new worker of.
  [[nodiscard]] std::size_t modules_told() const noexcept { return setup_.modules.size(); }

 private:
  const SharedBell& bell(std::unique_ptr<SharedBell>& place);
  void write_setup_once();
  void make_launcher_once();

  const MakeLauncher make_launcher_;
  std::shared_ptr<ContextLife> life_;
  std::shared_ptr<CodeBook> code_ = std::make_shared<CodeBook>();
  std::mutex bells_mutex_;
  std::unique_ptr<SharedBell> waiter_bell_;
  std::unique_ptr<SharedBell> service_bell_;
  Setup setup_;
  std::shared_ptr<SharedMemory> setup_memory_;  // written at the first start
  std::uint64_t setup_bytes_ = 0;
  std::shared_ptr<const std::vector<std::string>> environment_;
  CodeReference prepare_ = 0;
  std::unique_ptr<WorkerGroups> groups_;
  std::unique_ptr<Launcher> launcher_;
};

}  // namespace kindred::internal
