#pragma once

#include <chrono>
#include <functional>
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
  std::chrono::steady_clock::time_point answer_by{};  ///< when `started` gives it up
  MessageSocket socket;
  Descriptor lifeline;  ///< the parent's end: closing it kills the worker's process group
};
/// A worker process just started. `Hello` was sent.
struct StartedWorker {
  Process process;
  MessageSocket socket;
  Descriptor lifeline;  ///< the parent's end: closing it kills the worker's process group
};

/// The fork server died, or was killed because it did not answer. It may have forked a worker, which ends by
/// its lifeline and meanwhile has what came with the hello: start again with another segment.
class ServerLost : public SystemError {
 public:
  using SystemError::SystemError;
};

/// The one thing that knows how a process of the context comes to be. One thread at a time (the
/// supervisor's), but `begin`. A fork server runs code of the program, and may hang in it: no function here
/// waits for it for longer than a moment (50 ms), and none at all where it was silent before. What it says
/// later is `news`.
class Launcher {
 public:
  Launcher() = default;
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  virtual ~Launcher() = default;  ///< ends the fork server, if any, and reaps it

  /// Begins what takes long before an `ask`, and says whether it is over. Errors: as `ask`.
  [[nodiscard]] virtual bool prepare() { return true; }
  /// A descriptor that is readable when `prepare`, `started` or `end_is_known` may say something else than
  /// before; -1: none. Any other call may close it.
  [[nodiscard]] virtual int news() const noexcept { return -1; }
  /// Has a worker made, which comes up while the parent makes what it is to be greeted with. One at a time.
  /// Errors: `ServerLost`, other `SystemError`, `UsageError` (preload threw, builds differ).
  [[nodiscard]] virtual AskedWorker ask() = 0;
  /// Sends it `hello` with `descriptors`. Errors: `SystemError`; then give it up.
  virtual void greet(const AskedWorker& worker, const Hello& hello, std::span<const int> descriptors) = 0;
  /// The worker, once the server has said that it is there; nothing: it has not said so yet. Errors:
  /// `ServerLost`, also where it has not answered in `answer_by`; other `SystemError`.
  [[nodiscard]] virtual std::optional<StartedWorker> started(AskedWorker& worker) = 0;
  /// Ends a worker that cannot be greeted, or that the pool no longer wants. A process that `started`
  /// returned has to be in `worker` again.
  virtual void give_up(AskedWorker worker) noexcept = 0;
  /// Has the server said how a dead worker ended? If not, it is asked again when there is news.
  [[nodiscard]] virtual bool end_is_known(const Process&) { return true; }
  /// How a dead worker ended, as far as it is known by now.
  [[nodiscard]] virtual ExitReason exit_reason(Process& process) = 0;
  /// Ends what dead workers have left behind, where that is due; returns when to call it again.
  virtual Deadline tidy_up() noexcept { return {}; }
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
  /// As it was when the executor was constructed: the program may change its own at any time.
  std::shared_ptr<const std::vector<std::string>> environment = {};
  void (*around_fork)(void (*fork)(void*),
                      void* argument) = nullptr;  ///< holds the locks that a forked child will need
};

/// Makes the launcher of a start method. fork: the template process is forked here and now, from the calling
/// thread. forkserver: the server is executed at the first start. spawn: nothing happens before the first
/// start. Errors: `SystemError`.
[[nodiscard]] std::unique_ptr<Launcher> make_launcher(const LaunchPlan& plan);

/// `make_launcher`, or what a test has in its place.
using MakeLauncher = std::function<std::unique_ptr<Launcher>(const LaunchPlan&)>;

}  // namespace kindred::internal
