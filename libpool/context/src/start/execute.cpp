#include "execute.hpp"

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/process/v2/posix/vfork_launcher.hpp>
#include <boost/process/v2/process.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "../linux/child.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/exit_codes.hpp"

namespace kindred::internal {
namespace {

namespace process = boost::process::v2;

// What Boost.Process calls around the exec. Between vfork and exec the child shares our memory: it may only
// make system calls.
struct ChildSetup {
  const char* const* arguments;
  int socket;
  int lifeline;
  int* failure;  ///< the parent's: errno of what failed in the child

  template <class Launcher, class Path>
  boost::system::error_code on_setup(Launcher&, const Path&, const char* const*& command_line) const {
    command_line = arguments;
    return {};
  }
  template <class Launcher, class Path>
  boost::system::error_code on_exec_setup(Launcher&, const Path&, const char* const*&) const noexcept {
    if (!take_places_for_exec(socket, lifeline)) {
      // Boost.Process would call exit() now: the handlers and static destructors that it runs are the
      // parent's, and so is the memory.
      *failure = errno;
      exit_now(exit_code::not_executed);
    }
    reset_signals();
    return {};
  }
  template <class Launcher, class Path>
  void on_exec_error(Launcher&, const Path&, const char* const*&,
                     const boost::system::error_code&) const noexcept {
    exit_now(exit_code::not_executed);  // not exit(): the handlers that it would run are the parent's
  }
};

std::vector<std::string> make_environment(const WorkerOptions& options,
                                          const std::vector<std::string>& environment) {
  std::vector<std::string> variables;
  for (const std::string& variable : environment) {
    if (!options.env.contains(variable.substr(0, variable.find('=')))) variables.push_back(variable);
  }
  for (const auto& [name, value] : options.env) {
    if (value) variables.push_back(name + "=" + *value);
  }
  variables.push_back(std::string{gate_variable} + "=" + std::to_string(worker_fd::socket));
  return variables;
}

}  // namespace

Process execute_program(const char* role, int socket, int lifeline, const WorkerOptions& options,
                        const std::vector<std::string>& inherited) {
  const auto variables = make_environment(options, inherited);
  std::vector<const char*> environment;
  environment.reserve(variables.size() + 1);
  for (const auto& variable : variables) environment.push_back(variable.c_str());
  environment.push_back(nullptr);
  const std::array<const char*, 3> arguments{program_invocation_name, role, nullptr};

  boost::asio::io_context io;
  process::posix::vfork_launcher launcher;
  launcher.env = environment.data();
  launcher.fd_whitelist = {0, 1, 2, worker_fd::socket, worker_fd::lifeline};
  boost::system::error_code problem;
  int failure = 0;
  const SignalsBlocked blocked;  // no handler of the program may run in the child, on our stack and memory
  try {
    // Nothing of Asio's may exist in `io` yet: the child, which has our memory, would close and renew its
    // descriptors, and leave us its numbers.
    auto started =
        launcher(io.get_executor(), problem, boost::filesystem::path{"/proc/self/exe"},
                 std::vector<std::string>{}, ChildSetup{arguments.data(), socket, lifeline, &failure});
    if (!problem) started.detach();  // watched by our own pidfd from here on
  } catch (const boost::system::system_error& error) {
    if (launcher.pid > 0) kill_and_reap(static_cast<std::uint32_t>(launcher.pid));
    throw SystemError{launcher.pid > 0 ? "epoll_create1, eventfd, timerfd_create or pidfd_open" : "vfork",
                      error.code().value(), "starting this program anew as a worker"};
  }
  if (problem) {
    if (launcher.pid > 0) kill_and_reap(static_cast<std::uint32_t>(launcher.pid));
    throw SystemError{launcher.pid > 0 ? "execve" : "vfork", problem.value(),
                      "starting this program anew as a worker"};
  }
  if (failure != 0) {
    kill_and_reap(static_cast<std::uint32_t>(launcher.pid));
    throw SystemError{"fcntl(F_DUPFD_CLOEXEC)", failure, "starting this program anew as a worker"};
  }
  return watch_child(static_cast<std::uint32_t>(launcher.pid));
}

}  // namespace kindred::internal
