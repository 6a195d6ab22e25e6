#include "kindred/entry.hpp"

#include <cstdlib>
#include <cstring>
#include <string>

#include "kindred/error.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/process.hpp"
#include "linux/child.hpp"

namespace kindred {
namespace {

[[noreturn]] void refuse(const std::string& fact) {
  internal::complain(("kindred: this process " + fact +
                      ". It was not started by an executor of this program, and does not run.\n")
                         .c_str());
  internal::exit_now(70);
}

}  // namespace

Entry::Entry(int argc, char** argv) {
  using namespace internal;
  const char* const variable = std::getenv(gate_variable);
  const std::string_view role = argc > 1 && argv != nullptr && argv[1] != nullptr ? argv[1] : "";
  const bool marked = role == gate_worker_argument || role == gate_server_argument;
  if (variable == nullptr) {
    if (marked) refuse("has the argument " + std::string{role} + " of a worker, but not its environment");
    if (argc < 1 || argv == nullptr || argv[0] == nullptr) {
      throw UsageError{"kindred::Entry was given no program name (argc " + std::to_string(argc) +
                       "). Make it first in main, with main's own argc and argv; a global one cannot work."};
    }
    return;
  }
  KINDRED_INJECTION_POINT("gate.begun");
  // A program executed by a task must not take itself for a worker.
  ::unsetenv(gate_variable);
  if (!marked) {
    complain(
        "kindred: this process was started as a worker, but kindred::Entry was not given main's own argc and argv. "
        "Make it first in main: kindred::Entry entry{argc, argv};\n");
    exit_now(70);
  }
  if (!is_message_socket(worker_fd::socket))
    refuse("has the marks of a worker, but descriptor 3 is no socket of an executor");
  MessageSocket socket{Descriptor{worker_fd::socket}};
  const std::uint32_t peer = socket.peer_pid();
  if (peer != parent_process_id()) {
    // Either forged, or the executor died between the exec and this line.
    if (parent_process_id() == 1) exit_now(0);
    refuse("has the marks of a worker, but its socket was made by pid " + std::to_string(peer) +
           ", which is not its parent");
  }
  if (!same_program(peer))
    refuse("has the marks of a worker, but its parent (pid " + std::to_string(peer) +
           ") runs another program");
  socket.release();
  if (role == gate_server_argument) serve_as_fork_server(worker_fd::socket, worker_fd::lifeline, peer, true);
  serve_as_worker(worker_fd::socket, worker_fd::lifeline, peer);
}

}  // namespace kindred
