#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cluster/network.hpp"
#include "kindred/cluster.hpp"
#include "kindred/sinks.hpp"
#include "support/test.hpp"

// A real nats-server and real nodes on loopback. A test program that includes this is its own node's program.
namespace kindred::test {

inline ClusterEntry* the_cluster_entry = nullptr;

inline ClusterEntry& cluster_entry() { return *the_cluster_entry; }

/// Waits for what another process does, and looks again now and then.
inline bool wait_until(const std::function<bool()>& condition,
                       std::chrono::milliseconds limit = std::chrono::seconds{30}) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  }
  return true;
}

inline std::string nats_server_path() {
  for (const char* const path :
       {"/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return {};
}

/// A port that is free, and stays this process's: other tests that run now get others. It is none of those
/// that the kernel gives to outgoing connections: while a server is down, a client that tries its port again
/// and again may be given just that one for its own end, and then the server cannot come back.
inline int free_port() {
  constexpr int first = 20'000, count = 12'000;
  static std::vector<int> kept;  // sockets without an address in the file system, named after the port
  for (int tries = 0, at = static_cast<int>(::getpid()) * 37 % count; tries < count;
       ++tries, at = (at + 1) % count) {
    const int port = first + at;
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string text = "kindred-test-port-" + std::to_string(port);
    std::ranges::copy(text, name.sun_path + 1);
    const auto name_size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    const int mark = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const bool is_free = ::bind(mark, reinterpret_cast<sockaddr*>(&name), name_size) == 0 &&
                         ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    if (is_free) {
      kept.push_back(mark);
      return port;
    }
    ::close(mark);
  }
  FAIL("no port is free");
  return 0;
}

inline bool answers(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  const bool connected = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return connected;
}

class NatsServer {
 public:
  explicit NatsServer(std::vector<std::string> arguments = {}, bool keeps = true,
                      std::string host = "127.0.0.1")
      : arguments_{std::move(arguments)}, keeps_{keeps}, host_{std::move(host)} {
    port_ = free_port();
    start();
  }
  void start() {
    std::vector<std::string> arguments{"-a", host_, "-p", std::to_string(port_)};
    if (keeps_) arguments.insert(arguments.end(), {"-js", "-sd", store_->path()});
    arguments.insert(arguments.end(), arguments_.begin(), arguments_.end());
    ProgramOptions options;
    options.timeout = std::chrono::minutes{30};
    program_ = std::make_unique<Program>(nats_server_path(), arguments, options);
    REQUIRE(wait_until([this] { return answers(port_); }));
  }
  void kill(int signal = SIGKILL) {
    program_->signal(signal);
    (void)program_->wait();
    program_.reset();
  }
  void signal(int number) { program_->signal(number); }
  /// Only while it does not run.
  void wipe() { store_ = std::make_unique<TemporaryFolder>(); }
  [[nodiscard]] std::string url(const std::string& host = "127.0.0.1") const {
    return "nats://" + host + ":" + std::to_string(port_);
  }

 private:
  std::vector<std::string> arguments_;
  std::unique_ptr<TemporaryFolder> store_ = std::make_unique<TemporaryFolder>();
  bool keeps_ = true;
  std::string host_;
  int port_ = 0;
  std::unique_ptr<Program> program_;
};

/// A node of the cluster "test", by kindred-node.
class NodeProgram {
 public:
  NodeProgram(const NatsServer& server, const std::string& name, int workers = 1,
              std::vector<std::string> more = {}, const std::string& program = "/proc/self/exe",
              const Network* network = nullptr)
      : NodeProgram{network == nullptr ? server.url() : server.url(network->address()),
                    name,
                    workers,
                    std::move(more),
                    program,
                    network} {}
  NodeProgram(const std::string& server, const std::string& name, int workers = 1,
              std::vector<std::string> more = {}, const std::string& program = "/proc/self/exe",
              const Network* network = nullptr) {
    std::string path = program;
    if (program == "/proc/self/exe") {
      char target[4096];
      const auto size = ::readlink("/proc/self/exe", target, sizeof target);
      path.assign(target, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    }
    std::vector<std::string> arguments;
    if (network != nullptr) arguments = {"netns", "exec", network->name(), KINDRED_TEST_NODE, "--insecure"};
    arguments.insert(arguments.end(), {"--cluster", "test", "--servers", server, "--name", name, "--workers",
                                       std::to_string(workers)});
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), {"--", path});
    ProgramOptions options;
    options.timeout = std::chrono::minutes{30};
    program_ =
        std::make_unique<Program>(network == nullptr ? KINDRED_TEST_NODE : "/sbin/ip", arguments, options);
  }
  void signal(int number) { program_->signal(number); }
  [[nodiscard]] pid_t pid() const { return program_->pid(); }
  Outcome wait() { return program_->wait(); }
  Outcome kill() {
    program_->signal(SIGKILL);
    return program_->wait();
  }

 private:
  std::unique_ptr<Program> program_;
};

inline ClusterOptions options_for(const NatsServer& server) {
  ClusterOptions options;
  options.name = "test";
  options.servers = {server.url()};
  options.lease = std::chrono::seconds{1};
  options.head_grace = std::chrono::seconds{2};
  return options;
}

inline std::size_t members(const ClusterExecutor& cluster) {
  std::size_t count = 0;
  for (const NodeInfo& node : cluster.nodes()) count += node.member && !node.leaving ? 1U : 0U;
  return count;
}

/// First thing in a case.
#define KINDRED_NEEDS_NATS_SERVER()                \
  if (::kindred::test::nats_server_path().empty()) \
  KINDRED_SKIP("there is no nats-server (Debian: nats-server)")

}  // namespace kindred::test
