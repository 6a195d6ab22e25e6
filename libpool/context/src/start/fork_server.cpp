#include "fork_server.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <vector>

#include "../linux/child.hpp"
#include "../linux/session_sweep.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

// This process never has a second thread: a process forked from it inherits no lock that a thread holds.
class ForkServer {
 public:
  ForkServer(MessageSocket control, Descriptor lifeline, std::uint32_t parent_pid)
      : control_{std::move(control)}, lifeline_{std::move(lifeline)}, parent_pid_{parent_pid} {
    try {
      parent_ = open_pidfd(parent_pid);
    } catch (const SystemError& error) {
      if (error.code().value() == ESRCH) exit_now(0);  // it has died
      fail("", error.code().value());
    }
  }

  void prepare() {
    auto message = control_.receive({});
    if (!message) exit_now(0);
    Hello hello;
    if (message->bytes.size() != sizeof hello || message->descriptors.size() != 1)
      return fail("the parent greeted the fork server in another version's words");
    std::memcpy(&hello, message->bytes.data(), sizeof hello);
    try {
      const auto setup_memory = SharedMemory::adopt(std::move(message->descriptors[0]), hello.setup_bytes,
                                                    SharedMemory::Access::read_only);
      const Setup setup = read_setup(setup_memory.bytes().first(hello.setup_bytes));
      compare_builds(setup.modules);
      if (hello.main != 0) {
        CodeMap code;
        for (std::size_t i = 0; i < setup.modules.size(); ++i)
          code.add(i, setup.modules[i], setup.options.load_libraries);
        reinterpret_cast<ServerPrepare>(code.resolve(hello.main))(setup, code);
      }
    } catch (const std::exception& error) {
      return fail(error.what());
    } catch (...) {
      return fail("a preload call threw something that is no std::exception");
    }
    KINDRED_INJECTION_POINT("server.before_ready");
    say_ready();
  }

  void say_ready() { report({.what = ServerReport::What::ready}); }

  [[noreturn]] void serve() {
    // From here on it sees the parent's end itself, and ends all workers then, also one that executes another
    // program by now and has no lifeline. The lifeline only has to wake it where it is stopped.
    be_continued_by_lifeline(lifeline_.get());
    // What tasks have started and left comes to this process, so that it ends with the pool.
    adopt_orphans();
    const Descriptor deaths = hear_of_children();
    std::vector<int> fds;
    for (;;) {
      fds.assign({control_.fd(), parent_.get(), deaths.get()});
      for (const Process& child : children_) fds.push_back(child.pidfd());
      const std::size_t watched = fds.size();
      std::vector<char> ready(watched);
      wait_readable(fds.data(), reinterpret_cast<bool*>(ready.data()), watched, sweep_.due());
      if (ready[1] != 0) end_all();
      // Deaths first: a start may reuse nothing of them, but the parent waits for these words with a failed
      // task in hand.
      for (std::size_t i = watched; i-- > 3;) {
        if (ready[i] != 0) bury(i - 3);
      }
      if (ready[0] != 0) obey();
      const Deadline due = sweep_.due();
      if (due && *due <= std::chrono::steady_clock::now()) sweep_.run();
      if (ready[2] != 0) hush(deaths);
      // Not while dead workers are kept: they would be taken for orphans.
      if (!sweep_.due() && (ready[2] != 0 || due)) reap_orphans(children_);
    }
  }

 private:
  void report(const ServerReport& report, std::span<const int> descriptors = {}) {
    std::array<std::byte, sizeof report> bytes{};
    std::memcpy(bytes.data(), &report, sizeof report);
    // The socket is full because the parent is stopped and has not read for long. Wait until the parent
    // reads again, or has died.
    while (control_.send(bytes, descriptors) == MessageSocket::Sent::full) {
      const int fd = parent_.get();
      bool dead = false;
      wait_readable(&fd, &dead, 1, std::chrono::steady_clock::now() + std::chrono::milliseconds{20});
      if (dead) end_all();
    }
  }

  void fail(std::string_view text, int error_number = 0) const {
    std::vector<std::byte> bytes(sizeof(ServerReport) + std::min<std::size_t>(text.size(), 32 * 1024));
    const ServerReport report{.what = ServerReport::What::failed, .error_number = error_number};
    std::memcpy(bytes.data(), &report, sizeof report);
    std::memcpy(bytes.data() + sizeof report, text.data(), bytes.size() - sizeof report);
    control_.send(bytes);
    exit_now(71);
  }

  void obey() {
    bool closed = false;
    const auto message = control_.receive(std::chrono::steady_clock::time_point{}, &closed);
    if (closed) end_all();  // the parent died, or dropped us without a word
    if (!message || message->bytes.size() != sizeof(ServerRequest)) return;
    ServerRequest request;
    std::memcpy(&request, message->bytes.data(), sizeof request);
    if (request.what == ServerRequest::What::quit) {
      sweep_.run();
      end_children();
      exit_now(0);
    }
    if (message->descriptors.size() == 2)
      return start(request.ticket, message->descriptors[0].get(), message->descriptors[1].get());
    report({.what = ServerReport::What::started,
            .ticket = request.ticket,
            .error_number = EMFILE});  // the kernel could not hand them over
  }

  void start(std::uint64_t ticket, int socket, int lifeline) {
    ServerReport answer{.what = ServerReport::What::started, .ticket = ticket};
    try {
      KINDRED_INJECTION_POINT("server.before_fork");
      const SignalsBlocked blocked;
      const std::uint32_t pid = fork_process();
      if (pid == 0) serve_as_worker(socket, lifeline, parent_pid_);
      KINDRED_INJECTION_POINT("server.forked");
      answer.pid = pid;
      children_.push_back(watch_child(pid));
    } catch (const SystemError& error) {
      answer.error_number = error.code().value();
      return report(answer);
    }
    const std::array<int, 1> along{children_.back().pidfd()};
    KINDRED_INJECTION_POINT("server.before_started");
    report(answer, along);
    KINDRED_INJECTION_POINT("server.told_started");
  }

  void bury(std::size_t index) {
    Process child = std::move(children_[index]);
    children_.erase(children_.begin() + static_cast<std::ptrdiff_t>(index));
    KINDRED_INJECTION_POINT("server.before_reap");
    child.signal_group(9);  // what the worker's tasks had started goes with it
    ServerReport answer{.what = ServerReport::What::ended, .pid = child.pid()};
    answer.wait_status = -1;
    if (const auto reason = child.look()) {
      answer.wait_status = reason->kind == ExitReason::Kind::exited
                               ? reason->code << 8
                               : reason->signal | (reason->core_dumped ? 0x80 : 0);
    }
    sweep_.add(std::move(child));
    KINDRED_INJECTION_POINT("server.reaped");
    report(answer);
  }

  [[noreturn]] void end_all() {
    for (const Process& child : children_) child.signal_group(9);
    end_children();
    end_own_group();  // what a preload call has started
  }

  MessageSocket control_;
  Descriptor lifeline_;
  Descriptor parent_;
  std::uint32_t parent_pid_;
  std::vector<Process> children_;
  SessionSweep sweep_;
};

}  // namespace

void serve_as_fork_server(int socket, int lifeline, std::uint32_t parent_pid, bool prepare) {
  lead_own_session();
  reset_signals();
  ignore_interrupts(true);
  if (!prepare) prove_linker_is_free();
  if (socket != worker_fd::socket && !take_places(socket, lifeline)) exit_now(71);
  close_places_at_exec();
  KINDRED_INJECTION_POINT("server.before_binding");
  if (!bind_to_lifeline(worker_fd::lifeline)) exit_now(0);
  name_process("kindred-server");
  discard_inherited_output();
  ForkServer server{MessageSocket{Descriptor{worker_fd::socket}}, Descriptor{worker_fd::lifeline},
                    parent_pid};
  if (prepare) {
    load_unwinder();
    server.prepare();
  } else {
    server.say_ready();
  }
  server.serve();
}

}  // namespace kindred::internal
