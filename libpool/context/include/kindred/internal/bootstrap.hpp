#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/context_id.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/message_socket.hpp"
#include "kindred/internal/modules.hpp"
#include "kindred/internal/sandbox_plan.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/shared_bell.hpp"
#include "kindred/internal/shared_memory.hpp"
#include "kindred/worker_options.hpp"

namespace kindred::internal {

/// The first message to a new process of the context: what it is to be. Its descriptors follow in the order
/// of the fields they belong to.
struct Hello {
  static constexpr std::uint64_t magic_value = 0x6b696e6472656448;  // "kindredH"
  enum class Role : std::uint32_t { worker = 1, server = 2 };

  std::uint64_t magic = magic_value;
  Role role = Role::worker;
  std::int32_t index = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t owner = 0;  ///< this incarnation's number as a holder of shared objects
  std::uint32_t parent_pid = 0;
  std::uint32_t captures_output = 0;
  ContextId context;
  std::uint64_t segment_bytes = 0;
  std::uint64_t setup_bytes = 0;
  CodeReference main =
      0;  ///< `WorkerMain` or `ServerPrepare` in module 1, the program, or the library that kindred is in
};

/// The descriptors of a worker: 0 is /dev/null, 1 and 2 are the parent's (or pipes to it), and these. Nothing
/// else.
namespace worker_fd {
inline constexpr int socket = 3;  ///< control socket to the parent
inline constexpr int lifeline =
    4;  ///< a pipe whose other end only the parent holds: its end is this process's end. Before the first
        ///< task it goes to a table of descriptors that no task can reach: see `keep_descriptors`
}  // namespace worker_fd

/// What all workers of a context are told, written once: modules of the parent, `WorkerOptions`, and the
/// pool's own part (initializer, finalizer, options).
struct Setup {
  std::vector<Module> modules;
  WorkerOptions options;
  std::string cwd;
  std::uint32_t umask = 0;
  std::vector<std::byte> pool_setup;
  std::optional<SandboxPlan> sandbox = {};  ///< of `options.sandbox`, which is not sent
};
[[nodiscard]] std::shared_ptr<SharedMemory> write_setup(const Setup& setup, std::uint64_t* bytes);
[[nodiscard]] Setup read_setup(std::span<const std::byte> bytes);

/// All that a worker has when it begins.
struct WorkerBootstrap {
  Hello hello{};
  MessageSocket socket;
  Segment segment;
  Setup setup{};
  CodeMap code{};
  SharedBell waiter_bell{Descriptor{}};     ///< wakes a thread in get()
  SharedBell service_bell{Descriptor{}};    ///< wakes the supervisor
  SharedBell collector_bell{Descriptor{}};  ///< wakes the log's collector
  Descriptor captured_stdout{};             ///< read end of the pipe that stdout is (capture_output)
  Descriptor captured_stderr{};
};

/// The pool's part of a worker's life; returns the exit code.
using WorkerMain = int (*)(WorkerBootstrap&);
/// The pool's part of the fork server's birth: runs the preload calls. Throws what they throw.
using ServerPrepare = void (*)(const Setup&, CodeMap&);

/// Messages of a worker to its parent on the control socket begin with this word.
enum class WorkerMessage : std::uint32_t {
  ready = 1,               ///< bootstrapped and initialised
  bootstrap_failed = 2,    ///< text follows
  initializer_failed = 3,  ///< an encoded exception follows
  attachment = 4,          ///< a shared memory for a result; `AttachmentNotice` and a descriptor follow
  finalizer_failed = 5,    ///< an encoded exception follows
  forked_child = 6         ///< `ForkedChild`: from a process that a task forked, before it is ended
};
/// Messages of the parent to a worker.
enum class ParentMessage : std::uint32_t {
  attachment = 1,    ///< shared memories for a call: as many `AttachmentNotice` as descriptors
  module = 2,        ///< a library whose code a call names
  forget = 3,        ///< a kept memory for calls that will not be named again
  forget_result = 4  ///< the place of a result block: the worker no longer owns that block
};
struct ForkedChild {
  std::uint32_t message;
  std::uint32_t pid;
};
/// The exit codes of a worker that ends by itself without being asked to.
namespace worker_exit {
inline constexpr int lost_descriptors = 75;  ///< a task closed what kindred needs; EX_TEMPFAIL
inline constexpr int forked_child = 70;      ///< of a process that a task forked; EX_SOFTWARE
}  // namespace worker_exit
struct AttachmentNotice {
  std::uint32_t message;
  std::uint32_t spare;
  std::uint64_t memory_id;
  std::uint64_t bytes;
};

/// Runs a worker in this process, which has one thread and was forked or executed for it. `socket` and
/// `lifeline` are open.
[[noreturn]] void serve_as_worker(int socket, int lifeline, std::uint32_t parent_pid);
/// Runs a fork server in this process. `prepare`: read the hello and preload first (forkserver); a template
/// forked from the program has nothing to read.
[[noreturn]] void serve_as_fork_server(int socket, int lifeline, std::uint32_t parent_pid, bool prepare);

/// Marks of a process that was executed for a context: environment variable and first argument. Both must be
/// there.
inline constexpr const char* gate_variable = "KINDRED_GATE";
inline constexpr const char* gate_worker_argument = "--kindred-worker";
inline constexpr const char* gate_server_argument = "--kindred-fork-server";

}  // namespace kindred::internal
