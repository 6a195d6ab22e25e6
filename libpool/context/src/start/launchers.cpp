#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "../linux/child.hpp"
#include "../linux/session_sweep.hpp"
#include "execute.hpp"
#include "fork_server.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/launcher.hpp"

namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

template <class T>
std::span<const std::byte> as_bytes_of(const T& value) {
  return std::as_bytes(std::span{&value, 1});
}

// Both ends of the socket and of the lifeline to a new process; the process gets those named `their_`.
struct Ends {
  MessageSocket socket;
  MessageSocket their_socket;
  Descriptor their_lifeline;
  Descriptor lifeline;
};
Ends make_ends() {
  Ends ends;
  std::tie(ends.socket, ends.their_socket) = MessageSocket::pair();
  std::tie(ends.their_lifeline, ends.lifeline) = make_pipe();
  return ends;
}

// A process that has died meanwhile is found dead later.
void send_hello(const MessageSocket& socket, const Hello& hello, std::span<const int> descriptors) {
  if (socket.send(as_bytes_of(hello), descriptors) != MessageSocket::Sent::full) return;
  throw SystemError{"sendmsg", ENOBUFS, "greeting a worker"};
}

class SpawnLauncher final : public Launcher {
 public:
  explicit SpawnLauncher(const LaunchPlan& plan) : plan_{plan} {}

  AskedWorker ask() override {
    Ends ends = make_ends();
    KINDRED_INJECTION_POINT("parent.start.before_exec");
    Process process = execute_program(gate_worker_argument, ends.their_socket.fd(), ends.their_lifeline.get(),
                                      plan_.options, *plan_.environment);
    return {.process = std::move(process),
            .socket = std::move(ends.socket),
            .lifeline = std::move(ends.lifeline)};
  }

  void greet(const AskedWorker& worker, const Hello& hello, std::span<const int> descriptors) override {
    send_hello(worker.socket, hello, descriptors);
  }

  std::optional<StartedWorker> started(AskedWorker& worker) override {
    return StartedWorker{std::move(worker.process), std::move(worker.socket), std::move(worker.lifeline)};
  }

  void give_up(AskedWorker worker) noexcept override {
    worker.process.signal(9);
    worker.process.wait_dead({});
    worker.process.reap();
  }

  ExitReason exit_reason(Process& process) override {
    // Ends what the worker's tasks had started, now that the pid still names the worker's group.
    process.signal_group(9);
    const auto reason = process.look();
    if (!reason) return process.reap().value_or(ExitReason{});  // other code of the program has reaped it
    sweep_.add(std::move(process));
    return *reason;
  }

  Deadline tidy_up() noexcept override {
    if (const Deadline due = sweep_.due(); due && *due <= steady_clock::now()) sweep_.run();
    return sweep_.due();
  }

 private:
  LaunchPlan plan_;
  SessionSweep sweep_;
};

// fork and forkserver: workers are forked by a server, which reaps them and says how they ended. The server
// runs code of the program (a preload, handlers of fork), and may be stopped: so its answers are waited for
// for a moment at most, and else taken when the poll has news of it.
class ServedLauncher : public Launcher {
 public:
  int news() const noexcept override { return control_ ? control_.fd() : -1; }

  AskedWorker ask() override {
    if (!server_) throw_lost("sendmsg", "asking the fork server for a worker");
    Ends ends = make_ends();
    const ServerRequest request{.what = ServerRequest::What::start, .ticket = ++ticket_};
    const std::array<int, 2> along{ends.their_socket.fd(), ends.their_lifeline.get()};
    KINDRED_INJECTION_POINT("parent.start.before_request");
    switch (control_.send(as_bytes_of(request), along)) {
      case MessageSocket::Sent::yes: break;
      case MessageSocket::Sent::full: server_.signal(9); [[fallthrough]];  // it reads nothing
      default: note_server_dead(); throw_lost("sendmsg", "asking the fork server for a worker");
    }
    return {.process = {},
            .ticket = ticket_,
            .answer_by = steady_clock::now() + answer_limit,
            .socket = std::move(ends.socket),
            .lifeline = std::move(ends.lifeline)};
  }

  void greet(const AskedWorker& worker, const Hello& hello, std::span<const int> descriptors) override {
    send_hello(worker.socket, hello, descriptors);
  }

  std::optional<StartedWorker> started(AskedWorker& worker) override {
    if (!hear([&] { return started_ && started_->first.ticket == worker.ticket; })) {
      if (server_ && steady_clock::now() < worker.answer_by) return {};
      if (server_) server_.signal(9);  // it does not answer
      note_server_dead();
      throw_lost("recvmsg", "waiting for a worker of the fork server");
    }
    auto [report, descriptors] = std::move(*started_);
    started_.reset();
    worker.ticket = 0;
    lost_in_a_row_ = 0;
    tell_useless_copies();
    if (report.error_number == EMFILE || report.error_number == ENFILE ||
        (report.error_number == 0 && descriptors.empty())) {
      // No descriptor was left for the worker's pidfd. The worker ends when its lifeline is closed here.
      const bool ours = report.error_number == 0;
      throw SystemError{ours ? "recvmsg" : "pidfd_open", ours ? EMFILE : report.error_number,
                        ours ? "starting a worker" : "starting a worker in the fork server"};
    }
    if (report.error_number != 0)
      throw SystemError{"fork", report.error_number, "starting a worker in the fork server"};
    workers_.insert(report.pid);
    return StartedWorker{Process{report.pid, std::move(descriptors[0]), false}, std::move(worker.socket),
                         std::move(worker.lifeline)};
  }

  void give_up(AskedWorker worker) noexcept override {
    worker.process.signal(9);
    if (!server_) return;
    try {
      if (worker.ticket != 0) given_up_.push_back(worker.ticket);
      if (worker.process) endings_unwanted_.push_back(worker.process.pid());
    } catch (const std::bad_alloc&) {  // the worker ends by its lifeline in any case
    }
  }

  bool end_is_known(const Process& process) override {
    // No server tells any more of a worker that an earlier server had forked.
    const auto pid = process.pid();
    return hear([&] { return endings_.contains(pid) || !workers_.contains(pid); }) || !server_;
  }

  ExitReason exit_reason(Process& process) override {
    workers_.erase(process.pid());
    if (const auto found = endings_.find(process.pid()); found != endings_.end()) {
      const int status = found->second;
      endings_.erase(found);
      const auto reason = status < 0 ? std::nullopt : to_exit_reason(status);
      return reason ? *reason : process.reap().value_or(ExitReason{});
    }
    // The server is gone, or does not answer: the kernel's own record may still know.
    process.signal_group(9);
    return process.reap().value_or(ExitReason{});
  }

  std::optional<std::string> take_warning() override { return std::exchange(warning_, std::nullopt); }
  std::uint32_t server_pid() const noexcept override { return server_.pid(); }

 protected:
  void adopt_server(Process server, MessageSocket control, Descriptor lifeline) {
    server_ = std::move(server);
    control_ = std::move(control);
    lifeline_ = std::move(lifeline);
    silent_ = ready_ = false;
  }

  void dismiss_server() {
    if (!server_) return;
    const ServerRequest request{.what = ServerRequest::What::quit};
    control_.send(as_bytes_of(request));
    // It does not listen: it preloads, or is stuck.
    if (silent_ || (!ready_ && !is_copy_)) server_.signal_group(9);
    server_.signal(SIGCONT);  // where it was stopped
    // It ends what tasks have left first, which takes long where other programs have the machine.
    if (!server_.wait_dead(steady_clock::now() + std::chrono::seconds{10})) server_.signal(9);
    server_.wait_dead({});
    server_.reap();
    server_ = Process{};
  }

  // Waits for one report and files it. False: the server is gone, or the deadline passed.
  bool read_report(Deadline deadline) {
    bool closed = false;
    auto message = control_.receive(deadline, &closed);
    if (!message) {
      if (closed) note_server_dead();
      return false;
    }
    silent_ = false;
    if (message->bytes.size() < sizeof(ServerReport)) return true;
    ServerReport report;
    std::memcpy(&report, message->bytes.data(), sizeof report);
    switch (report.what) {
      case ServerReport::What::started:
        if (std::erase(given_up_, report.ticket) != 0) {
          if (!message->descriptors.empty()) {
            Process{report.pid, std::move(message->descriptors[0]), false}.signal(9);
            endings_unwanted_.push_back(report.pid);
          }
          break;
        }
        started_ = {report, std::move(message->descriptors)};
        break;
      case ServerReport::What::ended:
        if (std::erase(endings_unwanted_, report.pid) == 0) endings_[report.pid] = report.wait_status;
        break;
      case ServerReport::What::ready: ready_ = true; break;
      case ServerReport::What::failed: {
        const auto* const text = reinterpret_cast<const char*>(message->bytes.data()) + sizeof report;
        failure_ = std::string{text, message->bytes.size() - sizeof report};
        failure_number_ = report.error_number;
        break;
      }
    }
    return true;
  }

  void note_server_dead() {
    if (!server_) return;
    const auto pid = server_.pid();
    std::string how = "is stuck and was killed";
    if (server_.wait_dead(steady_clock::now() + std::chrono::milliseconds{100})) {
      server_end_ = server_.reap().value_or(ExitReason{});
      how = how_server_ended();
    } else {
      server_.signal(9);
      server_.wait_dead({});
      server_end_ = server_.reap().value_or(ExitReason{});
    }
    if (forked_badly()) {
      ++useless_copies_;
    } else {
      warning_ = "the fork server (pid " + std::to_string(pid) + ") " + how +
                 "; another one takes its place. Its running workers go on.";
      if (is_copy_)
        *warning_ +=
            " The other one is a copy of the program as it is now, not as it was in the executor's constructor.";
    }
    server_ = Process{};
    control_.close();
    given_up_.clear();
    endings_unwanted_.clear();
    workers_.clear();
  }

  // Reads what the server says until `heard`, for a moment at most, and not at all where it has been silent
  // for longer than that: false.
  template <class Heard>
  bool hear(const Heard& heard) {
    const auto until = silent_ ? steady_clock::time_point{} : steady_clock::now() + moment;
    while (!heard()) {
      if (!server_) return false;
      if (read_report(until) || !server_) continue;
      if (!silent_) server_.signal(SIGCONT);  // where it was stopped: only the pool has use for it
      silent_ = true;
      return false;
    }
    return true;
  }

  // A server was lost. The next one may live, but not where it comes to that again and again.
  [[noreturn]] void throw_lost(const char* call, const char* doing) {
    // A copy is useless where another thread is in dl_iterate_phdr at the fork. Even a thread that is there
    // most of the time leaves it now and then, so one of 40 copies is good.
    constexpr int max_in_a_row = 2;
    constexpr int max_useless_copies = 40;
    if (useless_copies_ == 0 ? ++lost_in_a_row_ <= max_in_a_row : useless_copies_ < max_useless_copies)
      throw ServerLost{call, EPIPE, doing, how_servers_end()};
    lost_in_a_row_ = useless_copies_ = 0;
    throw SystemError{call, EPIPE, doing, how_servers_end()};
  }

  void tell_useless_copies() {
    const int count = std::exchange(useless_copies_, 0);
    if (count == 0) return;
    if (!warning_) warning_ = "the template that workers are copied from was made anew.";
    *warning_ +=
        " Copies that were of no use before it, because another thread was in dl_iterate_phdr, whose lock is never free in them: " +
        std::to_string(count) + ".";
  }

  // See `prove_linker_is_free`. Where other code of this process has taken its exit status, it may have
  // been.
  [[nodiscard]] bool forked_badly() const noexcept {
    return is_copy_ && !ready_ &&
           (server_end_.kind == ExitReason::Kind::lost ||
            (server_end_.kind == ExitReason::Kind::signalled && server_end_.signal == SIGALRM));
  }
  [[nodiscard]] std::string how_server_ended() const {
    return forked_badly()
               ? "was forked while another thread was in dl_iterate_phdr, whose lock is never free in the copy, and ended itself"
               : to_string(server_end_);
  }

  [[nodiscard]] std::string how_servers_end() const {
    return "The server " + how_server_ended() + ", each time it is started: see the log and dmesg.";
  }

  Process server_;
  MessageSocket control_;
  Descriptor lifeline_;
  std::optional<std::string> warning_;
  std::optional<std::string> failure_;
  int failure_number_ = 0;
  ExitReason server_end_;
  bool ready_ = false;
  bool is_copy_ = false;  ///< the server is a template

 private:
  static constexpr std::chrono::milliseconds moment{50};   ///< some 100 times what a start takes
  static constexpr std::chrono::seconds answer_limit{10};  ///< a server without an answer is then replaced

  std::uint64_t ticket_ = 0;
  std::optional<std::pair<ServerReport, std::vector<Descriptor>>> started_;
  std::unordered_map<std::uint32_t, int> endings_;
  std::unordered_set<std::uint32_t> workers_;    ///< pids of those that this server has forked
  std::vector<std::uint64_t> given_up_;          ///< tickets of starts that were given up
  std::vector<std::uint32_t> endings_unwanted_;  ///< pids of workers that came of them
  bool silent_ = false;                          ///< a moment has passed without an answer
  int lost_in_a_row_ = 0;                        ///< servers
  int useless_copies_ = 0;                       ///< in a row: see `forked_badly`
};

class ForkServerLauncher final : public ServedLauncher {
 public:
  explicit ForkServerLauncher(const LaunchPlan& plan) : plan_{plan} {}
  ~ForkServerLauncher() override { dismiss_server(); }

 private:
  bool prepare() override {
    for (; killed_while_preparing_ < 3; ++killed_while_preparing_) {
      if (!server_) begin_server();
      while (server_ && !ready_) {
        if (!read_report(steady_clock::time_point{}) && server_) return false;
        judge_report();
      }
      if (!server_) continue;
      killed_while_preparing_ = 0;
      return true;
    }
    killed_while_preparing_ = 0;
    throw SystemError{"recvmsg", EPIPE, "waiting for the fork server", how_servers_end()};
  }
  void begin_server() {
    const Hello hello{.role = Hello::Role::server,
                      .context = plan_.context,
                      .setup_bytes = plan_.setup_bytes,
                      .main = plan_.prepare};
    const std::array<int, 1> along{plan_.setup->fd()};
    Ends ends = make_ends();
    send_hello(ends.socket, hello, along);  // it finds it at once
    Process server = execute_program(gate_server_argument, ends.their_socket.fd(), ends.their_lifeline.get(),
                                     plan_.options, *plan_.environment);
    adopt_server(std::move(server), std::move(ends.socket), std::move(ends.lifeline));
    failure_.reset();
  }

  // What the last report, or the server's end before one, means.
  void judge_report() {
    if (failure_) {
      dismiss_server();
      if (failure_number_ != 0) throw SystemError{"pidfd_open", failure_number_, "starting the fork server"};
      throw UsageError{"the fork server could not be prepared: " + *failure_ + " No worker was started."};
    }
    // A SIGKILL comes from outside, so the next fork server may live. Any other end would happen to the next
    // one, too.
    if (server_ || (server_end_.kind == ExitReason::Kind::signalled && server_end_.signal == SIGKILL)) return;
    warning_.reset();  // it is told here
    throw UsageError{"the fork server " + to_string(server_end_) + " before it reached kindred::Entry. " +
                     mend_before_entry(server_end_)};
  }

  LaunchPlan plan_;
  unsigned killed_while_preparing_ = 0;
};

class ForkLauncher final : public ServedLauncher {
 public:
  explicit ForkLauncher(const LaunchPlan& plan) : plan_{plan} {
    is_copy_ = true;
    load_unwinder();  // once, instead of in each worker
    fork_template();
  }
  ~ForkLauncher() override { dismiss_server(); }

 private:
  bool prepare() override {
    if (!server_) fork_template();
    return true;
  }

  struct Forking {
    ForkLauncher* launcher;
    Ends ends;
    std::uint32_t parent = process_id();
    std::uint32_t pid = 0;
    std::optional<SystemError> failure;
  };

  void fork_template() {
    Forking forking{.launcher = this, .ends = make_ends(), .pid = 0, .failure = std::nullopt};
    const auto fork_now = [](void* argument) {
      auto& job = *static_cast<Forking*>(argument);
      try {
        job.pid = fork_process();
      } catch (const SystemError& error) {
        job.failure = error;
      }
    };
    {
      const SignalsBlocked blocked;
      if (plan_.around_fork != nullptr) {
        plan_.around_fork(fork_now,
                          &forking);  // returns in the child too, with the locks that it held given back
      } else {
        fork_now(&forking);
      }
      if (forking.pid == 0 && !forking.failure) {
        use_environment(*plan_.environment);
        serve_as_fork_server(forking.ends.their_socket.fd(), forking.ends.their_lifeline.get(),
                             forking.parent, false);
      }
    }
    if (forking.failure) throw *forking.failure;
    // The kernel mostly queues it here, behind this thread, which goes on to start the supervisor.
    (void)leave_cpu(current_cpu(), forking.pid);
    adopt_server(watch_child(forking.pid), std::move(forking.ends.socket), std::move(forking.ends.lifeline));
  }

  LaunchPlan plan_;
};

}  // namespace

std::string mend_before_entry(const ExitReason& reason) {
  if (reason.kind == ExitReason::Kind::exited &&
      reason.code == exit_code::not_executed) {  // by the dynamic linker
    return "A shared library of the program is missing: the dynamic linker has named it on stderr. Restart the program when it is there again.";
  }
  return "Make the Entry first in main, with main's own argc and argv.";
}

std::unique_ptr<Launcher> make_launcher(const LaunchPlan& plan) {
  switch (plan.context.start_method()) {
    case StartMethod::fork: return std::make_unique<ForkLauncher>(plan);
    case StartMethod::spawn: return std::make_unique<SpawnLauncher>(plan);
    case StartMethod::forkserver: break;
  }
  return std::make_unique<ForkServerLauncher>(plan);
}

}  // namespace kindred::internal
