#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/exit_reason.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/start_method.hpp"

namespace kindred::internal {

/// A worker process that was asked for, and waits for its first message (`Hello`) as soon as it is there.
/// Dropped, it ends by its lifeline, but for the kernel's record of it: see `Launcher::give_up`.
struct AskedWorker {
  Process process;  ///< spawn; else the server has not said yet
  std::uint64_t ticket = 0;
  MessageSocket socket;
  Descriptor lifeline;  ///< the parent's end: closing it kills the worker's process group
};
/// A worker process just started. `Hello` was sent.
struct StartedWorker {
  Process process;
  MessageSocket socket;
  Descriptor lifeline;  ///< the parent's end: closing it kills the worker's process group
};

/// The fork server died when it had been asked for a worker. It may have forked one, which ends by its
/// lifeline and meanwhile has what came with the hello: start again with another segment.
class ServerLost : public SystemError {
 public:
  using SystemError::SystemError;
};

/// The one thing that knows how a process of the context comes to be. One thread at a time (the
/// supervisor's), but `begin`.
class Launcher {
 public:
  Launcher() = default;
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  virtual ~Launcher() = default;  ///< ends the fork server, if any, and reaps it

  /// Begins what takes long before the first `ask`, and says whether it is over. Never waits. Errors: as
  /// `ask`.
  [[nodiscard]] virtual bool prepare() { return true; }
  /// A descriptor that is readable when `prepare` may say something else than before; -1: none.
  [[nodiscard]] virtual int news() const noexcept { return -1; }
  /// Has a worker made, which comes up while the parent makes what it is to be greeted with. One at a time.
  /// Errors: `SystemError`, `UsageError` (preload threw, builds differ).
  [[nodiscard]] virtual AskedWorker ask() = 0;
  /// Sends it `hello` with `descriptors`. Errors: `ServerLost`, other `SystemError`; the worker is then given
  /// up.
  [[nodiscard]] virtual StartedWorker greet(AskedWorker worker, const Hello& hello,
                                            std::span<const int> descriptors) = 0;
  /// Ends a worker that there is nothing to greet with.
  virtual void give_up(AskedWorker worker) noexcept = 0;
  /// How a dead worker ended; waits for the fork server's word at most until the deadline.
  [[nodiscard]] virtual ExitReason exit_reason(Process& process, Deadline deadline) = 0;
  /// Was the fork server found dead and replaced since the last call? Then words for the log.
  [[nodiscard]] virtual std::optional<std::string> take_warning() { return std::nullopt; }
  [[nodiscard]] virtual std::uint32_t server_pid() const noexcept { return 0; }
};

/// What to do where an executed process ended before it came to the gate.
[[nodiscard]] std::string mend_before_entry(const ExitReason& reason);

/// What a launcher needs of its context.
struct LaunchPlan {
  ContextId context;
  std::shared_ptr<SharedMemory> setup;
  std::uint64_t setup_bytes = 0;
  CodeReference prepare = 0;  ///< `ServerPrepare`; 0: nothing to preload
  WorkerOptions options;      ///< `env` is given to executed processes at their start
  /// Of the executor's construction: the program may change its own at any time, also while it is copied.
  std::shared_ptr<const std::vector<std::string>> environment = {};
  void (*around_fork)(void (*fork)(void*),
                      void* argument) = nullptr;  ///< holds the locks that a forked child will need
};

/// fork: the template process is forked here and now, from the calling thread.
[[nodiscard]] std::unique_ptr<Launcher> make_fork_launcher(const LaunchPlan& plan);
/// forkserver: the server is executed at the first start.
[[nodiscard]] std::unique_ptr<Launcher> make_fork_server_launcher(const LaunchPlan& plan);
/// spawn: nothing happens before the first start.
[[nodiscard]] std::unique_ptr<Launcher> make_spawn_launcher(const LaunchPlan& plan);

}  // namespace kindred::internal
